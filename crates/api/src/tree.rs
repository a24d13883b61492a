//! Trees and facts about paths.

use axum::Json;
use axum::extract::{OriginalUri, Request, State};
use axum::response::{IntoResponse, Response};
use bastide_core::limits::{MAX_JSON_BYTES, MAX_PATHS_INFO};
use bastide_hub::access::See;
use bastide_hub::trees::{ItemKind, ShownHash, TreeItem, TreeQuery};
use bastide_hub::{Hub, Problem};
use http::{Method, header};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::answer::{Answer, X_REPO_COMMIT, header_text};
use crate::extract::{Caller, Query, RepoRoute, body_bytes, null_is_missing};
use crate::list::next_link;
use crate::routes::Routes;

pub fn routes(routes: Routes) -> Routes {
    routes
        .api(Method::GET, "/api/{kind}/{ns}/{name}/tree/{*rest}", tree)
        .api(Method::POST, "/api/{kind}/{ns}/{name}/paths-info/{*rev}", paths_info)
        .api(Method::GET, "/api/{kind}/{ns}/{name}/treesize/{*rest}", tree_size)
}

async fn tree(
    State(hub): State<Hub>,
    caller: Caller,
    route: RepoRoute,
    query: Query,
    uri: OriginalUri,
) -> Answer<Response> {
    let seen = caller.seen(&hub, &route.path).await?;
    let (commit, path) = hub.resolve_tail(&seen.see(), &route.tail).await?;
    let wanted = TreeQuery {
        recursive: query.flag("recursive"),
        expand: query.flag("expand"),
        limit: query.number("limit")?.and_then(|limit| usize::try_from(limit).ok()),
        after: query.get("cursor").map(ToOwned::to_owned),
    };
    let page = hub.list_tree(&seen, commit, path.as_ref(), wanted).await?;
    let mut response = Json(page.items.iter().map(item_json).collect::<Value>()).into_response();
    let headers = response.headers_mut();
    headers.insert(X_REPO_COMMIT, header_text(&commit.to_string()));
    if let Some(next) = page.next {
        headers.insert(header::LINK, next_link(hub.url(&caller.context), &uri.0, &query, &next));
    }
    Ok(response)
}

fn item_json(item: &TreeItem) -> Value {
    let mut value = match &item.kind {
        ItemKind::Folder => json!({ "type": "directory", "oid": item.oid, "size": 0, "path": item.path }),
        ItemKind::File { size } => {
            json!({ "type": "file", "oid": item.oid, "size": size, "path": item.path })
        }
        ItemKind::Large { pointer, pointer_size, xet_hash } => {
            let lfs = json!({ "oid": pointer.sha256, "size": pointer.size, "pointerSize": pointer_size });
            let mut value = json!({ "type": "file", "oid": item.oid, "size": pointer.size, "path": item.path, "lfs": lfs });
            if let Some(value) = value.as_object_mut() {
                value.extend(xet_hash_text(xet_hash).map(|text| ("xetHash".to_owned(), json!(text))));
            }
            value
        }
    };
    if let (Some(last), Some(value)) = (&item.last_commit, value.as_object_mut()) {
        value.insert("lastCommit".into(), json!({ "id": last.id, "title": last.title, "date": last.time }));
    }
    value
}

/// A hash that may not be told is as long as one.
fn xet_hash_text(shown: &ShownHash) -> Option<String> {
    match shown {
        ShownHash::Absent => None,
        ShownHash::Masked => Some("*".repeat(64)),
        ShownHash::Hash(hash) => Some(hash.to_string()),
    }
}

#[derive(Deserialize)]
struct PathsBody {
    #[serde(default, deserialize_with = "null_is_missing")]
    paths: Vec<String>,
    #[serde(default, deserialize_with = "null_is_missing")]
    expand: bool,
}

async fn paths_info(
    State(hub): State<Hub>,
    caller: Caller,
    route: RepoRoute,
    request: Request,
) -> Answer<Json<Value>> {
    let seen = caller.seen(&hub, &route.path).await?;
    let body = paths_body(request).await?;
    if body.paths.len() > MAX_PATHS_INFO {
        return Err(Problem::Unprocessable(format!("at most {MAX_PATHS_INFO} paths in one call")).into());
    }
    let commit = hub.resolve_revision(&seen.see(), &route.joined_tail()).await?;
    let items = hub.paths_info(&seen, commit, body.paths, body.expand).await?;
    Ok(Json(items.iter().map(item_json).collect()))
}

/// A form from Python, JSON from JavaScript.
async fn paths_body(request: Request) -> Result<PathsBody, Problem> {
    let form = request.headers().get(header::CONTENT_TYPE).is_some_and(|value| {
        value.to_str().is_ok_and(|value| value.starts_with("application/x-www-form-urlencoded"))
    });
    let bytes = body_bytes(request, MAX_JSON_BYTES).await?;
    if !form {
        return serde_json::from_slice(&bytes)
            .map_err(|error| Problem::Invalid(format!("bad JSON: {error}")));
    }
    let pairs = serde_urlencoded::from_bytes(&bytes).map_err(|_| Problem::Invalid("bad form".into()))?;
    let form = Query(pairs);
    Ok(PathsBody { paths: form.all("paths").map(ToOwned::to_owned).collect(), expand: form.flag("expand") })
}

async fn tree_size(State(hub): State<Hub>, caller: Caller, route: RepoRoute) -> Answer<Json<Value>> {
    let access = caller.repo::<See>(&hub, &route.path).await?;
    let (commit, path) = hub.resolve_tail(&access, &route.tail).await?;
    let size = hub.tree_size(&access, commit, path.as_ref()).await?;
    Ok(Json(json!({ "path": path.map(|path| path.to_string()).unwrap_or_default(), "size": size })))
}
