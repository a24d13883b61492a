//! What those who may only propose have brought to a repository: counted from the moment that it is
//! stored until its bytes are gone, it becomes the owner's, or its whole discussion is deleted. Who was the
//! first to bring something is charged for it, and nobody else.

use bastide_core::{NamespaceId, Oid, RepoId, Sha256, Timestamp, id::RowId};

use crate::db::{Reader, Row, Value, WriteTx};
use crate::permit::{Access, Includes, Propose, Write};
use crate::{StoreError, storage, values};

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

/// Counts a xorb that is new to the repository, as long as the repository has it, or until it is the owner's.
pub async fn charge_xorb<L: Includes<Propose>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    (user, xorb): (NamespaceId, RowId),
    bytes: u64,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO proposal_xorb (repo_id, xorb_id, user_id, bytes) VALUES ($1, $2, $3, $4) \
        ON CONFLICT (repo_id, xorb_id) DO NOTHING \
        RETURNING (SELECT x.stored_bytes FROM xorb x WHERE x.id = xorb_id), bytes";
    let row = tx.one(sql, values![access.repo_id(), xorb, user, bytes]).await?;
    note(tx, access.repo_id(), row.as_slice(), 1).await
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
        ON CONFLICT (file_id) DO NOTHING RETURNING 0, bytes";
    let rows = tx.all(sql, values![access.repo_id(), sha256, user, bytes]).await?;
    note(tx, access.repo_id(), &rows, 1).await
}

/// What a commit to a pull request is charged, and what of that its pack takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitCharge {
    pub price: u64,
    pub pack_bytes: u64,
}

/// Counts a commit to a pull request, until it is merged, or its bytes are gone after its ref was deleted.
pub async fn charge_commit<L: Includes<Propose>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    (user, number): (NamespaceId, u64),
    charge: CommitCharge,
) -> Result<(), StoreError> {
    let CommitCharge { price, pack_bytes } = charge;
    let sql = "INSERT INTO proposal_commit (repo_id, number, user_id, bytes, pack_bytes) \
        VALUES ($1, $2, $3, $4, $5) ON CONFLICT (repo_id, number, user_id) DO UPDATE SET \
        bytes = proposal_commit.bytes + excluded.bytes, pack_bytes = proposal_commit.pack_bytes + excluded.pack_bytes";
    tx.execute(sql, values![access.repo_id(), number, user, price, pack_bytes]).await?;
    let signed = |bytes| i64::try_from(bytes).unwrap_or(i64::MAX);
    storage::propose(tx, access.repo_id(), (signed(pack_bytes), signed(price))).await
}

/// The commits of a pull request do not count any more as proposed: they were merged and are the owner's, or
/// are gone.
pub async fn release_commits<L: Includes<Write>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    number: u64,
) -> Result<(), StoreError> {
    let sql = "DELETE FROM proposal_commit WHERE repo_id = $1 AND number = $2 RETURNING pack_bytes, bytes";
    let rows = tx.all(sql, values![access.repo_id(), number]).await?;
    note(tx, access.repo_id(), &rows, -1).await
}

/// Notes where the ref of a pull request was that is gone: what was brought to it counts until its bytes are gone.
pub async fn leave_commits<L: Includes<Write>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    (number, head): (u64, Oid),
) -> Result<(), StoreError> {
    let sql = "UPDATE proposal_commit SET head = $1 WHERE repo_id = $2 AND number = $3";
    tx.execute(sql, values![head, access.repo_id(), number]).await?;
    Ok(())
}

/// Packs have no more than so many bytes that neither a branch nor a tag needs: nobody is let off more than that.
pub async fn bound_bytes<L: Includes<Write>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    bytes: u64,
) -> Result<(), StoreError> {
    let sql = "SELECT CAST(COALESCE(SUM(pack_bytes), 0) AS BIGINT) FROM proposal_commit WHERE repo_id = $1";
    let noted = tx.one(sql, values![access.repo_id()]).await?.map_or(Ok(0), |row| row.get(0))?;
    repacked(tx, access, (noted, bytes)).await
}

