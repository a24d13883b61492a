//! Discussions and pull requests: lists, opening, comments, titles, statuses, pins, locks, removal.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bastide_core::id::RowId;
use bastide_core::{DiscussionStatus, RefName};
use bastide_hub::access::{Admin, Propose, Read, Write};
use bastide_hub::discussions::{
    DiscussionList, DiscussionOrder, ListedDiscussions, OpenRequest, StatusRequest,
};
use bastide_hub::{Hub, Problem};
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::extract::{Caller, JsonBody, Query, RepoRoute, null_is_missing};
use crate::routes::Routes;

mod json;
mod pulls;

use json::{DiscussionJson, EventJson, RepoJson, conflicts_json, discussion_json, event_json};

pub fn routes(routes: Routes) -> Routes {
    pulls::routes(routes)
        .api(Method::GET, "/api/{kind}/{ns}/{name}/discussions", list)
        .api(Method::POST, "/api/{kind}/{ns}/{name}/discussions", create)
        .api(Method::GET, "/api/{kind}/{ns}/{name}/discussions/{num}", detail)
        .api(Method::DELETE, "/api/{kind}/{ns}/{name}/discussions/{num}", delete)
        .api(Method::POST, "/api/{kind}/{ns}/{name}/discussions/{num}/comment", comment)
        .api(Method::POST, "/api/{kind}/{ns}/{name}/discussions/{num}/comment/{event}/edit", edit)
        .api(Method::POST, "/api/{kind}/{ns}/{name}/discussions/{num}/comment/{event}/hide", hide)
        .api(Method::POST, "/api/{kind}/{ns}/{name}/discussions/{num}/title", rename)
        .api(Method::POST, "/api/{kind}/{ns}/{name}/discussions/{num}/status", status)
        .api(Method::POST, "/api/{kind}/{ns}/{name}/discussions/{num}/pin", pin)
        .api(Method::POST, "/api/{kind}/{ns}/{name}/discussions/{num}/lock", lock)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ListJson<'a> {
    discussions: Vec<DiscussionJson<'a>>,
    count: u64,
    start: u64,
    num_closed_discussions: u64,
}

async fn list(State(hub): State<Hub>, caller: Caller, route: RepoRoute, query: Query) -> Answer<Response> {
    let access = caller.repo::<Read>(&hub, &route.path).await?;
    let ListedDiscussions { page, start } = hub.list_discussions(&access, request(&query)?).await?;
    let id = access.repo().path.id();
    let repo = RepoJson { name: &id, kind: access.repo().path.kind.as_str() };
    let discussions = page.rows.iter().map(|row| DiscussionJson::new(repo, row)).collect();
    let (count, num_closed_discussions) = (page.count, page.closed);
    Ok(Json(ListJson { discussions, count, start, num_closed_discussions }).into_response())
}

