//! What a payload says of a discussion, and of a comment in it.

use bastide_core::id::RowId;
use bastide_ledger::{Action, Event};
use bastide_store::discussions::{self, Discussion, EventRow};
use serde_json::{Value, json};

use super::told::Facts;
use crate::access::{Access, Read};
use crate::{Hub, Problem};

/// Who has written what somebody without an account any more has written.
const NOBODY: &str = "000000000000000000000000";

/// The parts of a payload that tell of a discussion.
pub struct DiscussionParts {
    pub discussion: Value,
    pub comment: Option<Value>,
}

/// A discussion, and the event of it whose words a payload has.
pub type Quoted = (RowId, Option<RowId>);

/// What the payload of an event quotes. That of a removal has what was written down for it alone.
pub fn quoted(event: &Event, payload: &str) -> Option<Quoted> {
    let facts = Facts::of(event);
    let id = |key| facts.text(key).and_then(|id| id.parse::<RowId>().ok());
    if event.action == Action::DiscussionDelete.as_str() {
        return None;
    }
    let payload: Value = serde_json::from_str(payload).unwrap_or_default();
    let says = payload.pointer("/comment/content").is_some();
    Some((id("discussion")?, id("event").filter(|_| says)))
}

impl Hub {
    /// `None` when there is nothing left to tell of: it is gone, or discussions are switched off.
    pub(super) async fn discussion_parts(
        &self,
        access: &Access<Read>,
        event: &Event,
        facts: &Facts,
    ) -> Result<Option<DiscussionParts>, Problem> {
        let Some(num) = facts.number("num").and_then(|num| u64::try_from(num).ok()) else { return Ok(None) };
        let mut read = self.db.read().await?;
        if discussions::summary(&mut read, access).await?.disabled {
            return Ok(None);
        }
        let page = self.discussion_page(access, num);
        let api = format!(
            "/api/{}/{}/discussions/{num}",
            access.repo().path.kind.plural(),
            access.repo().path.id()
        );
        let urls = json!({ "web": page, "api": format!("{}{api}", self.config.public_url) });
        if event.action == Action::DiscussionDelete.as_str() {
            return Ok(Some(DiscussionParts { discussion: gone(facts, num, &urls), comment: None }));
        }
        let Some(found) = discussions::get(&mut read, access, num).await? else { return Ok(None) };
        let id = facts.text("event").and_then(|id| id.parse::<RowId>().ok());
        let row = match id {
            Some(id) => discussions::event(&mut read, access, found.id, id).await?,
            None => None,
        };
        let comment = row.and_then(|row| comment_json(&row, &page));
        Ok(Some(DiscussionParts { discussion: discussion_json(&found, &urls), comment }))
    }

    fn discussion_page(&self, access: &Access<Read>, num: u64) -> String {
        format!("{}/{}/discussions/{num}", self.config.public_url, access.repo().path.url_path())
    }
}

fn discussion_json(found: &Discussion, urls: &Value) -> Value {
    let author = found.author_id.map_or_else(|| NOBODY.to_owned(), |author| author.to_string());
    let mut value = json!({
        "id": found.id,
        "num": found.num,
        "title": found.title,
        "isPullRequest": found.is_pull_request(),
        "status": found.status.as_str(),
        "pinned": found.pinned,
        "author": { "id": author },
        "url": urls,
    });
    if let (Some(pull), Some(value)) = (&found.pull_request, value.as_object_mut()) {
        let mut changes = json!({ "base": pull.base.as_str() });
        if let (Some(commit), Some(changes)) = (pull.merge_commit, changes.as_object_mut()) {
            changes.insert("mergeCommitId".to_owned(), commit.to_string().into());
        }
        value.insert("changes".to_owned(), changes);
    }
    value
}

/// A discussion that was removed, from what was written down then.
fn gone(facts: &Facts, num: u64, urls: &Value) -> Value {
    json!({
        "id": facts.text("discussion"),
        "num": num,
        "title": facts.text("title"),
        "isPullRequest": facts.flag("pull_request"),
        "status": facts.text("status"),
        "author": { "id": facts.text("author").unwrap_or(NOBODY) },
        "url": urls,
    })
}

/// What a comment says now; nothing when it is hidden.
fn comment_json(row: &EventRow, page: &str) -> Option<Value> {
    let comment = row.comment.as_ref()?;
    let author = row.author_id.map_or_else(|| NOBODY.to_owned(), |author| author.to_string());
    let mut value = json!({
        "id": row.id,
        "author": { "id": author },
        "hidden": comment.hidden_at.is_some(),
        "url": { "web": format!("{page}#{}", row.id) },
    });
    if let (Some(newest), Some(value)) = (comment.contents.last(), value.as_object_mut()) {
        value.insert("content".to_owned(), newest.content.as_str().into());
    }
    Some(value)
}
