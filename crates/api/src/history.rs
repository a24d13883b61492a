//! Differences and origins: comparing commits, a commit alone, whose line is whose.

use axum::Json;
use axum::extract::{FromRequestParts, OriginalUri, Request, State};
use axum::http::HeaderValue;
use axum::response::{IntoResponse, Response};
use bastide_core::{Oid, RefName};
use bastide_hub::access::{Access, Read, Seen};
use bastide_hub::diffs::{
    BlameLines, Budget, CommitDetail, Compared, Content, DiffPage, DiffQuery, FileDiff, Hunk, Side,
};
use bastide_hub::reads::Delivery;
use bastide_hub::revert::RevertRequest;
use bastide_hub::uploads::{Purpose, Uploader};
use bastide_hub::{Hub, Problem};
use http::{Method, header};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::answer::{Answer, X_REPO_COMMIT, header_text, no_such_route};
use crate::extract::{Caller, JsonBody, Query, RepoRoute};
use crate::refs::{commit_json, page_link, user_json};
use crate::routes::Routes;

/// Files of a page of a commit when nobody says, and at most.
const FILES: u64 = 100;
const MAX_FILES: u64 = 1000;
const ENDING: &str = ".diff";

pub fn routes(routes: Routes) -> Routes {
    routes
        .api(Method::GET, "/api/{kind}/{ns}/{name}/compare/{*spec}", compare)
        .api(Method::GET, "/api/{kind}/{ns}/{name}/commit/{*rev}", commit)
        .api(Method::GET, "/api/{kind}/{ns}/{name}/blame/{*rest}", blame)
        .api(Method::POST, "/api/{kind}/{ns}/{name}/revert/{*rev}", revert)
        .files(Method::GET, "/{prefix}/{ns}/{name}/commit/{oid}", commit_diff)
}

/// Text that nobody takes for a page.
fn plain(text: impl Into<axum::body::Body>) -> Response {
    let mut response = Response::new(text.into());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    response
}

async fn compare(State(hub): State<Hub>, caller: Caller, route: RepoRoute, query: Query) -> Answer<Response> {
    let seen = caller.seen(&hub, &route.path).await?;
    let compared = hub.compared(&seen.see(), &route.joined_tail()).await?;
    if query.flag("raw") {
        return Ok(plain(hub.raw_diff(&seen, compared).await?));
    }
    patch(&hub, &caller, &route, compared).await
}

/// A patch, for those who may read what is in it.
async fn patch(hub: &Hub, caller: &Caller, route: &RepoRoute, compared: Compared) -> Answer<Response> {
    let access = caller.repo::<Read>(hub, &route.path).await?;
    let text = hub.patch(&access, compared).await?;
    Ok(patch_response(hub, caller, &access, compared, text)?)
}

/// A patch as an answer, with its read record.
pub fn patch_response(
    hub: &Hub,
    caller: &Caller,
    access: &Access<Read>,
    compared: Compared,
    text: Vec<u8>,
) -> Result<Response, Problem> {
    hub.record_read(&caller.context, access, delivery("diff", compared, text.len()))?;
    let mut response = plain(text);
    response.headers_mut().insert(X_REPO_COMMIT, header_text(&compared.head.to_string()));
    Ok(response)
}

pub fn delivery(via: &'static str, Compared { base, head }: Compared, bytes: usize) -> Delivery {
    let base = base.map(|base| base.to_string()).unwrap_or_default();
    Delivery { via, commit: Some(head), path: None, object: format!("{base}..{head}"), bytes: bytes as u64 }
}

