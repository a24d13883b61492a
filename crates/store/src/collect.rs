//! What collection and checking ask: everything that there is, and what nothing refers to.

use bastide_core::{Oid, RepoId, Sha256, Timestamp, XetHash, id::RowId};

use crate::db::{Reader, WriteTx};
use crate::permit::{Access, Admin};
use crate::{StoreError, values};

/// Every repository, for the operator's walks.
pub async fn repo_ids(read: &mut Reader) -> Result<Vec<RepoId>, StoreError> {
    read.scan("SELECT id FROM repo ORDER BY id", &[]).await?.iter().map(|row| row.get(0)).collect()
}

/// A xorb as the walk over all of them needs it.
#[derive(Debug, Clone)]
pub struct XorbFacts {
    pub id: RowId,
    pub hash: XetHash,
    pub blob_key: String,
    pub index_key: String,
    pub stored_bytes: u64,
    pub raw_bytes: u64,
    pub chunks: u64,
    pub damaged: bool,
}

const FACTS: &str = "id, hash, blob_key, index_key, stored_bytes, raw_bytes, chunks, damaged_at IS NOT NULL";

pub async fn xorbs(read: &mut Reader) -> Result<Vec<XorbFacts>, StoreError> {
    xorbs_where(read, "TRUE", &[]).await
}

/// Is a xorb still here, and stored where it was?
pub async fn is_current(read: &mut Reader, xorb: &XorbFacts) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM xorb WHERE id = $1 AND blob_key = $2 AND index_key = $3";
    Ok(read.one(sql, values![xorb.id, &xorb.blob_key, &xorb.index_key]).await?.is_some())
}

/// Xorbs that were condemned before a moment.
pub async fn condemned(read: &mut Reader, before: Timestamp) -> Result<Vec<XorbFacts>, StoreError> {
    xorbs_where(read, "state = 'condemned' AND state_at < $1", values![before]).await
}

async fn xorbs_where(
    read: &mut Reader,
    condition: &str,
    params: &[crate::db::Value],
) -> Result<Vec<XorbFacts>, StoreError> {
    let sql = format!("SELECT {FACTS} FROM xorb WHERE {condition} ORDER BY id");
    let rows = read.scan(&sql, params).await?;
    let facts = |row: &crate::db::Row| {
        Ok(XorbFacts {
            id: row.get(0)?,
            hash: row.get(1)?,
            blob_key: row.get(2)?,
            index_key: row.get(3)?,
            stored_bytes: row.get(4)?,
            raw_bytes: row.get(5)?,
            chunks: row.get(6)?,
            damaged: row.get(7)?,
        })
    };
    rows.iter().map(facts).collect()
}

/// How often refs of a repository have moved.
pub async fn ref_moves(read: &mut Reader, access: &Access<Admin>) -> Result<Option<i64>, StoreError> {
    let sql = "SELECT ref_moves FROM repo WHERE id = $1";
    read.one(sql, values![access.repo_id()]).await?.map(|row| row.get(0)).transpose()
}

/// A file, as far as collection is concerned.
#[derive(Debug, Clone)]
pub struct FileMark {
    pub id: RowId,
    pub sha256: Option<Sha256>,
    pub touched_at: Timestamp,
    pub unused_since: Option<Timestamp>,
}

pub async fn file_marks(read: &mut Reader, access: &Access<Admin>) -> Result<Vec<FileMark>, StoreError> {
    let sql = "SELECT id, sha256, touched_at, unused_since FROM xet_file WHERE repo_id = $1 ORDER BY id";
    let mark = |row: &crate::db::Row| {
        Ok(FileMark {
            id: row.get(0)?,
            sha256: row.get(1)?,
            touched_at: row.get(2)?,
            unused_since: row.get(3)?,
        })
    };
    read.scan(sql, values![access.repo_id()]).await?.iter().map(mark).collect()
}

/// The commits of a repository and since when no ref reaches them; children before their parents.
pub async fn commit_marks(
    read: &mut Reader,
    access: &Access<Admin>,
) -> Result<Vec<(Oid, Option<Timestamp>)>, StoreError> {
    let sql = "SELECT commit_id, unused_since FROM git_commit WHERE repo_id = $1 ORDER BY generation DESC";
    let rows = read.scan(sql, values![access.repo_id()]).await?;
    rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
}

/// One step of collection in a repository. A thing goes when it was marked long enough ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    MarkCommit(Oid),
    KeepCommit(Oid),
    DropCommit(Oid),
    MarkFile(RowId),
    KeepFile(RowId),
    DropFile(RowId),
    /// The right to a xorb that no file and no upload needs.
    DropRight(RowId),
}

