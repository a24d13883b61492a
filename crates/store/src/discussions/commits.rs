//! The commits that pull requests name: for when a history is written anew.

use bastide_core::id::RowId;
use bastide_core::{DiscussionEventKind, Oid};

use crate::db::{Reader, Row, WriteTx};
use crate::permit::{Access, Includes, See, Write};
use crate::{StoreError, values};

/// The commits that the row of a pull request names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullCommits {
    pub num: u64,
    pub base_commit: Option<Oid>,
    pub merge_commit: Option<Oid>,
}

/// Pull requests after a number, as far as they name commits.
pub async fn pull_commits<L: Includes<See>>(
    read: &mut Reader,
    access: &Access<L>,
    after: u64,
    limit: u32,
) -> Result<Vec<PullCommits>, StoreError> {
    let sql = "SELECT num, base_commit, merge_commit FROM discussion \
        WHERE repo_id = $1 AND num > $2 AND is_pull_request = 1 ORDER BY num LIMIT $3";
    let rows = read.scan(sql, values![access.repo_id(), after, limit]).await?;
    let pull =
        |row: &Row| Ok(PullCommits { num: row.get(0)?, base_commit: row.get(1)?, merge_commit: row.get(2)? });
    rows.iter().map(pull).collect()
}

pub async fn set_pull_commits<L: Includes<Write>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    pull: &PullCommits,
) -> Result<(), StoreError> {
    let sql = "UPDATE discussion SET base_commit = $3, merge_commit = $4 \
        WHERE repo_id = $1 AND num = $2";
    let PullCommits { num, base_commit, merge_commit } = pull;
    tx.execute(sql, values![access.repo_id(), *num, *base_commit, *merge_commit]).await?;
    Ok(())
}

/// An event that names a commit.
#[derive(Debug, Clone)]
pub struct CommitEvent {
    pub id: RowId,
    pub num: u64,
    pub place: i64,
    /// JSON.
    pub data: String,
}

/// Events that name commits, after a place in a pull request.
pub async fn commit_events<L: Includes<See>>(
    read: &mut Reader,
    access: &Access<L>,
    (num, place): (u64, i64),
    limit: u32,
) -> Result<Vec<CommitEvent>, StoreError> {
    let sql = "SELECT e.id, d.num, e.place, e.data FROM discussion d \
        JOIN discussion_event e ON e.discussion_id = d.id \
        WHERE d.repo_id = $1 AND d.num >= $2 AND (d.num > $2 OR e.place > $3) AND d.is_pull_request = 1 \
        AND e.kind IN ($4, $5) ORDER BY d.num, e.place LIMIT $6";
    let (commit, deletion) = (DiscussionEventKind::Commit, DiscussionEventKind::RefDeletion);
    let params = values![access.repo_id(), num, place, commit.as_str(), deletion.as_str(), limit];
    let rows = read.scan(sql, params).await?;
    let event = |row: &Row| {
        Ok(CommitEvent { id: row.get(0)?, num: row.get(1)?, place: row.get(2)?, data: row.get(3)? })
    };
    rows.iter().map(event).collect()
}

pub async fn set_commit_event<L: Includes<Write>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    event: &CommitEvent,
) -> Result<(), StoreError> {
    let sql = "UPDATE discussion_event SET data = $3 WHERE id = $2 \
        AND discussion_id IN (SELECT d.id FROM discussion d WHERE d.repo_id = $1 AND d.num = $4)";
    tx.execute(sql, values![access.repo_id(), event.id, &event.data, event.num]).await?;
    Ok(())
}
