//! The git side of pull requests: merging, giving the ref up, what that would free.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use bastide_hub::Hub;
use bastide_hub::access::{Access, Read, Write};
use bastide_hub::discussions::Discussion;
use bastide_hub::pulls::MergeRequest;
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::num;
use crate::answer::Answer;
use crate::extract::{Caller, JsonBody, Query, RepoRoute, null_is_missing};
use crate::history::{delivery, patch_response};
use crate::routes::Routes;

pub fn routes(routes: Routes) -> Routes {
    routes
        .api(Method::POST, "/api/{kind}/{ns}/{name}/discussions/{num}/merge", merge)
        .api(Method::DELETE, "/api/{kind}/{ns}/{name}/discussions/{num}/ref", delete_ref)
        .api(Method::GET, "/api/{kind}/{ns}/{name}/discussions/{num}/storage", storage)
        .files(Method::GET, "/{prefix}/{ns}/{name}/discussions/{num}/files.diff", files_diff)
}

/// `/discussions/{num}/files.diff`: what a pull request changes, as a patch.
async fn files_diff(State(hub): State<Hub>, caller: Caller, route: RepoRoute) -> Answer<Response> {
    let access = caller.repo::<Read>(&hub, &route.path).await?;
    let (compared, text) = hub.numbered_pull_patch(&access, num(&route)?).await?;
    Ok(patch_response(&hub, &caller, &access, compared, text)?)
}

/// What a pull request changes, as a patch, which is a delivery of content.
pub async fn diff(
    hub: &Hub,
    caller: &Caller,
    access: &Access<Read>,
    pull: &Discussion,
) -> Answer<Option<Vec<u8>>> {
    let Some((compared, text)) = hub.pull_patch(access, pull).await? else { return Ok(None) };
    hub.record_read(&caller.context, access, delivery("diff", compared, text.len()))?;
    Ok(Some(text))
}

#[derive(Deserialize)]
struct MergeBody {
    comment: Option<String>,
    #[serde(default, deserialize_with = "null_is_missing")]
    squash: bool,
}

async fn merge(
    State(hub): State<Hub>,
    caller: Caller,
    route: RepoRoute,
    query: Query,
    JsonBody(body): JsonBody<MergeBody>,
) -> Answer<Json<Value>> {
    let access = caller.repo::<Write>(&hub, &route.path).await?;
    let request = MergeRequest { comment: body.comment, squash: body.squash || query.flag("squash") };
    let merged = hub.merge_pull(&caller.context, &access, num(&route)?, request).await?;
    let url = hub.repo_url(&caller.context, &access.repo().path);
    Ok(Json(json!({
        "status": "merged",
        "mergeCommitId": merged.commit,
        "commitUrl": format!("{url}/commit/{}", merged.commit),
    })))
}

async fn delete_ref(State(hub): State<Hub>, caller: Caller, route: RepoRoute) -> Answer<Json<Value>> {
    let access = caller.repo::<Write>(&hub, &route.path).await?;
    hub.delete_pull_ref(&caller.context, &access, num(&route)?).await?;
    Ok(Json(json!({})))
}

async fn storage(State(hub): State<Hub>, caller: Caller, route: RepoRoute) -> Answer<Json<Value>> {
    let access = caller.repo::<Write>(&hub, &route.path).await?;
    let freed = hub.pull_storage(&access, num(&route)?).await?;
    Ok(Json(json!({ "bytes": freed.bytes, "files": freed.files, "complete": freed.complete })))
}