/// Takes one step, if what it rests on still holds: nothing that was marked or touched since
/// `before` goes. Says whether a row changed.
pub async fn take(
    tx: &mut WriteTx,
    access: &Access<Admin>,
    step: Step,
    (now, before): (Timestamp, Timestamp),
) -> Result<bool, StoreError> {
    let repo = access.repo_id();
    let changed = match step {
        Step::MarkCommit(id) => {
            let sql = "UPDATE git_commit SET unused_since = $1 \
                WHERE repo_id = $2 AND commit_id = $3 AND unused_since IS NULL";
            tx.execute(sql, values![now, repo, id]).await?
        }
        Step::KeepCommit(id) => {
            let sql = "UPDATE git_commit SET unused_since = NULL WHERE repo_id = $1 AND commit_id = $2";
            tx.execute(sql, values![repo, id]).await?
        }
        Step::DropCommit(id) => {
            let sql = "DELETE FROM git_commit WHERE repo_id = $1 AND commit_id = $2 AND unused_since < $3";
            tx.execute(sql, values![repo, id, before]).await?
        }
        Step::MarkFile(id) => {
            let sql = "UPDATE xet_file SET unused_since = $1 \
                WHERE id = $2 AND repo_id = $3 AND unused_since IS NULL AND touched_at < $4";
            tx.execute(sql, values![now, id, repo, before]).await?
        }
        Step::KeepFile(id) => {
            let sql = "UPDATE xet_file SET unused_since = NULL WHERE id = $1 AND repo_id = $2";
            tx.execute(sql, values![id, repo]).await?
        }
        Step::DropFile(id) => {
            let sql = "DELETE FROM xet_file \
                WHERE id = $1 AND repo_id = $2 AND unused_since < $3 AND touched_at < $3";
            u64::from(crate::proposals::drop_file(tx, sql, (repo, id), values![id, repo, before]).await?)
        }
        Step::DropRight(xorb) => {
            let sql = format!("DELETE FROM repo_xorb WHERE xorb_id = $4 AND {UNNEEDED}");
            u64::from(crate::xet::drop_right(tx, &sql, (repo, xorb), values![repo, before, now, xorb]).await?)
        }
    };
    Ok(changed > 0)
}

/// Rights of the repository $1 that were last wanted before $2 and that neither a file nor, as of
/// $3, an upload in parts has need of.
const UNNEEDED: &str = "repo_id = $1 AND touched_at < $2 \
    AND NOT EXISTS (SELECT 1 FROM file_xorb f JOIN xet_file t ON t.id = f.file_id \
        WHERE t.repo_id = $1 AND f.xorb_id = repo_xorb.xorb_id) \
    AND NOT EXISTS (SELECT 1 FROM lfs_part_xorb p JOIN lfs_upload u ON u.id = p.upload_id \
        WHERE u.repo_id = $1 AND u.expires_at > $3 AND p.xorb_id = repo_xorb.xorb_id)";

pub async fn unneeded_rights(
    read: &mut Reader,
    access: &Access<Admin>,
    (now, before): (Timestamp, Timestamp),
) -> Result<Vec<RowId>, StoreError> {
    let sql = format!("SELECT xorb_id FROM repo_xorb WHERE {UNNEEDED} ORDER BY xorb_id");
    let rows = read.scan(&sql, values![access.repo_id(), before, now]).await?;
    rows.iter().map(|row| row.get(0)).collect()
}

/// Removes the changed paths of commits that were dropped.
pub async fn drop_changes(tx: &mut WriteTx, access: &Access<Admin>) -> Result<u64, StoreError> {
    let sql = "DELETE FROM git_change WHERE repo_id = $1 AND NOT EXISTS (SELECT 1 FROM git_commit c \
        WHERE c.repo_id = $1 AND c.commit_id = git_change.commit_id)";
    tx.execute(sql, values![access.repo_id()]).await
}

/// Voids every client's memory of what a repository has.
pub async fn next_epoch(tx: &mut WriteTx, access: &Access<Admin>) -> Result<(), StoreError> {
    tx.execute("UPDATE repo SET epoch = epoch + 1 WHERE id = $1", values![access.repo_id()]).await?;
    Ok(())
}

