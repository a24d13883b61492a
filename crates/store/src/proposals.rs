//! What those who may only propose have brought to a repository: counted from the moment that it is
//! stored until it is collected, is taken over by a merge, or is given up with its pull request's ref.

use bastide_core::{NamespaceId, Sha256, id::RowId};

use crate::db::{Reader, WriteTx};
use crate::permit::{Access, Includes, Propose, Write};
use crate::{StoreError, values};

/// The bytes that somebody has brought to a repository without the right to write to it.
pub async fn used_bytes<L: Includes<Propose>>(
    read: &mut Reader,
    access: &Access<L>,
    user: NamespaceId,
) -> Result<u64, StoreError> {
    let sql = "SELECT CAST(COALESCE(SUM(u.bytes), 0) AS BIGINT) FROM ( \
        SELECT bytes FROM proposal_xorb WHERE repo_id = $1 AND user_id = $2 \
        UNION ALL SELECT bytes FROM proposal_file WHERE repo_id = $1 AND user_id = $2 \
        UNION ALL SELECT bytes FROM proposal_commit WHERE repo_id = $1 AND user_id = $2) u";
    read.one(sql, values![access.repo_id(), user]).await?.map_or(Ok(0), |row| row.get(0))
}

/// Counts a xorb that is new to the repository, as long as the repository has it.
pub async fn charge_xorb<L: Includes<Propose>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    (user, xorb): (NamespaceId, RowId),
    bytes: u64,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO proposal_xorb (repo_id, xorb_id, user_id, bytes) VALUES ($1, $2, $3, $4) \
        ON CONFLICT (repo_id, xorb_id) DO NOTHING";
    tx.execute(sql, values![access.repo_id(), xorb, user, bytes]).await?;
    Ok(())
}

/// Counts what the row of a file takes, for whoever was the first to register it.
pub async fn charge_file<L: Includes<Propose>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    (user, sha256): (NamespaceId, Sha256),
    bytes: u64,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO proposal_file (file_id, repo_id, user_id, bytes) \
        SELECT id, repo_id, $3, $4 FROM xet_file WHERE repo_id = $1 AND sha256 = $2 \
        ON CONFLICT (file_id) DO NOTHING";
    tx.execute(sql, values![access.repo_id(), sha256, user, bytes]).await?;
    Ok(())
}

/// Counts a commit to a pull request, as long as its ref is there.
pub async fn charge_commit<L: Includes<Propose>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    (user, number): (NamespaceId, u64),
    bytes: u64,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO proposal_commit (repo_id, number, user_id, bytes) VALUES ($1, $2, $3, $4) \
        ON CONFLICT (repo_id, number, user_id) DO UPDATE SET bytes = proposal_commit.bytes + excluded.bytes";
    tx.execute(sql, values![access.repo_id(), number, user, bytes]).await?;
    Ok(())
}

/// The commits of a pull request do not count any more: they were merged, or their ref is gone.
pub async fn release_commits<L: Includes<Write>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    number: u64,
) -> Result<(), StoreError> {
    let sql = "DELETE FROM proposal_commit WHERE repo_id = $1 AND number = $2";
    tx.execute(sql, values![access.repo_id(), number]).await?;
    Ok(())
}

/// A file does not count any more, nor does what it is made of: a branch has it.
pub async fn release_file<L: Includes<Write>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    sha256: Sha256,
) -> Result<(), StoreError> {
    const FILES: &str = "SELECT id FROM xet_file WHERE repo_id = $1 AND sha256 = $2";
    let sql = format!(
        "DELETE FROM proposal_xorb WHERE repo_id = $1 AND xorb_id IN \
         (SELECT xorb_id FROM file_xorb WHERE file_id IN ({FILES}))"
    );
    tx.execute(&sql, values![access.repo_id(), sha256]).await?;
    let sql = format!("DELETE FROM proposal_file WHERE repo_id = $1 AND file_id IN ({FILES})");
    tx.execute(&sql, values![access.repo_id(), sha256]).await?;
    Ok(())
}
