//! What collection and checking ask: everything that there is, and what nothing refers to.

use bastide_core::{RepoId, Sha256, Timestamp, XetHash, id::RowId};

use crate::db::{Reader, WriteTx};
use crate::permit::{Access, Admin, Includes, Read};
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
}

pub async fn xorbs(read: &mut Reader) -> Result<Vec<XorbFacts>, StoreError> {
    xorbs_where(read, "TRUE", &[]).await
}

/// Xorbs that were condemned before a moment and that nobody has wanted since.
pub async fn condemned(read: &mut Reader, before: Timestamp) -> Result<Vec<XorbFacts>, StoreError> {
    xorbs_where(read, "state = 'condemned' AND state_at < $1", values![before]).await
}

async fn xorbs_where(
    read: &mut Reader,
    condition: &str,
    params: &[crate::db::Value],
) -> Result<Vec<XorbFacts>, StoreError> {
    let sql =
        format!("SELECT id, hash, blob_key, index_key, stored_bytes FROM xorb WHERE {condition} ORDER BY id");
    let rows = read.scan(&sql, params).await?;
    let facts = |row: &crate::db::Row| {
        Ok(XorbFacts {
            id: row.get(0)?,
            hash: row.get(1)?,
            blob_key: row.get(2)?,
            index_key: row.get(3)?,
            stored_bytes: row.get(4)?,
        })
    };
    rows.iter().map(facts).collect()
}

/// The files of a repository: their hashes, to be opened one by one.
pub async fn files<L: Includes<Read>>(
    read: &mut Reader,
    access: &Access<L>,
) -> Result<Vec<XetHash>, StoreError> {
    let sql = "SELECT hash FROM xet_file WHERE repo_id = $1 ORDER BY id";
    read.scan(sql, values![access.repo_id()]).await?.iter().map(|row| row.get(0)).collect()
}

/// Takes files out of a repository that no commit points at and nobody has touched since
/// `before`, and with them the rights to xorbs that no file needs. Says how many rows went.
pub async fn drop_unused(
    tx: &mut WriteTx,
    access: &Access<Admin>,
    used: &std::collections::HashSet<Sha256>,
    before: Timestamp,
) -> Result<u64, StoreError> {
    let repo = access.repo_id();
    let sql = "SELECT id, sha256 FROM xet_file WHERE repo_id = $1 AND touched_at < $2";
    let mut dropped = 0;
    for row in tx.all(sql, values![repo, before]).await? {
        let (id, sha256): (RowId, Option<Sha256>) = (row.get(0)?, row.get(1)?);
        if sha256.is_none_or(|sha256| !used.contains(&sha256)) {
            dropped += tx.execute("DELETE FROM xet_file WHERE id = $1", values![id]).await?;
        }
    }
    let sql = "DELETE FROM repo_xorb WHERE repo_id = $1 AND created_at < $2 AND NOT EXISTS (SELECT 1 FROM file_xorb f \
        JOIN xet_file x ON x.id = f.file_id WHERE x.repo_id = $1 AND f.xorb_id = repo_xorb.xorb_id)";
    dropped += tx.execute(sql, values![repo, before]).await?;
    if dropped > 0 {
        // Every client's memory of what is here is void from now on.
        tx.execute("UPDATE repo SET epoch = epoch + 1 WHERE id = $1", values![repo]).await?;
    }
    Ok(dropped)
}

/// Condemns the xorbs that no repository may use. They are kept for another while.
pub async fn condemn(tx: &mut WriteTx, now: Timestamp) -> Result<u64, StoreError> {
    let sql = "UPDATE xorb SET state = 'condemned', state_at = $1 WHERE state = 'live' \
        AND NOT EXISTS (SELECT 1 FROM repo_xorb r WHERE r.xorb_id = xorb.id)";
    tx.execute(sql, values![now]).await
}

/// Removes the row of a condemned xorb, if it still is. Only then may its bytes go.
pub async fn remove_xorb(tx: &mut WriteTx, id: RowId) -> Result<bool, StoreError> {
    let sql = "DELETE FROM xorb WHERE id = $1 AND state = 'condemned' \
        AND NOT EXISTS (SELECT 1 FROM repo_xorb r WHERE r.xorb_id = xorb.id)";
    Ok(tx.execute(sql, values![id]).await? > 0)
}

/// Forgets uploads in parts that were never finished.
pub async fn drop_uploads(tx: &mut WriteTx, now: Timestamp) -> Result<u64, StoreError> {
    tx.execute("DELETE FROM lfs_upload WHERE expires_at < $1", values![now]).await
}