/// Condemns up to `limit` xorbs that no repository may use. They are kept for another while: somebody
/// may be reading them.
pub async fn condemn(tx: &mut WriteTx, now: Timestamp, limit: u32) -> Result<u64, StoreError> {
    let sql = "UPDATE xorb SET state = 'condemned', state_at = $1 WHERE id IN (SELECT x.id FROM xorb x \
        WHERE x.state = 'live' AND NOT EXISTS (SELECT 1 FROM repo_xorb r WHERE r.xorb_id = x.id) LIMIT $2)";
    tx.execute(sql, values![now, limit]).await
}

/// Removes the row of a condemned xorb, if it still is. Answers those of its blobs that no other row
/// names: only they may go. `None` when somebody else has removed it.
pub async fn remove_xorb(tx: &mut WriteTx, id: RowId) -> Result<Option<Vec<String>>, StoreError> {
    let sql = "DELETE FROM xorb WHERE id = $1 AND state = 'condemned' \
        AND NOT EXISTS (SELECT 1 FROM repo_xorb r WHERE r.xorb_id = xorb.id) RETURNING blob_key, index_key";
    let Some(row) = tx.one(sql, values![id]).await? else { return Ok(None) };
    crate::xet::unnamed(tx, row.get(0)?, row.get(1)?).await.map(Some)
}

/// Forgets uploads in parts that were never finished.
pub async fn drop_uploads(tx: &mut WriteTx, now: Timestamp) -> Result<u64, StoreError> {
    tx.execute("DELETE FROM lfs_upload WHERE expires_at < $1", values![now]).await
}

/// Notes what a check found of a xorb's stored bytes. Damage voids what clients remember of the
/// repositories that have it, so that they send the bytes again. Says whether that is new.
pub async fn set_damaged(
    tx: &mut WriteTx,
    xorb: &XorbFacts,
    damaged: bool,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let old = if damaged { "IS NULL" } else { "IS NOT NULL" };
    let sql = format!("UPDATE xorb SET damaged_at = $1 WHERE id = $2 AND blob_key = $3 AND damaged_at {old}");
    if tx.execute(&sql, values![damaged.then_some(now), xorb.id, &xorb.blob_key]).await? == 0 {
        return Ok(false);
    }
    let sql =
        "UPDATE repo SET epoch = epoch + 1 WHERE id IN (SELECT repo_id FROM repo_xorb WHERE xorb_id = $1)";
    tx.execute(sql, values![xorb.id]).await?;
    Ok(true)
}

/// Xorbs that were not yet compared with the others of their hash.
pub async fn uncompared(read: &mut Reader, limit: u32) -> Result<Vec<XorbFacts>, StoreError> {
    let condition =
        format!("id IN (SELECT id FROM xorb WHERE compared_at IS NULL ORDER BY id LIMIT {limit})");
    xorbs_where(read, &condition, &[]).await
}

/// Older xorbs of the same hash and size that are stored elsewhere: one for each place.
pub async fn twins(read: &mut Reader, xorb: &XorbFacts, limit: u32) -> Result<Vec<XorbFacts>, StoreError> {
    let condition = format!(
        "id IN (SELECT MIN(id) FROM xorb WHERE hash = $1 AND stored_bytes = $2 AND blob_key <> $3 AND id < $4 \
         AND state = 'live' AND damaged_at IS NULL GROUP BY blob_key ORDER BY 1 LIMIT {limit})"
    );
    let params = values![xorb.hash, xorb.stored_bytes, &xorb.blob_key, xorb.id];
    xorbs_where(read, &condition, params).await
}

/// Makes a xorb name the blobs of another whose stored bytes are the same, if both still are what they
/// were when they were compared. Its own blobs are left to collection: somebody may be reading them.
pub async fn share(tx: &mut WriteTx, xorb: &XorbFacts, with: &XorbFacts) -> Result<bool, StoreError> {
    let sql = "UPDATE xorb SET blob_key = $1, index_key = $2 WHERE id = $3 AND blob_key = $4 \
        AND EXISTS (SELECT 1 FROM xorb o WHERE o.id = $5 AND o.blob_key = $1 AND o.state = 'live' \
        AND o.damaged_at IS NULL)";
    let params = values![&with.blob_key, &with.index_key, xorb.id, &xorb.blob_key, with.id];
    Ok(tx.execute(sql, params).await? > 0)
}

/// Notes that xorbs have been compared with the others of their hash.
pub async fn compared(tx: &mut WriteTx, xorbs: &[XorbFacts], now: Timestamp) -> Result<(), StoreError> {
    for xorb in xorbs {
        let sql = "UPDATE xorb SET compared_at = $1 WHERE id = $2 AND compared_at IS NULL";
        tx.execute(sql, values![now, xorb.id]).await?;
    }
    Ok(())
}
