//! The commits that pull requests name: for when a history is written anew, and for when a branch gets commits.

use bastide_core::id::RowId;
use bastide_core::{DiscussionEventKind, Oid, RefName};

use crate::db::{Reader, Row, WriteTx};
use crate::permit::{Access, Includes, Propose, See, Write};
use crate::{StoreError, values};

/// The commits that the row of a pull request names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullCommits {
    pub num: u64,
    pub base_commit: Option<Oid>,
    pub merge_commit: Option<Oid>,
    pub base_seen: Option<Oid>,
}

/// Pull requests after a number, as far as they name commits.
pub async fn pull_commits<L: Includes<See>>(
    read: &mut Reader,
    access: &Access<L>,
    after: u64,
    limit: u32,
) -> Result<Vec<PullCommits>, StoreError> {
    let sql = "SELECT num, base_commit, merge_commit, base_seen FROM discussion \
        WHERE repo_id = $1 AND num > $2 AND is_pull_request = 1 ORDER BY num LIMIT $3";
    let rows = read.scan(sql, values![access.repo_id(), after, limit]).await?;
    let pull = |row: &Row| {
        Ok(PullCommits {
            num: row.get(0)?,
            base_commit: row.get(1)?,
            merge_commit: row.get(2)?,
            base_seen: row.get(3)?,
        })
    };
    rows.iter().map(pull).collect()
}

pub async fn set_pull_commits<L: Includes<Write>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    pull: &PullCommits,
) -> Result<(), StoreError> {
    let sql = "UPDATE discussion SET base_commit = $3, merge_commit = $4, base_seen = $5 \
        WHERE repo_id = $1 AND num = $2";
    let PullCommits { num, base_commit, merge_commit, base_seen } = pull;
    tx.execute(sql, values![access.repo_id(), *num, *base_commit, *merge_commit, *base_seen]).await?;
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

/// A pull request that is open or a draft, and whose newest commit has come to its branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    pub num: u64,
    pub head: Oid,
    /// Where its branch stood when it was last moved.
    pub base_seen: Option<Oid>,
}

/// Those of some pull requests that are for a branch and neither closed nor merged.
pub async fn open_for<L: Includes<See>>(
    read: &mut Reader,
    access: &Access<L>,
    base: &RefName,
    heads: &[(u64, Oid)],
) -> Result<Vec<Reached>, StoreError> {
    let mut found = Vec::new();
    for (num, head) in heads {
        let sql = "SELECT base_seen FROM discussion WHERE repo_id = $1 AND num = $2 AND base_ref = $3 \
            AND is_pull_request = 1 AND is_open = 1";
        if let Some(row) = read.one(sql, values![access.repo_id(), *num, base.as_str()]).await? {
            found.push(Reached { num: *num, head: *head, base_seen: row.get(0)? });
        }
    }
    Ok(found)
}

/// Is there a pull request that is neither closed nor merged?
pub async fn any_open_pull<L: Includes<See>>(
    read: &mut Reader,
    access: &Access<L>,
) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM discussion_count WHERE repo_id = $1 AND open_pulls > 0";
    Ok(read.one(sql, values![access.repo_id()]).await?.is_some())
}

/// Keeps where the branch of a pull request stands, in the transaction that moves its commits.
pub(crate) async fn see_base<L: Includes<Propose>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    num: u64,
) -> Result<(), StoreError> {
    let sql = "UPDATE discussion SET base_seen = (SELECT r.commit_id FROM git_ref r \
        WHERE r.repo_id = discussion.repo_id AND r.name = discussion.base_ref) \
        WHERE repo_id = $1 AND num = $2 AND is_pull_request = 1";
    tx.execute(sql, values![access.repo_id(), num]).await?;
    Ok(())
}
