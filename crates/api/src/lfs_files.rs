//! The large files of a repository: their list, their deletion for good, and copies to another.

use axum::Json;
use axum::extract::{OriginalUri, State};
use axum::response::{IntoResponse, Response};
use bastide_core::id::RowId;
use bastide_core::{RepoKind, RepoPath, Sha256};
use bastide_hub::access::{Admin, Read, Write};
use bastide_hub::copies::{MAX_COPIES, WantedCopy};
use bastide_hub::large_files::{LargeFile, MAX_PAGE};
use bastide_hub::{Hub, Problem};
use http::{Method, header};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::extract::{Caller, JsonBody, Query, RepoRoute};
use crate::list::next_link;
use crate::routes::Routes;

/// Files of a page when nobody says.
const PAGE: u64 = 1000;

pub fn routes(routes: Routes) -> Routes {
    routes
        .api(Method::GET, "/api/{kind}/{ns}/{name}/lfs-files", list)
        .api(Method::POST, "/api/{kind}/{ns}/{name}/lfs-files/batch", delete_many)
        .api(Method::POST, "/api/{kind}/{ns}/{name}/lfs-files/duplicate", duplicate)
        .api(Method::DELETE, "/api/{kind}/{ns}/{name}/lfs-files/{sha}", delete_one)
}

async fn list(
    State(hub): State<Hub>,
    caller: Caller,
    route: RepoRoute,
    query: Query,
    uri: OriginalUri,
) -> Answer<Response> {
    let access = caller.repo::<Write>(&hub, &route.path).await?.lower::<Read>();
    let after = query.get("cursor").map(str::parse::<RowId>).transpose();
    let after = after.map_err(|_| Problem::Invalid("\"cursor\" is none of ours".into()))?;
    let limit = query.number("limit")?.unwrap_or(PAGE);
    let limit = usize::try_from(limit).unwrap_or(MAX_PAGE);
    let page = hub.list_large_files(&access, after, limit).await?;
    let xet = query.flag("xet");
    let rows: Value = page.files.iter().map(|file| file_json(file, xet)).collect();
    let mut response = Json(rows).into_response();
    if let Some(next) = page.next {
        let next = next_link(hub.url(&caller.context), &uri.0, &query, &next.to_string());
        response.headers_mut().insert(header::LINK, next);
    }
    Ok(response)
}

fn file_json(file: &LargeFile, xet: bool) -> Value {
    // What was never committed has no name but its hash.
    let filename = file.path.clone().unwrap_or_else(|| file.sha256.to_string());
    let mut value = json!({
        "fileOid": file.sha256,
        "oid": file.sha256,
        "filename": filename,
        "size": file.size,
        "pushedAt": file.received_at,
    });
    if let Some(value) = value.as_object_mut() {
        value.extend(file.in_ref.as_ref().map(|name| ("ref".to_owned(), json!(name.as_str()))));
        value.extend(xet.then(|| ("xetHash".to_owned(), json!(file.xet_hash))));
    }
    value
}

#[derive(Deserialize)]
struct DeleteBody {
    deletions: Deletions,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Deletions {
    sha: Vec<String>,
    #[serde(default)]
    rewrite_history: bool,
}

async fn delete_many(
    State(hub): State<Hub>,
    caller: Caller,
    route: RepoRoute,
    JsonBody(body): JsonBody<DeleteBody>,
) -> Answer<Json<Value>> {
    let access = caller.repo::<Admin>(&hub, &route.path).await?;
    let Deletions { sha, rewrite_history } = body.deletions;
    let wanted = sha.iter().map(|sha| sha256(sha)).collect::<Result<Vec<_>, _>>()?;
    let deleted = hub.delete_large_files(&caller.context, &access, &wanted, rewrite_history).await?;
    Ok(Json(json!({ "success": true, "deleted": deleted.files, "rewrittenCommits": deleted.commits })))
}

async fn delete_one(
    State(hub): State<Hub>,
    caller: Caller,
    route: RepoRoute,
    query: Query,
) -> Answer<Json<Value>> {
    let access = caller.repo::<Admin>(&hub, &route.path).await?;
    let wanted = sha256(&route.joined_tail())?;
    let rewrite = query.flag("rewriteHistory");
    let deleted = hub.delete_large_files(&caller.context, &access, &[wanted], rewrite).await?;
    if deleted.files == 0 && deleted.commits == 0 {
        return Err(Problem::NotFound(format!("this repository has no large file {wanted}")).into());
    }
    Ok(Json(json!({ "success": true, "deleted": deleted.files, "rewrittenCommits": deleted.commits })))
}

fn sha256(text: &str) -> Result<Sha256, Problem> {
    text.parse().map_err(|error: bastide_core::Invalid| Problem::Invalid(error.0))
}

#[derive(Deserialize)]
struct DuplicateBody {
    target: Target,
    files: Vec<CopyFile>,
}

#[derive(Deserialize)]
struct Target {
    #[serde(rename = "type")]
    kind: String,
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CopyFile {
    sha256: String,
    xet_hash: Option<String>,
}

async fn duplicate(
    State(hub): State<Hub>,
    caller: Caller,
    route: RepoRoute,
    JsonBody(body): JsonBody<DuplicateBody>,
) -> Answer<Json<Value>> {
    let from = caller.repo::<Read>(&hub, &route.path).await?;
    let kind: RepoKind = body.target.kind.parse()?;
    let to = RepoPath::parse(kind, &body.target.name)
        .map_err(|_| Problem::RepoNotFound { anonymous: caller.context.is_anonymous() })?;
    let to = caller.repo::<Write>(&hub, &to).await?;
    if body.files.len() > MAX_COPIES {
        return Err(Problem::Unprocessable(format!("at most {MAX_COPIES} files in one call")).into());
    }
    let wanted = body.files.iter().map(wanted_copy).collect::<Result<Vec<_>, _>>()?;
    let failed = hub.copy_large_files(&caller.context, &from, &to, &wanted).await?;
    let failed: Value =
        failed.iter().map(|file| json!({ "sha256": file.sha256, "error": file.error })).collect();
    Ok(Json(json!({ "failed": failed })))
}

fn wanted_copy(file: &CopyFile) -> Result<WantedCopy, Problem> {
    let xet_hash = file.xet_hash.as_deref().map(str::parse).transpose()?;
    Ok(WantedCopy { sha256: sha256(&file.sha256)?, xet_hash })
}