fn request(query: &Query) -> Result<DiscussionList, Problem> {
    let one_of = |key, words| Problem::Invalid(format!("\"{key}\" must be one of [{words}]"));
    let text = |key| query.get(key).filter(|text| !text.is_empty());
    let pull_requests = match text("type") {
        None | Some("all") => None,
        Some("discussion") => Some(false),
        Some("pull_request") => Some(true),
        Some(_) => return Err(one_of("type", "all, discussion, pull_request")),
    };
    let open = match text("status") {
        None | Some("all") => None,
        Some("open") => Some(true),
        Some("closed") => Some(false),
        Some(_) => return Err(one_of("status", "all, open, closed")),
    };
    let order = match text("sort") {
        // Nobody can react here, so that by reactions all are alike.
        None | Some("recently-created" | "reactions") => DiscussionOrder::Created,
        Some("recently-updated" | "trending") => DiscussionOrder::Updated,
        Some(_) => return Err(one_of("sort", "recently-created, recently-updated, trending, reactions")),
    };
    Ok(DiscussionList {
        pull_requests,
        open,
        author: text("author").map(ToOwned::to_owned),
        search: text("search").map(ToOwned::to_owned),
        order,
        page: query.number("p")?.unwrap_or(0),
        limit: query.number("limit")?,
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OpenBody {
    title: String,
    #[serde(default, deserialize_with = "null_is_missing")]
    description: String,
    #[serde(default, deserialize_with = "null_is_missing")]
    pull_request: bool,
}

async fn create(
    State(hub): State<Hub>,
    caller: Caller,
    route: RepoRoute,
    JsonBody(body): JsonBody<OpenBody>,
) -> Answer<Json<Value>> {
    let access = caller.repo::<Propose>(&hub, &route.path).await?;
    let pull_request = body.pull_request.then(|| (RefName::main(), DiscussionStatus::Draft));
    let request = OpenRequest { title: body.title, description: body.description, pull_request };
    let opened = hub.create_discussion(&caller.context, &access, request).await?;
    let mut value = discussion_json(access.repo(), &opened);
    if let Some(value) = value.as_object_mut() {
        let page =
            format!("{}/discussions/{}", hub.repo_url(&caller.context, &access.repo().path), opened.num);
        value.insert("url".into(), page.into());
        value.insert("pullRequest".into(), opened.is_pull_request().into());
    }
    Ok(Json(value))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DetailJson<'a> {
    #[serde(flatten)]
    head: DiscussionJson<'a>,
    events: Vec<EventJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    files_with_conflicts: Option<Value>,
    /// When it is asked for, for pull requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    diff: Option<String>,
}

async fn detail(State(hub): State<Hub>, caller: Caller, route: RepoRoute, query: Query) -> Answer<Response> {
    let access = caller.repo::<Read>(&hub, &route.path).await?;
    let (discussion, events) = hub.discussion(&access, num(&route)?).await?;
    let id = access.repo().path.id();
    let repo = RepoJson { name: &id, kind: access.repo().path.kind.as_str() };
    let conflicts = match discussion.is_pull_request() {
        true => Some(hub.pull_conflicts(&access, &discussion).await?),
        false => None,
    };
    let diff = match discussion.is_pull_request() && query.flag("diff") {
        true => Some(pulls::diff(&hub, &caller, &access, &discussion).await?.unwrap_or_default()),
        false => None,
    };
    let detail = DetailJson {
        diff: diff.map(|diff| String::from_utf8_lossy(&diff).into_owned()),
        head: DiscussionJson::new(repo, &discussion),
        events: events.iter().map(EventJson::from).collect(),
        files_with_conflicts: conflicts.as_ref().map(conflicts_json),
    };
    Ok(Json(detail).into_response())
}

async fn delete(State(hub): State<Hub>, caller: Caller, route: RepoRoute) -> Answer<Json<Value>> {
    let access = caller.repo::<Admin>(&hub, &route.path).await?;
    hub.delete_discussion(&caller.context, &access, num(&route)?).await?;
    Ok(Json(json!({})))
}

#[derive(Deserialize)]
struct CommentBody {
    comment: String,
}

async fn comment(
    State(hub): State<Hub>,
    caller: Caller,
    route: RepoRoute,
    JsonBody(body): JsonBody<CommentBody>,
) -> Answer<Json<Value>> {
    let access = caller.repo::<Propose>(&hub, &route.path).await?;
    let event = hub.comment(&caller.context, &access, num(&route)?, &body.comment).await?;
    Ok(Json(json!({ "newMessage": event_json(&event) })))
}

#[derive(Deserialize)]
struct EditBody {
    content: String,
}

async fn edit(
    State(hub): State<Hub>,
    caller: Caller,
    route: RepoRoute,
    JsonBody(body): JsonBody<EditBody>,
) -> Answer<Json<Value>> {
    let access = caller.repo::<Propose>(&hub, &route.path).await?;
    let event = hub.edit_comment(&caller.context, &access, place(&route)?, &body.content).await?;
    Ok(Json(json!({ "updatedComment": event_json(&event) })))
}

async fn hide(State(hub): State<Hub>, caller: Caller, route: RepoRoute) -> Answer<Json<Value>> {
    let access = caller.repo::<Propose>(&hub, &route.path).await?;
    let event = hub.hide_comment(&caller.context, &access, place(&route)?).await?;
    Ok(Json(json!({ "updatedComment": event_json(&event) })))
}

#[derive(Deserialize)]
struct TitleBody {
    title: String,
}

async fn rename(
    State(hub): State<Hub>,
    caller: Caller,
    route: RepoRoute,
    JsonBody(body): JsonBody<TitleBody>,
) -> Answer<Json<Value>> {
    let access = caller.repo::<Propose>(&hub, &route.path).await?;
    let event = hub.rename_discussion(&caller.context, &access, num(&route)?, &body.title).await?;
    Ok(Json(json!({ "newTitle": event_json(&event) })))
}

#[derive(Deserialize)]
struct StatusBody {
    status: String,
    comment: Option<String>,
}

async fn status(
    State(hub): State<Hub>,
    caller: Caller,
    route: RepoRoute,
    JsonBody(body): JsonBody<StatusBody>,
) -> Answer<Json<Value>> {
    let access = caller.repo::<Propose>(&hub, &route.path).await?;
    let status = match body.status.as_str() {
        "open" => DiscussionStatus::Open,
        "closed" => DiscussionStatus::Closed,
        _ => return Err(Problem::Invalid("\"status\" must be one of [open, closed]".into()).into()),
    };
    let request = StatusRequest { status, comment: body.comment };
    let event = hub.set_discussion_status(&caller.context, &access, num(&route)?, request).await?;
    Ok(Json(json!({ "newStatus": event_json(&event) })))
}

#[derive(Deserialize)]
struct PinBody {
    pinned: bool,
}

async fn pin(
    State(hub): State<Hub>,
    caller: Caller,
    route: RepoRoute,
    JsonBody(body): JsonBody<PinBody>,
) -> Answer<Json<Value>> {
    let access = caller.repo::<Write>(&hub, &route.path).await?;
    hub.pin_discussion(&caller.context, &access, num(&route)?, body.pinned).await?;
    Ok(Json(json!({ "pinned": body.pinned })))
}

#[derive(Deserialize)]
struct LockBody {
    locked: bool,
}

async fn lock(
    State(hub): State<Hub>,
    caller: Caller,
    route: RepoRoute,
    JsonBody(body): JsonBody<LockBody>,
) -> Answer<Json<Value>> {
    let access = caller.repo::<Write>(&hub, &route.path).await?;
    hub.lock_discussion(&caller.context, &access, num(&route)?, body.locked).await?;
    Ok(Json(json!({ "locked": body.locked })))
}

/// The number in the address: decimal digits, and one that no discussion has for anything else.
pub(crate) fn num(route: &RepoRoute) -> Result<u64, Problem> {
    let text = route.tail.first().map_or("", String::as_str);
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let num = text.parse().ok().filter(|_| digits);
    num.ok_or_else(|| Problem::NotFound("Discussion not found: its number is not one".into()))
}

/// The number and the id of a comment.
fn place(route: &RepoRoute) -> Result<(u64, RowId), Problem> {
    let event = route.tail.get(2).and_then(|id| id.parse().ok());
    let event =
        event.ok_or_else(|| Problem::NotFound("there is no such comment in this discussion".into()))?;
    Ok((num(route)?, event))
}
