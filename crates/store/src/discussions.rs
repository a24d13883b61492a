//! Discussions and pull requests: one list with numbers of its own for each repository.
//!
//! A pull request is a discussion with a base; its commits hang on `refs/pr/{num}`, which
//! `refs::swap_pull_request` moves. What is said and what happens in either are its events.

mod changes;
mod check;
mod commits;
mod events;
mod limits;
mod list;

pub use changes::{
    Merged, remove, set_locked, set_merged, set_pinned, set_ref_deleted, set_status, set_title,
};
pub use check::faults;
pub(crate) use commits::see_base;
pub use commits::{
    CommitEvent, PullCommits, Reached, any_open_pull, commit_events, open_for, pull_commits,
    set_commit_event, set_pull_commits,
};
pub use events::{
    Comment, CommentVersion, EventRow, NewDiscussionEvent, NewVersion, Participant, add_comment, add_event,
    add_version, event, events, hide, note_participants, users_named,
};
pub use limits::{Spent, comments_since, opened_since};
pub use list::{DiscussionOrder, DiscussionPage, DiscussionQuery, list};

use bastide_core::id::RowId;
use bastide_core::{DiscussionStatus, Name, NamespaceId, Oid, RefName, RepoId, Timestamp};

use crate::db::{Reader, Row, WriteTx};
use crate::gate::parse;
use crate::permit::{Access, Includes, Propose, Read};
use crate::{StoreError, values};

#[derive(Debug, Clone)]
pub struct Discussion {
    pub id: RowId,
    pub num: u64,
    pub title: String,
    pub status: DiscussionStatus,
    /// `None` when the account is gone.
    pub author_id: Option<NamespaceId>,
    /// What is shown: `None` also when the account is disabled.
    pub author: Option<Name>,
    pub pinned: bool,
    /// Only who may write can comment.
    pub locked: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// Events of all kinds, comments that are not hidden, bytes of all versions of all comments.
    pub events: u64,
    pub comments: u64,
    pub content_bytes: u64,
    pub pull_request: Option<PullRequest>,
}

impl Discussion {
    pub const fn is_pull_request(&self) -> bool {
        self.pull_request.is_some()
    }

    pub fn is_author(&self, user: Option<NamespaceId>) -> bool {
        user.is_some() && self.author_id == user
    }
}

/// What a pull request has besides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullRequest {
    /// The branch that it is for.
    pub base: RefName,
    /// Where that branch stood when it was merged.
    pub base_commit: Option<Oid>,
    pub merge_commit: Option<Oid>,
    /// Its commits can no longer be fetched: it stays closed.
    pub ref_deleted_at: Option<Timestamp>,
}

pub(super) const COLUMNS: &str = "d.id, d.num, d.title, d.status, d.author_id, n.name, d.pinned, d.locked, d.created_at, \
    d.updated_at, d.events, d.comments, d.content_bytes, d.is_pull_request, d.base_ref, d.base_commit, d.merge_commit, \
    d.ref_deleted_at";
const DISABLED: usize = 18;
pub(super) const AUTHOR: &str = "LEFT JOIN namespace n ON n.id = d.author_id AND n.disabled_at IS NULL";

pub(super) fn discussion(row: &Row) -> Result<Discussion, StoreError> {
    Ok(Discussion {
        id: row.get(0)?,
        num: row.get(1)?,
        title: row.get(2)?,
        status: parse(row, 3)?,
        author_id: row.get(4)?,
        author: shown_name(row, 5)?,
        pinned: row.get(6)?,
        locked: row.get(7)?,
        created_at: row.get(8)?,
        updated_at: row.get(9)?,
        events: row.get(10)?,
        comments: row.get(11)?,
        content_bytes: row.get(12)?,
        pull_request: if row.get(13)? { Some(pull_request(row)?) } else { None },
    })
}

fn pull_request(row: &Row) -> Result<PullRequest, StoreError> {
    Ok(PullRequest {
        base: parse(row, 14)?,
        base_commit: row.get(15)?,
        merge_commit: row.get(16)?,
        ref_deleted_at: row.get(17)?,
    })
}

/// The name of an account that is neither gone nor disabled.
pub(super) fn shown_name(row: &Row, column: usize) -> Result<Option<Name>, StoreError> {
    row.get::<Option<String>>(column)?.map(|name| crate::gate::corrupt(name.parse())).transpose()
}

