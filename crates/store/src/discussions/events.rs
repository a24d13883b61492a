//! Events of discussions, and what comments say and said.

use bastide_core::id::RowId;
use bastide_core::{DiscussionEventKind, Name, NamespaceId, Timestamp};

use super::{Discussion, shown_name};
use crate::db::{Reader, Row, Value, WriteTx};
use crate::gate::parse;
use crate::permit::{Access, Includes, Propose, Read};
use crate::{StoreError, values};

#[derive(Debug, Clone)]
pub struct EventRow {
    pub id: RowId,
    pub kind: DiscussionEventKind,
    pub author_id: Option<NamespaceId>,
    /// `None` when the account is gone or disabled.
    pub author: Option<Name>,
    pub created_at: Timestamp,
    /// JSON: what its kind says. Of comments nothing.
    pub data: String,
    /// Of comments alone.
    pub comment: Option<Comment>,
}

#[derive(Debug, Clone)]
pub struct Comment {
    /// How often it was written: once, and once more for each edit.
    pub versions: u64,
    pub hidden_at: Option<Timestamp>,
    /// What it said, the oldest first. Empty when it is hidden: that is not read for anybody.
    pub contents: Vec<CommentVersion>,
}

#[derive(Debug, Clone)]
pub struct CommentVersion {
    pub content: String,
    pub author: Option<Name>,
    pub created_at: Timestamp,
}

const EVENTS: &str = "\
    SELECT e.id, e.kind, e.author_id, n.name, e.created_at, e.data, e.versions, e.hidden_at, v.content, w.name, v.created_at \
    FROM discussion_event e JOIN discussion d ON d.id = e.discussion_id \
    LEFT JOIN namespace n ON n.id = e.author_id AND n.disabled_at IS NULL \
    LEFT JOIN comment_version v ON v.event_id = e.id AND e.hidden_at IS NULL \
    LEFT JOIN namespace w ON w.id = v.author_id AND w.disabled_at IS NULL \
    WHERE e.discussion_id = $1 AND d.repo_id = $2";

/// All that happened in a discussion of this repository, in order.
pub async fn events<L: Includes<Read>>(
    read: &mut Reader,
    access: &Access<L>,
    discussion: &Discussion,
) -> Result<Vec<EventRow>, StoreError> {
    let sql = format!("{EVENTS} ORDER BY e.place, v.version");
    let params = values![discussion.id, access.repo_id()];
    let few = discussion.events <= FEW_EVENTS && discussion.content_bytes <= FEW_BYTES;
    gather(&if few { read.all(&sql, params).await? } else { read.scan(&sql, params).await? })
}

/// So much is read in place; more goes to the blocking pool.
const FEW_EVENTS: u64 = 200;
const FEW_BYTES: u64 = 256 * 1024;

/// One event of a discussion.
pub async fn event<L: Includes<Read>>(
    read: &mut Reader,
    access: &Access<L>,
    discussion: RowId,
    event: RowId,
) -> Result<Option<EventRow>, StoreError> {
    let sql = format!("{EVENTS} AND e.id = $3 ORDER BY v.version");
    Ok(gather(&read.all(&sql, values![discussion, access.repo_id(), event]).await?)?.pop())
}

/// Rows, one for each version of a comment, as events.
fn gather(rows: &[Row]) -> Result<Vec<EventRow>, StoreError> {
    let mut events: Vec<EventRow> = Vec::new();
    for row in rows {
        let id: RowId = row.get(0)?;
        if events.last().is_none_or(|last| last.id != id) {
            events.push(event_row(id, row)?);
        }
        if let (Some(content), Some(event)) = (row.get::<Option<String>>(8)?, events.last_mut())
            && let Some(comment) = &mut event.comment
        {
            let (author, created_at) = (shown_name(row, 9)?, row.get(10)?);
            comment.contents.push(CommentVersion { content, author, created_at });
        }
    }
    Ok(events)
}

fn event_row(id: RowId, row: &Row) -> Result<EventRow, StoreError> {
    let kind: DiscussionEventKind = parse(row, 1)?;
    let comment = match kind {
        DiscussionEventKind::Comment => {
            Some(Comment { versions: row.get(6)?, hidden_at: row.get(7)?, contents: Vec::new() })
        }
        _ => None,
    };
    let (author_id, author) = (row.get(2)?, shown_name(row, 3)?);
    Ok(EventRow { id, kind, author_id, author, created_at: row.get(4)?, data: row.get(5)?, comment })
}

pub struct NewDiscussionEvent<'a> {
    pub kind: DiscussionEventKind,
    pub author: Option<NamespaceId>,
    /// JSON: what its kind says.
    pub data: &'a str,
    pub now: Timestamp,
}

/// Adds an event to a discussion of this repository.
pub async fn add_event<L: Includes<Propose>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    discussion: RowId,
    new: &NewDiscussionEvent<'_>,
) -> Result<RowId, StoreError> {
    let sql = "UPDATE discussion SET events = events + 1, updated_at = $1 WHERE id = $2 AND repo_id = $3";
    if tx.execute(sql, values![new.now, discussion, access.repo_id()]).await? == 0 {
        return Err(StoreError::Corrupt(format!("an event for discussion {discussion}, which is not there")));
    }
    let id = RowId::new(new.now);
    let sql = "INSERT INTO discussion_event (id, discussion_id, place, kind, author_id, created_at, data) \
        SELECT $1, d.id, d.events, $2, $3, $4, $5 FROM discussion d WHERE d.id = $6";
    let params = values![id, new.kind.as_str(), new.author, new.now, new.data, discussion];
    tx.execute(sql, params).await?;
    Ok(id)
}

