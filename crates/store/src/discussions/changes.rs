//! What changes of a discussion as a whole. The events that tell of it are added beside.

use bastide_core::id::RowId;
use bastide_core::{DiscussionStatus, Oid, RepoId, Timestamp};

use super::{Discussion, count};
use crate::db::{Value, WriteTx};
use crate::permit::{Access, Includes, Propose, Write};
use crate::{StoreError, values};

/// Gives a discussion another status. For `Merged` there is `set_merged`.
pub async fn set_status<L: Includes<Propose>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    discussion: &Discussion,
    status: DiscussionStatus,
    now: Timestamp,
) -> Result<(), StoreError> {
    place(tx, access.repo_id(), discussion, status, now).await
}

async fn place(
    tx: &mut WriteTx,
    repo: RepoId,
    discussion: &Discussion,
    status: DiscussionStatus,
    now: Timestamp,
) -> Result<(), StoreError> {
    let columns = "status = $4, is_open = $5";
    let values = [Value::from(status.as_str()), status.is_open().into()];
    update(tx, repo, discussion.id, now, columns, &values).await?;
    if discussion.status.is_open() != status.is_open() {
        let is_pull = discussion.is_pull_request();
        count(tx, repo, is_pull, discussion.status.is_open(), -1).await?;
        count(tx, repo, is_pull, status.is_open(), 1).await?;
    }
    Ok(())
}

/// What merging did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Merged {
    /// Where the base stood before; nothing where nobody knows it any more.
    pub base_commit: Option<Oid>,
    pub merge_commit: Oid,
}

/// Ends a pull request whose commits are in the branch that it is for.
pub async fn set_merged<L: Includes<Write>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    discussion: &Discussion,
    merged: Merged,
    now: Timestamp,
) -> Result<(), StoreError> {
    let columns = "base_commit = $4, merge_commit = $5";
    let values = [merged.base_commit.into(), merged.merge_commit.into()];
    update(tx, access.repo_id(), discussion.id, now, columns, &values).await?;
    place(tx, access.repo_id(), discussion, DiscussionStatus::Merged, now).await
}

pub async fn set_title<L: Includes<Propose>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    discussion: RowId,
    title: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let values = [title.into(), title.to_lowercase().into()];
    update(tx, access.repo_id(), discussion, now, "title = $4, title_key = $5", &values).await
}

pub async fn set_pinned<L: Includes<Write>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    discussion: RowId,
    pinned: bool,
    now: Timestamp,
) -> Result<(), StoreError> {
    update(tx, access.repo_id(), discussion, now, "pinned = $4", &[pinned.into()]).await
}

pub async fn set_locked<L: Includes<Write>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    discussion: RowId,
    locked: bool,
    now: Timestamp,
) -> Result<(), StoreError> {
    update(tx, access.repo_id(), discussion, now, "locked = $4", &[locked.into()]).await
}

/// The commits of a pull request can no longer be fetched.
pub async fn set_ref_deleted<L: Includes<Write>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    discussion: RowId,
    now: Timestamp,
) -> Result<(), StoreError> {
    update(tx, access.repo_id(), discussion, now, "ref_deleted_at = $4", &[now.into()]).await
}

/// Sets columns of a discussion of this repository, whose values are `$4` and on.
async fn update(
    tx: &mut WriteTx,
    repo: RepoId,
    discussion: RowId,
    now: Timestamp,
    columns: &str,
    values: &[Value],
) -> Result<(), StoreError> {
    let sql = format!("UPDATE discussion SET updated_at = $1, {columns} WHERE id = $2 AND repo_id = $3");
    let mut params = values![now, discussion, repo].to_vec();
    params.extend_from_slice(values);
    tx.execute(&sql, &params).await?;
    Ok(())
}

/// Removes a discussion with all that was said in it. Its number is not given again.
pub async fn remove<L: Includes<Write>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    discussion: &Discussion,
) -> Result<(), StoreError> {
    let sql = "DELETE FROM discussion WHERE id = $1 AND repo_id = $2";
    if tx.execute(sql, values![discussion.id, access.repo_id()]).await? > 0 {
        let (is_pull, is_open) = (discussion.is_pull_request(), discussion.status.is_open());
        count(tx, access.repo_id(), is_pull, is_open, -1).await?;
    }
    Ok(())
}
