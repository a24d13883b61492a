//! What those who may only propose have brought to a repository: counted from the moment that it is
//! stored until it is collected, is taken over by a merge, or is given up with its pull request's ref.

use bastide_core::{NamespaceId, Sha256, Timestamp, id::RowId};

use crate::db::{Reader, Value, WriteTx};
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

/// The pull requests that a user has open in a repository.
pub async fn open_pulls<L: Includes<Propose>>(
    read: &mut Reader,
    access: &Access<L>,
    user: NamespaceId,
) -> Result<u64, StoreError> {
    let sql = "SELECT COUNT(*) FROM discussion \
        WHERE repo_id = $1 AND author_id = $2 AND is_pull_request = 1 AND is_open = 1";
    read.one(sql, values![access.repo_id(), user]).await?.map_or(Ok(0), |row| row.get(0))
}

/// How many pull requests a user has opened since `from`, in repositories of others too, and when the first of them.
pub async fn pulls_since<L: Includes<Propose>>(
    read: &mut Reader,
    _access: &Access<L>,
    user: NamespaceId,
    from: Timestamp,
) -> Result<(u64, Option<Timestamp>), StoreError> {
    let sql = "SELECT COUNT(*), MIN(created_at) FROM discussion \
        WHERE author_id = $1 AND created_at > $2 AND is_pull_request = 1";
    let row = read.one(sql, values![user, from]).await?;
    row.map_or(Ok((0, None)), |row| Ok((row.get(0)?, row.get(1)?)))
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

/// The stored bytes that files of a repository have to themselves: xorbs that no other file of it has need of, and
/// whose blobs no other repository shares.
pub async fn bytes_of_files_alone<L: Includes<Write>>(
    read: &mut Reader,
    access: &Access<L>,
    files: &[Sha256],
) -> Result<u64, StoreError> {
    if files.is_empty() {
        return Ok(0);
    }
    let places: Vec<String> = (2..files.len() + 2).map(|place| format!("${place}")).collect();
    let those = format!("SELECT id FROM xet_file WHERE repo_id = $1 AND sha256 IN ({})", places.join(", "));
    let sql = format!(
        "SELECT CAST(COALESCE(SUM(x.stored_bytes), 0) AS BIGINT) FROM xorb x WHERE x.id IN \
         (SELECT f.xorb_id FROM file_xorb f WHERE f.file_id IN ({those})) \
         AND NOT EXISTS (SELECT 1 FROM file_xorb f JOIN xet_file t ON t.id = f.file_id \
            WHERE f.xorb_id = x.id AND t.id NOT IN ({those})) \
         AND NOT EXISTS (SELECT 1 FROM xorb o WHERE o.blob_key = x.blob_key AND o.id <> x.id)"
    );
    let files = files.iter().map(|sha256| Value::from(*sha256));
    let params: Vec<Value> = std::iter::once(Value::from(access.repo_id())).chain(files).collect();
    read.scan(&sql, &params).await?.first().map_or(Ok(0), |row| row.get(0))
}