/// What somebody writes: a comment, or another version of one.
pub struct NewVersion<'a> {
    pub content: &'a str,
    pub author: Option<NamespaceId>,
    pub now: Timestamp,
}

/// Adds a comment to a discussion of this repository.
pub async fn add_comment<L: Includes<Propose>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    discussion: RowId,
    new: &NewVersion<'_>,
) -> Result<RowId, StoreError> {
    let (kind, author, now) = (DiscussionEventKind::Comment, new.author, new.now);
    let event = NewDiscussionEvent { kind, author, data: "{}", now };
    let id = add_event(tx, access, discussion, &event).await?;
    let sql = "UPDATE discussion SET comments = comments + 1 WHERE id = $1";
    tx.execute(sql, values![discussion]).await?;
    insert_version(tx, discussion, id, new).await?;
    Ok(id)
}

/// Gives a comment, which is not hidden, another content. False when there is no such comment.
pub async fn add_version<L: Includes<Propose>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    (discussion, event): (RowId, RowId),
    new: &NewVersion<'_>,
) -> Result<bool, StoreError> {
    let sql = format!("SELECT 1 {SHOWN_COMMENT}");
    if tx.one(&sql, values![event, discussion, access.repo_id()]).await?.is_none() {
        return Ok(false);
    }
    insert_version(tx, discussion, event, new).await?;
    Ok(true)
}

/// What a version counts besides its content: its row, and its keys in an answer.
const VERSION_BYTES: usize = 100;

const SHOWN_COMMENT: &str = "FROM discussion_event e JOIN discussion d ON d.id = e.discussion_id \
    WHERE e.id = $1 AND d.id = $2 AND d.repo_id = $3 AND e.kind = 'comment' AND e.hidden_at IS NULL";

async fn insert_version(
    tx: &mut WriteTx,
    discussion: RowId,
    event: RowId,
    new: &NewVersion<'_>,
) -> Result<(), StoreError> {
    let sql = "UPDATE discussion_event SET versions = versions + 1 WHERE id = $1";
    tx.execute(sql, values![event]).await?;
    let sql = "INSERT INTO comment_version (event_id, version, content, author_id, created_at) \
        SELECT e.id, e.versions, $1, $2, $3 FROM discussion_event e WHERE e.id = $4";
    tx.execute(sql, values![new.content, new.author, new.now, event]).await?;
    let sql = "UPDATE discussion SET content_bytes = content_bytes + $1, updated_at = $2 WHERE id = $3";
    tx.execute(sql, values![new.content.len() + VERSION_BYTES, new.now, discussion]).await?;
    Ok(())
}

/// Hides a comment for good. False when there is none that is shown.
pub async fn hide<L: Includes<Propose>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    (discussion, event): (RowId, RowId),
    by: Option<NamespaceId>,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let sql = format!("SELECT 1 {SHOWN_COMMENT}");
    if tx.one(&sql, values![event, discussion, access.repo_id()]).await?.is_none() {
        return Ok(false);
    }
    let sql = "UPDATE discussion_event SET hidden_at = $1, hidden_by = $2 WHERE id = $3";
    tx.execute(sql, values![now, by, event]).await?;
    let sql = "UPDATE discussion SET comments = comments - 1, updated_at = $1 WHERE id = $2";
    tx.execute(sql, values![now, discussion]).await?;
    Ok(true)
}

/// How somebody comes to take part in a discussion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Participant {
    Wrote,
    Mentioned,
}

/// Notes who takes part in a discussion of this repository, and since when.
pub async fn note_participants<L: Includes<Propose>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    discussion: RowId,
    users: &[(NamespaceId, Participant)],
    now: Timestamp,
) -> Result<(), StoreError> {
    for (user, how) in users {
        let column = match how {
            Participant::Wrote => "wrote_at",
            Participant::Mentioned => "mentioned_at",
        };
        let sql = format!(
            "INSERT INTO discussion_participant (discussion_id, user_id, {column}) \
             SELECT d.id, $1, $2 FROM discussion d WHERE d.id = $3 AND d.repo_id = $4 \
             ON CONFLICT (discussion_id, user_id) DO UPDATE SET {column} = excluded.{column}"
        );
        tx.execute(&sql, values![*user, now, discussion, access.repo_id()]).await?;
    }
    Ok(())
}

/// The users among some names, as they are written in lower case.
pub async fn users_named<L: Includes<Propose>>(
    read: &mut Reader,
    _access: &Access<L>,
    keys: &[String],
) -> Result<Vec<NamespaceId>, StoreError> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let places: Vec<String> = (1..=keys.len()).map(|place| format!("${place}")).collect();
    let sql = format!(
        "SELECT id FROM namespace WHERE kind = 'user' AND disabled_at IS NULL AND name_key IN ({})",
        places.join(", ")
    );
    let keys: Vec<Value> = keys.iter().map(Value::from).collect();
    read.all(&sql, &keys).await?.iter().map(|row| row.get(0)).collect()
}
