//! What the packs of repositories hold that nothing needs any more: noted when it is lost, until it is pruned.

use bastide_core::{Oid, RepoId, Timestamp};

use crate::db::{Reader, WriteTx};
use crate::permit::{Access, Admin, Includes, See, Write};
use crate::{StoreError, values};

/// What a repository has lost since it was pruned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// Commits that collection has dropped.
    pub commits: u64,
    /// Since when.
    pub since: Timestamp,
    /// Somebody has asked for room, or for something to be gone.
    pub urgent: bool,
}

pub async fn loss<L: Includes<See>>(
    read: &mut Reader,
    access: &Access<L>,
) -> Result<Option<Loss>, StoreError> {
    let sql = "SELECT commits, since, urgent FROM git_loss WHERE repo_id = $1";
    let row = read.one(sql, values![access.repo_id()]).await?;
    row.map(|row| Ok(Loss { commits: row.get(0)?, since: row.get(1)?, urgent: row.get::<i64>(2)? > 0 }))
        .transpose()
}

/// Repositories whose packs hold what nothing needs.
pub async fn unpruned(read: &mut Reader) -> Result<u64, StoreError> {
    let row = read.one("SELECT COUNT(*) FROM git_loss WHERE commits > 0", &[]).await?;
    row.map_or(Ok(0), |row| row.get(0))
}

/// Notes that collection has dropped commits.
pub async fn lost(
    tx: &mut WriteTx,
    access: &Access<Admin>,
    commits: u64,
    now: Timestamp,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO git_loss (repo_id, commits, since, urgent) VALUES ($1, $2, $3, 0) \
        ON CONFLICT (repo_id) DO UPDATE SET \
        since = CASE WHEN git_loss.commits > 0 THEN git_loss.since ELSE excluded.since END, \
        commits = git_loss.commits + excluded.commits";
    tx.execute(sql, values![access.repo_id(), commits, now]).await?;
    Ok(())
}

/// Notes that what collection will drop is to be gone as soon as it has.
pub async fn hurry<L: Includes<Write>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO git_loss (repo_id, commits, since, urgent) VALUES ($1, 0, $2, 1) \
        ON CONFLICT (repo_id) DO UPDATE SET urgent = 1";
    tx.execute(sql, values![access.repo_id(), now]).await?;
    Ok(())
}

/// Notes that of what a repository has lost so many commits are in its packs no more: more may have been dropped since
/// they were looked at. `hurry` stays for as long as collection has something left to drop.
pub async fn settled<L: Includes<Write>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    (commits, more): (u64, bool),
) -> Result<(), StoreError> {
    let sql = "UPDATE git_loss SET commits = commits - $1 WHERE repo_id = $2";
    tx.execute(sql, values![commits, access.repo_id()]).await?;
    let sql = match more {
        true => "DELETE FROM git_loss WHERE repo_id = $1 AND commits <= 0 AND urgent = 0",
        false => "DELETE FROM git_loss WHERE repo_id = $1 AND commits <= 0",
    };
    tx.execute(sql, values![access.repo_id()]).await?;
    Ok(())
}

/// How often a repository was pruned.
pub async fn prunings<L: Includes<See>>(read: &mut Reader, access: &Access<L>) -> Result<i64, StoreError> {
    let sql = "SELECT prunings FROM repo WHERE id = $1";
    read.one(sql, values![access.repo_id()]).await?.map_or(Ok(0), |row| row.get(0))
}

/// Says to whoever has looked at the objects of a repository that some are gone.
pub async fn pruned<L: Includes<Write>>(tx: &mut WriteTx, access: &Access<L>) -> Result<(), StoreError> {
    tx.execute("UPDATE repo SET prunings = prunings + 1 WHERE id = $1", values![access.repo_id()]).await?;
    Ok(())
}

/// Every commit that has a row.
pub async fn commits<L: Includes<See>>(
    read: &mut Reader,
    access: &Access<L>,
) -> Result<Vec<Oid>, StoreError> {
    let sql = "SELECT commit_id FROM git_commit WHERE repo_id = $1";
    read.scan(sql, values![access.repo_id()]).await?.iter().map(|row| row.get(0)).collect()
}

/// A copy of a repository has its packs, with what nothing needs in them.
pub(crate) async fn copy_loss(tx: &mut WriteTx, from: RepoId, to: RepoId) -> Result<(), StoreError> {
    let sql = "INSERT INTO git_loss (repo_id, commits, since, urgent) \
        SELECT $1, commits, since, urgent FROM git_loss WHERE repo_id = $2";
    tx.execute(sql, values![to, from]).await?;
    Ok(())
}
