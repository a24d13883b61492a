//! How discussions and their events look on the wire. An author who is gone is left out: clients
//! take a missing key for that, and fail on null.

use bastide_core::id::RowId;
use bastide_core::{Name, Oid, Timestamp};
use bastide_hub::access::Repo;
use bastide_hub::discussions::{Comment, CommentVersion, Discussion, EventRow, PullRequest};
use bastide_hub::pulls::Conflicts;
use serde::Serialize;
use serde_json::{Value, json};

use crate::answer::escape;

/// What stands where a comment was hidden.
const HIDDEN: &str = "This comment has been hidden";

/// A row of the list, and the head of a discussion.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DiscussionJson<'a> {
    id: RowId,
    num: u64,
    title: &'a str,
    status: &'static str,
    is_pull_request: bool,
    created_at: Timestamp,
    updated_at: Timestamp,
    pinned: bool,
    locked: bool,
    num_comments: u64,
    repo: RepoJson<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    author: Option<AuthorJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<ChangesJson<'a>>,
}

/// The repository of a discussion, whose id is put together once for all rows of a list.
#[derive(Serialize, Clone, Copy)]
pub struct RepoJson<'a> {
    pub name: &'a str,
    #[serde(rename = "type")]
    pub kind: &'static str,
}

#[derive(Serialize)]
struct AuthorJson<'a> {
    name: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ChangesJson<'a> {
    base: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    merge_commit_id: Option<Oid>,
}

impl<'a> DiscussionJson<'a> {
    pub fn new(repo: RepoJson<'a>, discussion: &'a Discussion) -> Self {
        Self {
            id: discussion.id,
            num: discussion.num,
            title: &discussion.title,
            status: discussion.status.as_str(),
            is_pull_request: discussion.is_pull_request(),
            created_at: discussion.created_at,
            updated_at: discussion.updated_at,
            pinned: discussion.pinned,
            locked: discussion.locked,
            num_comments: discussion.comments,
            repo,
            author: author(discussion.author.as_ref()),
            changes: discussion.pull_request.as_ref().map(changes),
        }
    }
}

fn changes(pull: &PullRequest) -> ChangesJson<'_> {
    ChangesJson { base: pull.base.as_str(), merge_commit_id: pull.merge_commit }
}

fn author(name: Option<&Name>) -> Option<AuthorJson<'_>> {
    name.map(|name| AuthorJson { name: name.as_str(), kind: "user" })
}

/// The head of a discussion by itself.
pub fn discussion_json(repo: &Repo, discussion: &Discussion) -> Value {
    let id = repo.path.id();
    let repo = RepoJson { name: &id, kind: repo.path.kind.as_str() };
    json!(DiscussionJson::new(repo, discussion))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EventJson<'a> {
    id: RowId,
    #[serde(rename = "type")]
    kind: &'static str,
    created_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    author: Option<AuthorJson<'a>>,
    data: DataJson<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum DataJson<'a> {
    Comment(CommentJson<'a>),
    Other(Value),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CommentJson<'a> {
    edited: bool,
    hidden: bool,
    latest: LatestJson<'a>,
    history: Vec<VersionJson<'a>>,
    num_edits: u64,
}

#[derive(Serialize)]
struct LatestJson<'a> {
    html: String,
    #[serde(flatten)]
    version: VersionJson<'a>,
}

/// An earlier version is text alone: all of them together can be much.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct VersionJson<'a> {
    raw: &'a str,
    updated_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    author: Option<AuthorJson<'a>>,
}

impl<'a> From<&'a EventRow> for EventJson<'a> {
    fn from(event: &'a EventRow) -> Self {
        let data = match &event.comment {
            Some(comment) => DataJson::Comment(comment_json(event, comment)),
            None => DataJson::Other(serde_json::from_str(&event.data).unwrap_or_else(|_| json!({}))),
        };
        let author = author(event.author.as_ref());
        Self { id: event.id, kind: event.kind.as_str(), created_at: event.created_at, author, data }
    }
}

/// The paths, or whether there are any when they are not known.
pub fn conflicts_json(conflicts: &Conflicts) -> Value {
    match conflicts {
        Conflicts::None => false.into(),
        Conflicts::Files(paths) => json!(**paths),
        Conflicts::Unrelated | Conflicts::Unknown => true.into(),
    }
}

/// An event by itself.
pub fn event_json(event: &EventRow) -> Value {
    json!(EventJson::from(event))
}

fn comment_json<'a>(event: &EventRow, comment: &'a Comment) -> CommentJson<'a> {
    let num_edits = comment.versions.saturating_sub(1);
    let hidden = comment.hidden_at.is_some();
    let (latest, history) = match comment.contents.split_last() {
        Some((latest, earlier)) if !hidden => {
            (latest_json(latest), earlier.iter().map(version_json).collect())
        }
        _ => (hidden_json(comment.hidden_at.unwrap_or(event.created_at)), Vec::new()),
    };
    CommentJson { edited: num_edits > 0, hidden, latest, history, num_edits }
}

fn latest_json(version: &CommentVersion) -> LatestJson<'_> {
    LatestJson { html: paragraphs(&version.content), version: version_json(version) }
}

fn version_json(version: &CommentVersion) -> VersionJson<'_> {
    let author = author(version.author.as_ref());
    VersionJson { raw: &version.content, updated_at: version.created_at, author }
}

fn hidden_json(updated_at: Timestamp) -> LatestJson<'static> {
    LatestJson { html: paragraphs(HIDDEN), version: VersionJson { raw: HIDDEN, updated_at, author: None } }
}

/// Text as HTML: paragraphs and line ends, and nothing that somebody wrote is markup.
fn paragraphs(text: &str) -> String {
    let parts = text.split("\n\n").map(str::trim).filter(|part| !part.is_empty());
    parts
        .map(|part| format!("<p>{}</p>", escape(part).replace('\n', "<br>\n")))
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_somebody_wrote_is_markup() {
        assert_eq!(
            paragraphs("<script>alert('&')</script>\nb\n\n\n[x](javascript:1) <img src=\"x\" onerror=y>"),
            "<p>&lt;script&gt;alert(&#39;&amp;&#39;)&lt;/script&gt;<br>\nb</p>\n\
             <p>[x](javascript:1) &lt;img src=&quot;x&quot; onerror=y&gt;</p>"
        );
        assert_eq!(paragraphs(" \n\n"), "");
    }
}
