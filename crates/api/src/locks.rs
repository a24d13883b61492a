//! Locks of git-lfs.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bastide_core::EntryPath;
use bastide_core::id::RowId;
use bastide_hub::access::{Propose, Read, Write};
use bastide_hub::locks::{LOCK_PAGE, Lock, LockPage, Locking, Wanted};
use bastide_hub::{Hub, Problem};
use http::{HeaderValue, Method, StatusCode, header};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::answer::Answer;
use crate::extract::{Caller, JsonBody, Query, RepoRoute};
use crate::lfs::LFS_JSON;
use crate::routes::Routes;

pub fn routes(routes: Routes) -> Routes {
    routes
        .files(Method::POST, "/{prefix}/{ns}/{name}/info/lfs/locks", create)
        .files(Method::GET, "/{prefix}/{ns}/{name}/info/lfs/locks", list)
        .files(Method::POST, "/{prefix}/{ns}/{name}/info/lfs/locks/verify", verify)
        .files(Method::POST, "/{prefix}/{ns}/{name}/info/lfs/locks/{lock}/unlock", unlock)
}

/// The branch that a client is on. A lock holds in all of them.
#[derive(Deserialize)]
struct Branch {
    name: Option<String>,
}

#[derive(Deserialize)]
struct CreateBody {
    path: String,
    #[serde(rename = "ref")]
    branch: Option<Branch>,
}

async fn create(
    State(hub): State<Hub>,
    caller: Caller,
    route: RepoRoute,
    JsonBody(body): JsonBody<CreateBody>,
) -> Answer<Response> {
    let access = caller.repo::<Write>(&hub, &route.path).await?;
    let path: EntryPath =
        body.path.parse().map_err(|error: bastide_core::Invalid| Problem::Unprocessable(error.0))?;
    let branch = body.branch.and_then(|branch| branch.name);
    Ok(match hub.lock_file(&caller.context, &access, path, branch.as_deref()).await? {
        Locking::Locked(lock) => lfs_json(StatusCode::CREATED, &json!({ "lock": lock_json(&lock) })),
        Locking::Taken(lock) => {
            let message = format!("{} is locked already, by {}", lock.path, lock.owner);
            let body = json!({ "lock": lock_json(&lock), "message": message, "error": message });
            lfs_json(StatusCode::CONFLICT, &body)
        }
    })
}

async fn list(State(hub): State<Hub>, caller: Caller, route: RepoRoute, query: Query) -> Answer<Response> {
    let access = caller.repo::<Read>(&hub, &route.path).await?;
    let id = query.get("id").filter(|id| !id.is_empty()).map(lock_id);
    let wanted = Wanted {
        // Of an id that cannot be there is no lock.
        id: id.map(|id| id.unwrap_or(RowId::from_i64(-1))),
        path: query.get("path").filter(|path| !path.is_empty()).map(ToOwned::to_owned),
        after: cursor(query.get("cursor"))?,
        limit: limit(query.number("limit")?),
    };
    let page = hub.list_locks(&access, wanted).await?;
    let locks: Value = page.locks.iter().map(lock_json).collect();
    Ok(lfs_json(StatusCode::OK, &with_cursor(&page, json!({ "locks": locks }))))
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct VerifyBody {
    cursor: Option<String>,
    limit: Option<u64>,
}

/// What somebody who is about to push has to know: their own locks, and those of others. Pull requests of those who
/// only propose are pushed, too.
async fn verify(
    State(hub): State<Hub>,
    caller: Caller,
    route: RepoRoute,
    JsonBody(body): JsonBody<VerifyBody>,
) -> Answer<Response> {
    let access = caller.repo::<Propose>(&hub, &route.path).await?;
    let after = cursor(body.cursor.as_deref())?;
    let wanted = Wanted { after, limit: limit(body.limit), ..Wanted::default() };
    let page = hub.list_locks(&access, wanted).await?;
    let user = caller.context.user_id();
    let (ours, theirs): (Vec<&Lock>, Vec<&Lock>) =
        page.locks.iter().partition(|lock| Some(lock.owner_id) == user);
    let json = |locks: Vec<&Lock>| locks.into_iter().map(lock_json).collect::<Value>();
    Ok(lfs_json(StatusCode::OK, &with_cursor(&page, json!({ "ours": json(ours), "theirs": json(theirs) }))))
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct UnlockBody {
    force: Option<bool>,
}

async fn unlock(
    State(hub): State<Hub>,
    caller: Caller,
    route: RepoRoute,
    JsonBody(body): JsonBody<UnlockBody>,
) -> Answer<Response> {
    let access = caller.repo::<Write>(&hub, &route.path).await?;
    // `info` is the verb: the tail is lfs, locks, the id, unlock.
    let id = route.tail.get(2).map(String::as_str).unwrap_or_default();
    let id = lock_id(id).map_err(|_| Problem::NotFound("there is no such lock".into()))?;
    let lock = hub.unlock_file(&caller.context, &access, id, body.force.unwrap_or(false)).await?;
    Ok(lfs_json(StatusCode::OK, &json!({ "lock": lock_json(&lock) })))
}

fn lock_id(text: &str) -> Result<RowId, bastide_core::Invalid> {
    text.parse()
}

fn cursor(text: Option<&str>) -> Result<Option<RowId>, Problem> {
    let parse = |text: &str| lock_id(text).map_err(|_| Problem::Invalid("\"cursor\" is none of ours".into()));
    text.filter(|text| !text.is_empty()).map(parse).transpose()
}

fn limit(asked: Option<u64>) -> usize {
    asked.filter(|limit| *limit > 0).map_or(LOCK_PAGE, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

fn lock_json(lock: &Lock) -> Value {
    json!({ "id": lock.id, "path": lock.path.as_str(), "locked_at": lock.created_at, "owner": { "name": lock.owner } })
}

fn with_cursor(page: &LockPage, mut value: Value) -> Value {
    if let (Some(next), Some(value)) = (page.next, value.as_object_mut()) {
        value.extend(Map::from_iter([("next_cursor".to_owned(), json!(next))]));
    }
    value
}

fn lfs_json(status: StatusCode, value: &Value) -> Response {
    let mut response = (status, Json(value)).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(LFS_JSON));
    response
}
