//! Users and organisations as others see them: overviews, members, followers, following; and to
//! their owners what their repositories take.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::Response;
use bastide_hub::access::{Access, Namespace, Read, See, Write};
use bastide_hub::likes::Paged;
use bastide_hub::profiles::{Account, Overview, SizedRepo, UserOrganization};
use bastide_hub::{Hub, Problem};
use http::Method;
use serde_json::{Map, Value, json};

use crate::answer::Answer;
use crate::avatars::avatar_url;
use crate::extract::Caller;
use crate::pages::{Paging, after_place};
use crate::routes::Routes;

pub fn routes(routes: Routes) -> Routes {
    routes
        .add(Method::GET, "/api/users/{name}/overview", user)
        .add(Method::GET, "/api/users/{name}/followers", user_followers)
        .add(Method::GET, "/api/users/{name}/following", following)
        .add(Method::POST, "/api/users/{name}/follow", follow_user)
        .add(Method::DELETE, "/api/users/{name}/follow", unfollow_user)
        .add(Method::GET, "/api/organizations/{name}/overview", organization)
        .add(Method::GET, "/api/organizations/{name}/members", members)
        .add(Method::GET, "/api/organizations/{name}/followers", organization_followers)
        .add(Method::POST, "/api/organizations/{name}/follow", follow_organization)
        .add(Method::DELETE, "/api/organizations/{name}/follow", unfollow_organization)
        .add(Method::GET, "/api/settings/repositories", own_sizes)
        .add(Method::GET, "/api/organizations/{name}/settings/repositories", organization_sizes)
}

type Named = Path<String>;

/// An account in a list.
pub fn person(hub: &Hub, caller: &Caller, person: &Account) -> Value {
    let mut value = json!({
        "_id": person.id,
        "type": if person.is_organization { "org" } else { "user" },
        "user": person.name,
        "fullname": person.full_name,
        "avatarUrl": avatar_url(hub.url(&caller.context), &person.name),
        "isPro": false,
    });
    if let (false, Some(value)) = (caller.context.is_anonymous(), value.as_object_mut()) {
        value.insert("isFollowing".into(), json!(person.is_followed));
    }
    value
}

fn people(hub: &Hub, caller: &Caller, paging: &Paging, page: &Paged<Account>) -> Response {
    let rows = page.rows.iter().map(|row| person(hub, caller, row)).collect();
    paging.answer((hub, caller), rows, after_place(page.next))
}

/// What users and organisations show alike.
fn common(
    hub: &Hub,
    caller: &Caller,
    account: &Access<See, Namespace>,
    overview: &Overview,
) -> Map<String, Value> {
    let name = &account.namespace().name;
    let mut fields = Map::new();
    let mut put = |key: &str, value: Value| fields.insert(key.to_owned(), value);
    put("_id", json!(account.namespace().id));
    put("fullname", json!(overview.face.full_name));
    put("avatarUrl", json!(avatar_url(hub.url(&caller.context), name)));
    put("createdAt", json!(overview.face.created_at));
    put("numModels", json!(overview.repos.models));
    put("numDatasets", json!(overview.repos.datasets));
    put("numSpaces", json!(overview.repos.spaces));
    put("numFollowers", json!(overview.circles.followers));
    put("numPapers", json!(0));
    if let Some(is_following) = overview.is_following {
        put("isFollowing", json!(is_following));
    }
    fields
}

async fn user(State(hub): State<Hub>, caller: Caller, Path(name): Named) -> Answer<Json<Value>> {
    let account = hub.access(&caller.context).user(&name).await?;
    let overview = hub.overview(&caller.context, &account).await?;
    let base = hub.url(&caller.context);
    let mut fields = common(&hub, &caller, &account, &overview);
    let mut put = |key: &str, value: Value| fields.insert(key.to_owned(), value);
    put("type", json!("user"));
    put("user", json!(account.namespace().name));
    put("isPro", json!(false));
    put("numUpvotes", json!(0));
    put("numLikes", json!(overview.likes));
    put("numFollowing", json!(overview.circles.followed));
    put("orgs", overview.organizations.iter().map(|org| org_json(org, base)).collect());
    Ok(Json(Value::Object(fields)))
}

fn org_json(org: &UserOrganization, base: &str) -> Value {
    json!({
        "_id": org.id,
        "type": "org",
        "name": org.name,
        "fullname": org.full_name,
        "avatarUrl": avatar_url(base, &org.name),
    })
}

async fn organization(State(hub): State<Hub>, caller: Caller, Path(name): Named) -> Answer<Json<Value>> {
    let account = hub.access(&caller.context).organization(&name).await?;
    let overview = hub.overview(&caller.context, &account).await?;
    let mut fields = common(&hub, &caller, &account, &overview);
    fields.insert("type".into(), json!("org"));
    fields.insert("name".into(), json!(account.namespace().name));
    fields.insert("numUsers".into(), json!(overview.circles.members));
    Ok(Json(Value::Object(fields)))
}

