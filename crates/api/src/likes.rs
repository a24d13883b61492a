//! Likes: liking, unliking, who likes it, what somebody likes.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::Response;
use bastide_hub::Hub;
use bastide_hub::access::{Propose, See};
use http::Method;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::extract::{Caller, RepoRoute};
use crate::pages::{Paging, after_place};
use crate::profiles::person;
use crate::routes::Routes;

pub fn routes(routes: Routes) -> Routes {
    routes
        .api(Method::POST, "/api/{kind}/{ns}/{name}/like", like)
        .api(Method::DELETE, "/api/{kind}/{ns}/{name}/like", unlike)
        .api(Method::GET, "/api/{kind}/{ns}/{name}/likers", likers)
        .add(Method::GET, "/api/users/{name}/likes", liked)
}

async fn like(State(hub): State<Hub>, caller: Caller, route: RepoRoute) -> Answer<Json<Value>> {
    let access = caller.repo::<Propose>(&hub, &route.path).await?;
    let likes = hub.like(&caller.context, &access).await?;
    Ok(Json(json!({ "likes": likes })))
}

async fn unlike(State(hub): State<Hub>, caller: Caller, route: RepoRoute) -> Answer<Json<Value>> {
    let access = caller.repo::<Propose>(&hub, &route.path).await?;
    let likes = hub.unlike(&caller.context, &access).await?;
    Ok(Json(json!({ "likes": likes })))
}

async fn likers(
    State(hub): State<Hub>,
    caller: Caller,
    route: RepoRoute,
    paging: Paging,
) -> Answer<Response> {
    let access = caller.repo::<See>(&hub, &route.path).await?;
    let page = hub.likers(&caller.context, &access, paging.place()?).await?;
    let rows = page.rows.iter().map(|row| person(&hub, &caller, row)).collect();
    Ok(paging.answer((&hub, &caller), rows, after_place(page.next)))
}

async fn liked(
    State(hub): State<Hub>,
    caller: Caller,
    Path(name): Path<String>,
    paging: Paging,
) -> Answer<Response> {
    let user = hub.access(&caller.context).user(&name).await?;
    let page = hub.liked_by(&caller.context, &user, paging.place()?).await?;
    let rows = page.rows.iter().map(|liked| {
        let repo = json!({ "name": liked.path.id(), "type": liked.path.kind });
        json!({ "createdAt": liked.since, "repo": repo })
    });
    Ok(paging.answer((&hub, &caller), rows.collect(), after_place(page.next)))
}
