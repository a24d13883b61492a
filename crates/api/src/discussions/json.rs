//! How discussions and their events look on the wire. An author who is gone is left out: clients
//! take a missing key for that, and fail on null.

use bastide_core::Name;
use bastide_hub::access::Repo;
use bastide_hub::discussions::{Comment, CommentVersion, DiscussionRow, Event, PullRequest};
use bastide_hub::pulls::Conflicts;
use serde_json::{Map, Value, json};

use crate::answer::escape;

/// What stands where a comment was hidden.
const HIDDEN: &str = "This comment has been hidden";

/// A row of the list, and the head of a discussion.
pub fn discussion_json(repo: &Repo, discussion: &DiscussionRow) -> Value {
    let mut value = json!({
        "id": discussion.id,
        "num": discussion.num,
        "title": discussion.title,
        "status": discussion.status.as_str(),
        "isPullRequest": discussion.is_pull_request(),
        "createdAt": discussion.created_at,
        "updatedAt": discussion.updated_at,
        "pinned": discussion.pinned,
        "locked": discussion.locked,
        "numComments": discussion.comments,
        "repo": { "name": repo.path.id(), "type": repo.path.kind.as_str() },
    });
    if let Some(value) = value.as_object_mut() {
        add_author(value, discussion.author.as_ref());
        if let Some(pull) = &discussion.pull_request {
            value.insert("changes".into(), changes(pull));
        }
    }
    value
}

fn changes(pull: &PullRequest) -> Value {
    match pull.merge_commit {
        Some(commit) => json!({ "base": pull.base.as_str(), "mergeCommitId": commit }),
        None => json!({ "base": pull.base.as_str() }),
    }
}

/// The paths, or whether there are any when they are not known.
pub fn conflicts_json(conflicts: &Conflicts) -> Value {
    match conflicts {
        Conflicts::None => false.into(),
        Conflicts::Files(paths) => json!(**paths),
        Conflicts::Unknown => true.into(),
    }
}

pub fn event_json(event: &Event) -> Value {
    let data = match &event.comment {
        Some(comment) => comment_json(event, comment),
        None => serde_json::from_str(&event.data).unwrap_or_else(|_| json!({})),
    };
    let mut value = Map::new();
    value.insert("id".into(), json!(event.id));
    value.insert("type".into(), event.kind.as_str().into());
    value.insert("createdAt".into(), json!(event.created_at));
    add_author(&mut value, event.author.as_ref());
    value.insert("data".into(), data);
    Value::Object(value)
}

fn comment_json(event: &Event, comment: &Comment) -> Value {
    let edits = comment.versions.saturating_sub(1);
    let hidden = comment.hidden_at.is_some();
    let (latest, history) = match comment.contents.split_last() {
        Some((latest, earlier)) if !hidden => {
            (version_json(latest), earlier.iter().map(version_json).collect())
        }
        _ => (hidden_json(event, comment), Vec::new()),
    };
    json!({ "edited": edits > 0, "hidden": hidden, "latest": latest, "history": history, "numEdits": edits })
}

fn version_json(version: &CommentVersion) -> Value {
    let (raw, html) = (&version.content, paragraphs(&version.content));
    let mut value = json!({ "raw": raw, "html": html, "updatedAt": version.created_at });
    if let Some(value) = value.as_object_mut() {
        add_author(value, version.author.as_ref());
    }
    value
}

fn hidden_json(event: &Event, comment: &Comment) -> Value {
    let at = comment.hidden_at.unwrap_or(event.created_at);
    json!({ "raw": HIDDEN, "html": format!("<p>{HIDDEN}</p>"), "updatedAt": at })
}

fn add_author(value: &mut Map<String, Value>, author: Option<&Name>) {
    if let Some(author) = author {
        value.insert("author".into(), json!({ "name": author.as_str(), "type": "user" }));
    }
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