/// `/commit/{oid}.diff`: what a commit changed, as a patch. Without the ending it would be a page.
async fn commit_diff(State(hub): State<Hub>, request: Request) -> Answer<Response> {
    if !request.uri().path().ends_with(ENDING) {
        return no_such_route(State(hub), request).await;
    }
    let (mut parts, _) = request.into_parts();
    let caller = Caller::from_request_parts(&mut parts, &hub).await?;
    let route = RepoRoute::from_request_parts(&mut parts, &hub).await?;
    let name = route.joined_tail();
    let seen = caller.seen(&hub, &route.path).await?;
    let head = hub.resolve_revision(&seen.see(), name.trim_end_matches(ENDING)).await?;
    let base = hub.first_parent(&seen.see(), head).await?;
    patch(&hub, &caller, &route, Compared { base, head }).await
}

async fn commit(
    State(hub): State<Hub>,
    caller: Caller,
    route: RepoRoute,
    query: Query,
    uri: OriginalUri,
) -> Answer<Response> {
    let seen = caller.seen(&hub, &route.path).await?;
    let commit = hub.resolve_revision(&seen.see(), &route.joined_tail()).await?;
    let detail = hub.commit_detail(&seen.see(), commit).await?;
    let compared = Compared { base: detail.parents.first().copied(), head: commit };
    let (number, hunks) = (query.number("p")?.unwrap_or(0), query.flag("diff"));
    let limit = query.number("limit")?.unwrap_or(FILES).clamp(1, MAX_FILES);
    let skip = usize::try_from(number.saturating_mul(limit)).unwrap_or(usize::MAX);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let page = match seen {
        Seen::Gated(access) if !hunks => hub.diff_names(&access, compared, (skip, limit)).await?,
        Seen::Gated(_) | Seen::Open(_) => {
            let access = caller.repo::<Read>(&hub, &route.path).await?;
            let page =
                hub.diff(&access, compared, DiffQuery { skip, limit, budget: Budget::default() }).await?;
            if hunks {
                let bytes = page.files.iter().map(text_bytes).sum();
                hub.record_read(&caller.context, &access, delivery("diff", compared, bytes))?;
            }
            page
        }
    };
    let mut response = Json(detail_json(&detail, &page, hunks)).into_response();
    if skip.saturating_add(page.files.len()) < page.total {
        let next = page_link(hub.url(&caller.context), &uri.0, &query, number.saturating_add(1));
        response.headers_mut().insert(header::LINK, next);
    }
    Ok(response)
}

fn detail_json(detail: &CommitDetail, page: &DiffPage, hunks: bool) -> Value {
    let mut value = commit_json(&detail.item, false);
    if let Some(value) = value.as_object_mut() {
        value.extend(detail.item.pusher.as_ref().map(|user| ("pushedBy".to_owned(), user_json(user))));
        value.insert("parents".into(), json!(detail.parents));
        value.insert("filesCount".into(), json!(page.total));
        value.insert("filesComplete".into(), json!(page.complete));
        value.insert("files".into(), page.files.iter().map(|file| file_json(file, hunks)).collect());
    }
    value
}

fn file_json(file: &FileDiff, hunks: bool) -> Value {
    let mut value = json!({
        "path": file.path(),
        "status": file.status.as_str(),
        "old": file.old.as_ref().map(side_json),
        "new": file.new.as_ref().map(side_json),
    });
    let Some(object) = value.as_object_mut() else { return value };
    if let (Some(old), Some(new)) = (&file.old, &file.new)
        && old.path != new.path
    {
        object.insert("oldPath".into(), json!(old.path));
        object.insert("similarity".into(), json!(file.similarity));
    }
    let content = match &file.content {
        Content::Same => "same",
        Content::Text(_) => "text",
        Content::Binary => "binary",
        Content::Large => "large",
        Content::TooLarge => "too-large",
        Content::Omitted => "omitted",
    };
    object.insert("content".into(), json!(content));
    if let Some((additions, deletions)) = file.counts() {
        object.insert("additions".into(), json!(additions));
        object.insert("deletions".into(), json!(deletions));
    }
    if let (true, Content::Text(text)) = (hunks, &file.content) {
        object.insert("hunks".into(), text.hunks.iter().map(hunk_json).collect());
    }
    value
}

