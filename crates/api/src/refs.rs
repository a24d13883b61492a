//! Refs, branches, tags, lists of commits, squashing.

use axum::Json;
use axum::extract::{OriginalUri, State};
use axum::response::{IntoResponse, Response};
use bastide_core::RefName;
use bastide_hub::access::{See, Write};
use bastide_hub::authors::{Author, User};
use bastide_hub::history::{BranchStart, CommitItem};
use bastide_hub::{Hub, Problem, Ref};
use http::{HeaderName, Method, Uri, header};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::answer::{Answer, escape, header_text};
use crate::commit::target;
use crate::extract::{Caller, JsonBody, Query, RepoRoute};
use crate::routes::Routes;

const X_TOTAL_COUNT: HeaderName = HeaderName::from_static("x-total-count");
/// Commits of a page when nobody says, and at most.
const COMMITS: u64 = 50;
const MAX_COMMITS: usize = 1000;

pub fn routes(routes: Routes) -> Routes {
    routes
        .api(Method::GET, "/api/{kind}/{ns}/{name}/refs", list)
        .api(Method::POST, "/api/{kind}/{ns}/{name}/branch/{*branch}", create_branch)
        .api(Method::DELETE, "/api/{kind}/{ns}/{name}/branch/{*branch}", delete_branch)
        .api(Method::POST, "/api/{kind}/{ns}/{name}/tag/{*rev}", create_tag)
        .api(Method::DELETE, "/api/{kind}/{ns}/{name}/tag/{*rev}", delete_tag)
        .api(Method::GET, "/api/{kind}/{ns}/{name}/commits/{*rev}", commits)
        .api(Method::POST, "/api/{kind}/{ns}/{name}/super-squash/{*rev}", squash)
}

async fn list(State(hub): State<Hub>, caller: Caller, route: RepoRoute, query: Query) -> Answer<Json<Value>> {
    let access = caller.repo::<See>(&hub, &route.path).await?;
    let refs = hub.list_refs(&access).await?;
    let group = |wanted: fn(&RefName) -> bool| -> Value {
        refs.iter().filter(|found| wanted(&found.name)).map(ref_json).collect()
    };
    let mut value = json!({
        "branches": group(RefName::is_branch),
        "converts": group(|name| name.as_str().starts_with("refs/convert/")),
        "tags": group(RefName::is_tag),
    });
    if let (true, Some(value)) = (query.flag("include_prs"), value.as_object_mut()) {
        value.insert("pullRequests".into(), group(RefName::is_pull_request));
    }
    Ok(Json(value))
}