/// Packs that together had `before` bytes have `after` now, with the same objects: what proposals have in packs
/// shrinks with them, so that nobody is let off bytes that are not there.
pub async fn repacked<L: Includes<Write>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    (before, after): (u64, u64),
) -> Result<(), StoreError> {
    if after >= before {
        return Ok(());
    }
    let sql = "SELECT number, user_id, pack_bytes FROM proposal_commit WHERE repo_id = $1 AND pack_bytes > 0";
    for row in tx.all(sql, values![access.repo_id()]).await? {
        let (number, user, bytes): (i64, i64, u64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let less = u128::from(bytes) * u128::from(after) / u128::from(before);
        let less = i64::try_from(less).unwrap_or(i64::MAX);
        let sql =
            "UPDATE proposal_commit SET pack_bytes = $1 WHERE repo_id = $2 AND number = $3 AND user_id = $4";
        tx.execute(sql, values![less, access.repo_id(), number, user]).await?;
        let change = less - i64::try_from(bytes).unwrap_or(i64::MAX);
        storage::propose(tx, access.repo_id(), (change, 0)).await?;
    }
    Ok(())
}

/// A file does not count any more as proposed, nor does what it is made of: it is the owner's.
pub async fn release_file<L: Includes<Write>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    sha256: Sha256,
) -> Result<(), StoreError> {
    const FILES: &str = "SELECT id FROM xet_file WHERE repo_id = $1 AND sha256 = $2";
    let repo = access.repo_id();
    let sql = format!(
        "DELETE FROM proposal_xorb WHERE repo_id = $1 AND xorb_id IN \
         (SELECT xorb_id FROM file_xorb WHERE file_id IN ({FILES})) \
         RETURNING (SELECT x.stored_bytes FROM xorb x WHERE x.id = xorb_id), bytes"
    );
    let rows = tx.all(&sql, values![repo, sha256]).await?;
    note(tx, repo, &rows, -1).await?;
    let sql =
        format!("DELETE FROM proposal_file WHERE repo_id = $1 AND file_id IN ({FILES}) RETURNING 0, bytes");
    let rows = tx.all(&sql, values![repo, sha256]).await?;
    note(tx, repo, &rows, -1).await
}

/// Is anything of a repository charged to proposers?
pub async fn any<L: Includes<Propose>>(read: &mut Reader, access: &Access<L>) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM repo WHERE id = $1 AND proposal_price <> 0";
    Ok(read.one(sql, values![access.repo_id()]).await?.is_some())
}

/// The files that are charged to proposers, or that are made of what is.
pub async fn charged_files<L: Includes<Write>>(
    read: &mut Reader,
    access: &Access<L>,
) -> Result<Vec<Sha256>, StoreError> {
    let sql = "SELECT t.sha256 FROM proposal_file p JOIN xet_file t ON t.id = p.file_id \
        WHERE p.repo_id = $1 AND t.sha256 IS NOT NULL UNION SELECT t.sha256 FROM proposal_xorb p \
        JOIN file_xorb f ON f.xorb_id = p.xorb_id JOIN xet_file t ON t.id = f.file_id AND t.repo_id = p.repo_id \
        WHERE p.repo_id = $1 AND t.sha256 IS NOT NULL";
    read.scan(sql, values![access.repo_id()]).await?.iter().map(|row| row.get(0)).collect()
}

/// The pull requests whose commits are charged to proposers; where their refs were, if they are gone.
pub async fn charged_pulls<L: Includes<Write>>(
    read: &mut Reader,
    access: &Access<L>,
) -> Result<Vec<(u64, Option<Oid>)>, StoreError> {
    let sql = "SELECT DISTINCT number, head FROM proposal_commit WHERE repo_id = $1";
    let rows = read.scan(sql, values![access.repo_id()]).await?;
    rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
}

/// Removes the row of a file, which `sql` deletes, and what it is charged. Says whether there was one.
pub(crate) async fn drop_file(
    tx: &mut WriteTx,
    sql: &str,
    (repo, file): (RepoId, RowId),
    params: &[Value],
) -> Result<bool, StoreError> {
    // Its row goes with that of the file.
    let charge = "SELECT 0, bytes FROM proposal_file WHERE file_id = $1";
    let charged = tx.one(charge, values![file]).await?;
    if tx.execute(sql, params).await? == 0 {
        return Ok(false);
    }
    note(tx, repo, charged.as_slice(), -1).await?;
    Ok(true)
}

/// Notes charges that have come, or gone: rows of stored bytes and prices.
async fn note(tx: &mut WriteTx, repo: RepoId, rows: &[Row], sign: i64) -> Result<(), StoreError> {
    let (mut bytes, mut price) = (0, 0);
    for row in rows {
        bytes += row.get::<i64>(0)?;
        price += row.get::<i64>(1)?;
    }
    storage::propose(tx, repo, (sign * bytes, sign * price)).await
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