fn side_json(side: &Side) -> Value {
    let mut value = json!({ "oid": side.oid, "mode": side.mode.as_str(), "size": side.size });
    if let (Some(pointer), Some(value)) = (side.pointer, value.as_object_mut()) {
        value.insert("lfs".into(), json!({ "oid": pointer.sha256, "size": pointer.size }));
    }
    value
}

fn hunk_json(hunk: &Hunk) -> Value {
    let lines: Value = hunk
        .lines
        .iter()
        .map(|line| format!("{}{}", line.kind.sign(), String::from_utf8_lossy(&line.text)))
        .collect();
    json!({
        "oldStart": hunk.old_start,
        "oldLines": hunk.old_lines,
        "newStart": hunk.new_start,
        "newLines": hunk.new_lines,
        "section": String::from_utf8_lossy(&hunk.section),
        "lines": lines,
    })
}

fn text_bytes(file: &FileDiff) -> usize {
    let Content::Text(text) = &file.content else { return 0 };
    text.hunks.iter().flat_map(|hunk| &hunk.lines).map(|line| line.text.len()).sum()
}

async fn blame(State(hub): State<Hub>, caller: Caller, route: RepoRoute) -> Answer<Json<Value>> {
    let seen = caller.seen(&hub, &route.path).await?;
    let (commit, path) = hub.resolve_tail(&seen.see(), &route.tail).await?;
    let path = path
        .ok_or_else(|| Problem::EntryNotFound { message: "Entry not found".into(), commit: Some(commit) })?;
    let access = caller.repo::<Read>(&hub, &route.path).await?;
    let ranges = hub.blame(&access, commit, &path).await?;
    Ok(Json(blame_json(commit, path.as_str(), &ranges)))
}

/// Each commit once, and the ranges that name it.
fn blame_json(commit: Oid, path: &str, ranges: &[BlameLines]) -> Value {
    let mut commits = serde_json::Map::new();
    for range in ranges {
        let id = range.commit.id.to_string();
        commits.entry(id).or_insert_with(|| commit_json(&range.commit, false));
    }
    let rows = ranges.iter().map(|range| {
        json!({
            "start": range.start,
            "lines": range.lines,
            "commit": range.commit.id,
            "path": range.path,
            "notFurtherBack": !range.exact,
        })
    });
    let complete = ranges.iter().all(|range| range.exact);
    json!({ "commit": commit, "path": path, "complete": complete, "ranges": rows.collect::<Value>(), "commits": commits })
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RevertBody {
    branch: Option<String>,
    title: Option<String>,
    message: Option<String>,
    create_pr: Option<bool>,
}

async fn revert(
    State(hub): State<Hub>,
    caller: Caller,
    route: RepoRoute,
    JsonBody(body): JsonBody<RevertBody>,
) -> Answer<Json<Value>> {
    let purpose = if body.create_pr == Some(true) { Purpose::NewPull } else { Purpose::Branch };
    let by = caller.uploader(&hub, &route.path, purpose).await?;
    let commit = hub.resolve_revision(&by.reader(), &route.joined_tail()).await?;
    let branch = RefName::branch(body.branch.as_deref().unwrap_or("main"))?;
    let request = RevertRequest { commit, branch, title: body.title, message: body.message };
    let context = &caller.context;
    match (purpose, &by) {
        (Purpose::NewPull, _) => {
            let (commit, number) = hub.propose_revert(context, &by, &request).await?;
            Ok(Json(json!({ "commitOid": commit, "pullRequest": number })))
        }
        (_, Uploader::Writer(access)) => {
            let commit = hub.revert(context, access, &request).await?.id;
            Ok(Json(json!({ "commitOid": commit })))
        }
        // Nobody else is let through for a branch.
        (_, Uploader::Proposer(_)) => {
            Err(Problem::Forbidden("You don't have the rights for this.".into()).into())
        }
    }
}