fn ref_json(found: &Ref) -> Value {
    json!({ "name": found.name.short(), "ref": found.name.as_str(), "targetCommit": found.commit })
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct BranchBody {
    starting_point: Option<String>,
    empty_branch: Option<bool>,
    overwrite: Option<bool>,
}

async fn create_branch(
    State(hub): State<Hub>,
    caller: Caller,
    route: RepoRoute,
    JsonBody(body): JsonBody<BranchBody>,
) -> Answer<Json<Value>> {
    let access = caller.repo::<Write>(&hub, &route.path).await?;
    let name = RefName::branch(&route.joined_tail())?;
    let start = match body.empty_branch {
        Some(true) => BranchStart::Empty,
        _ => BranchStart::Revision(body.starting_point.unwrap_or_else(|| "refs/heads/main".to_owned())),
    };
    let overwrite = body.overwrite.unwrap_or(false);
    hub.create_branch(&caller.context, &access, &name, start, overwrite).await?;
    Ok(Json(json!({})))
}

async fn delete_branch(State(hub): State<Hub>, caller: Caller, route: RepoRoute) -> Answer<Json<Value>> {
    let access = caller.repo::<Write>(&hub, &route.path).await?;
    let name = RefName::branch(&route.joined_tail())?;
    hub.delete_ref(&caller.context, &access, &name).await?;
    Ok(Json(json!({})))
}

#[derive(Deserialize)]
struct TagBody {
    tag: String,
    message: Option<String>,
}

async fn create_tag(
    State(hub): State<Hub>,
    caller: Caller,
    route: RepoRoute,
    JsonBody(body): JsonBody<TagBody>,
) -> Answer<Json<Value>> {
    let access = caller.repo::<Write>(&hub, &route.path).await?;
    let name = RefName::tag(&body.tag)?;
    hub.create_tag(&caller.context, &access, &name, &route.joined_tail(), body.message).await?;
    Ok(Json(json!({})))
}

async fn delete_tag(State(hub): State<Hub>, caller: Caller, route: RepoRoute) -> Answer<Json<Value>> {
    let access = caller.repo::<Write>(&hub, &route.path).await?;
    let name = RefName::tag(&route.joined_tail())?;
    hub.delete_ref(&caller.context, &access, &name).await?;
    Ok(Json(json!({})))
}

async fn commits(
    State(hub): State<Hub>,
    caller: Caller,
    route: RepoRoute,
    query: Query,
    uri: OriginalUri,
) -> Answer<Response> {
    let access = caller.repo::<See>(&hub, &route.path).await?;
    let start = hub.resolve_revision(&access, &route.joined_tail()).await?;
    let page = query.number("p")?.unwrap_or(0);
    let limit = query.number("limit")?.unwrap_or(COMMITS);
    let number = |number| usize::try_from(number).unwrap_or(usize::MAX);
    let limit = number(limit).clamp(1, MAX_COMMITS);
    let mut total = None;
    let (items, more) = match query.get("path").map(|path| path.trim_matches('/')) {
        None | Some("") => {
            total = hub.count_commits(&access, start).await?;
            hub.list_commits(&access, start, number(page), limit).await?
        }
        Some(path) => {
            let missing =
                |_| Problem::EntryNotFound { message: "Entry not found".into(), commit: Some(start) };
            let path = path.parse().map_err(missing)?;
            let skip = number(page).saturating_mul(limit);
            hub.list_path_commits(&access, start, &path, (skip, limit)).await?
        }
    };
    let formatted = query.all("expand").any(|field| field == "formatted");
    let rows: Value = items.iter().map(|item| commit_json(item, formatted)).collect();
    let mut response = Json(rows).into_response();
    if let Some(total) = total {
        response.headers_mut().insert(X_TOTAL_COUNT, total.into());
    }
    if more {
        let next = page_link(hub.url(&caller.context), &uri.0, &query, page.saturating_add(1));
        response.headers_mut().insert(header::LINK, next);
    }
    Ok(response)
}

pub fn page_link(base: &str, uri: &Uri, query: &Query, page: u64) -> http::HeaderValue {
    let page = page.to_string();
    let others =
        query.0.iter().filter(|(key, _)| key != "p").map(|(key, value)| (key.as_str(), value.as_str()));
    let pairs: Vec<_> = others.chain([("p", page.as_str())]).collect();
    let query = serde_urlencoded::to_string(pairs).unwrap_or_default();
    header_text(&format!("<{base}{}?{query}>; rel=\"next\"", uri.path()))
}

/// Clients read `user` of everybody. A user of this hub has an `_id`; who has none is called as no user can be.
fn author_json(author: &Author) -> Value {
    match author {
        Author::User(user) => user_json(user),
        Author::Unverified(name) => json!({ "user": author.label(), "name": name }),
    }
}

pub fn user_json(user: &User) -> Value {
    json!({ "_id": user.id, "user": user.name })
}

pub fn commit_json(item: &CommitItem, formatted: bool) -> Value {
    let mut value = json!({
        "id": item.id,
        "title": item.title,
        "message": item.message,
        "date": item.time,
        "authors": [author_json(&item.author)],
    });
    if let (true, Some(value)) = (formatted, value.as_object_mut()) {
        let html = json!({ "title": escape(&item.title), "message": escape(&item.message) });
        value.insert("formatted".into(), html);
    }
    value
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct SquashBody {
    message: Option<String>,
}

async fn squash(
    State(hub): State<Hub>,
    caller: Caller,
    route: RepoRoute,
    JsonBody(body): JsonBody<SquashBody>,
) -> Answer<Json<Value>> {
    let access = caller.repo::<Write>(&hub, &route.path).await?;
    let name = target(&route.joined_tail())?;
    let commit = hub.squash(&caller.context, &access, &name, body.message).await?;
    Ok(Json(json!({ "commitOid": commit })))
}