async fn user_followers(
    State(hub): State<Hub>,
    caller: Caller,
    Path(name): Named,
    paging: Paging,
) -> Answer<Response> {
    let account = hub.access(&caller.context).user(&name).await?;
    let page = hub.followers(&caller.context, &account, paging.place()?).await?;
    Ok(people(&hub, &caller, &paging, &page))
}

async fn organization_followers(
    State(hub): State<Hub>,
    caller: Caller,
    Path(name): Named,
    paging: Paging,
) -> Answer<Response> {
    let account = hub.access(&caller.context).organization(&name).await?;
    let page = hub.followers(&caller.context, &account, paging.place()?).await?;
    Ok(people(&hub, &caller, &paging, &page))
}

async fn following(
    State(hub): State<Hub>,
    caller: Caller,
    Path(name): Named,
    paging: Paging,
) -> Answer<Response> {
    let account = hub.access(&caller.context).user(&name).await?;
    let page = hub.followed(&caller.context, &account, paging.place()?).await?;
    Ok(people(&hub, &caller, &paging, &page))
}

async fn members(
    State(hub): State<Hub>,
    caller: Caller,
    Path(name): Named,
    paging: Paging,
) -> Answer<Response> {
    let account = hub.access(&caller.context).organization(&name).await?;
    let page = hub.org_members(&caller.context, &account, paging.place()?).await?;
    Ok(people(&hub, &caller, &paging, &page))
}

async fn follow_user(State(hub): State<Hub>, caller: Caller, Path(name): Named) -> Answer<Json<Value>> {
    let me = myself(&hub, &caller).await?;
    let account = hub.access(&caller.context).user(&name).await?;
    hub.follow(&caller.context, &me, &account).await?;
    Ok(Json(json!({ "isFollowing": true })))
}

async fn unfollow_user(State(hub): State<Hub>, caller: Caller, Path(name): Named) -> Answer<Json<Value>> {
    let me = myself(&hub, &caller).await?;
    let account = hub.access(&caller.context).user(&name).await?;
    hub.unfollow(&caller.context, &me, &account).await?;
    Ok(Json(json!({ "isFollowing": false })))
}

async fn follow_organization(
    State(hub): State<Hub>,
    caller: Caller,
    Path(name): Named,
) -> Answer<Json<Value>> {
    let me = myself(&hub, &caller).await?;
    let account = hub.access(&caller.context).organization(&name).await?;
    hub.follow(&caller.context, &me, &account).await?;
    Ok(Json(json!({ "isFollowing": true })))
}

async fn unfollow_organization(
    State(hub): State<Hub>,
    caller: Caller,
    Path(name): Named,
) -> Answer<Json<Value>> {
    let me = myself(&hub, &caller).await?;
    let account = hub.access(&caller.context).organization(&name).await?;
    hub.unfollow(&caller.context, &me, &account).await?;
    Ok(Json(json!({ "isFollowing": false })))
}

/// The caller, if the credential may change something of theirs.
async fn myself(hub: &Hub, caller: &Caller) -> Result<Access<Write, Namespace>, Problem> {
    hub.access(&caller.context).own_namespace().await
}

async fn own_sizes(State(hub): State<Hub>, caller: Caller, paging: Paging) -> Answer<Response> {
    let me = hub.access(&caller.context).own_namespace::<Read>().await?;
    sizes(&hub, &caller, &paging, &me).await
}

async fn organization_sizes(
    State(hub): State<Hub>,
    caller: Caller,
    Path(name): Named,
    paging: Paging,
) -> Answer<Response> {
    let seen = hub.access(&caller.context).organization(&name).await?;
    let account = hub.access(&caller.context).namespace::<Read>(&seen.namespace().name).await?;
    sizes(&hub, &caller, &paging, &account).await
}

async fn sizes(
    hub: &Hub,
    caller: &Caller,
    paging: &Paging,
    account: &Access<Read, Namespace>,
) -> Answer<Response> {
    let page = hub.repo_sizes(account, paging.after()?).await?;
    let rows = page.rows.iter().map(|row| size_json(row, page.total_bytes)).collect();
    Ok(paging.answer((hub, caller), rows, page.next))
}

fn size_json(row: &SizedRepo, total: i64) -> Value {
    #[expect(clippy::cast_precision_loss, reason = "a percentage for people")]
    let percent = if total > 0 { row.bytes as f64 * 100.0 / total as f64 } else { 0.0 };
    json!({
        "id": row.path.id(),
        "type": row.path.kind,
        "updatedAt": row.updated_at,
        "visibility": row.visibility,
        "storage": row.bytes,
        "storagePercent": percent,
    })
}