/// The discussion or pull request with a number.
pub async fn get<L: Includes<Read>>(
    read: &mut Reader,
    access: &Access<L>,
    num: u64,
) -> Result<Option<Discussion>, StoreError> {
    Ok(get_with_setting(read, access, num).await?.map(|(found, _)| found))
}

/// The same, and whether the owner wants no discussions.
pub async fn get_with_setting<L: Includes<Read>>(
    read: &mut Reader,
    access: &Access<L>,
    num: u64,
) -> Result<Option<(Discussion, bool)>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS}, r.discussions_disabled FROM discussion d JOIN repo r ON r.id = d.repo_id {AUTHOR} \
         WHERE d.repo_id = $1 AND d.num = $2"
    );
    let row = read.one(&sql, values![access.repo_id(), num]).await?;
    row.map(|row| Ok((discussion(&row)?, row.get(DISABLED)?))).transpose()
}

/// What a repository says of its discussions as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// The owner wants none.
    pub disabled: bool,
    /// The last number that was given.
    pub last_num: u64,
    pub open_discussions: u64,
    pub closed_discussions: u64,
    pub open_pulls: u64,
    pub closed_pulls: u64,
}

pub async fn summary<L: Includes<Read>>(
    read: &mut Reader,
    access: &Access<L>,
) -> Result<Summary, StoreError> {
    let sql = "SELECT r.discussions_disabled, COALESCE(c.last_num, 0), COALESCE(c.open_discussions, 0), \
        COALESCE(c.closed_discussions, 0), COALESCE(c.open_pulls, 0), COALESCE(c.closed_pulls, 0) \
        FROM repo r LEFT JOIN discussion_count c ON c.repo_id = r.id WHERE r.id = $1";
    let Some(row) = read.one(sql, values![access.repo_id()]).await? else { return Ok(Summary::default()) };
    Ok(Summary {
        disabled: row.get(0)?,
        last_num: row.get(1)?,
        open_discussions: row.get(2)?,
        closed_discussions: row.get(3)?,
        open_pulls: row.get(4)?,
        closed_pulls: row.get(5)?,
    })
}

pub struct NewDiscussion<'a> {
    pub id: RowId,
    pub title: &'a str,
    pub status: DiscussionStatus,
    pub author: Option<NamespaceId>,
    /// The branch that a pull request is for.
    pub base: Option<&'a RefName>,
    pub now: Timestamp,
}

/// Adds a discussion or a pull request and gives it its number. Its description is a comment of its own.
pub async fn create<L: Includes<Propose>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    new: &NewDiscussion<'_>,
) -> Result<u64, StoreError> {
    let (repo, is_open) = (access.repo_id(), new.status.is_open());
    let num = next_num(tx, repo).await?;
    let sql = "INSERT INTO discussion (id, repo_id, num, is_pull_request, status, is_open, title, title_key, author_id, \
        created_at, updated_at, base_ref) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10, $11)";
    let params = values![
        new.id,
        repo,
        num,
        new.base.is_some(),
        new.status.as_str(),
        is_open,
        new.title,
        new.title.to_lowercase(),
        new.author,
        new.now,
        new.base.map(RefName::as_str)
    ];
    tx.execute(sql, params).await?;
    count(tx, repo, new.base.is_some(), is_open, 1).await?;
    Ok(num)
}

async fn next_num(tx: &mut WriteTx, repo: RepoId) -> Result<u64, StoreError> {
    let sql = "INSERT INTO discussion_count (repo_id, last_num) VALUES ($1, 1) \
        ON CONFLICT (repo_id) DO UPDATE SET last_num = discussion_count.last_num + 1";
    tx.execute(sql, values![repo]).await?;
    let row = tx.one("SELECT last_num FROM discussion_count WHERE repo_id = $1", values![repo]).await?;
    row.ok_or_else(|| StoreError::Corrupt("a count without a row".to_owned()))?.get(0)
}

/// Counts one more, or one less.
async fn count(
    tx: &mut WriteTx,
    repo: RepoId,
    is_pull: bool,
    is_open: bool,
    by: i64,
) -> Result<(), StoreError> {
    let column = match (is_pull, is_open) {
        (false, true) => "open_discussions",
        (false, false) => "closed_discussions",
        (true, true) => "open_pulls",
        (true, false) => "closed_pulls",
    };
    let sql = format!("UPDATE discussion_count SET {column} = {column} + $1 WHERE repo_id = $2");
    tx.execute(&sql, values![by, repo]).await?;
    Ok(())
}
