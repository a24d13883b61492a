//! Large files as rows: xorbs, who may use them, files and what they are made of.
//!
//! A row of `repo_xorb` or `xet_file` is the right to use; knowing a hash is none.

use std::collections::HashMap;

use bastide_core::{RepoId, Sha256, Timestamp, XetHash, id::RowId};

use crate::db::{Reader, Row, Value, WriteTx};
use crate::permit::{Access, Includes, Propose, Rank, Read, See, Write};
use crate::{StoreError, storage, values};

#[derive(Debug, Clone)]
pub struct Xorb {
    pub id: RowId,
    pub hash: XetHash,
    pub blob_key: String,
    pub index_key: String,
    pub stored_bytes: u64,
    pub raw_bytes: u64,
    /// A check found its stored bytes to be wrong.
    pub damaged: bool,
}

const XORB: &str =
    "x.id, x.hash, x.blob_key, x.index_key, x.stored_bytes, x.raw_bytes, x.damaged_at IS NOT NULL";

fn xorb(row: &Row) -> Result<Xorb, StoreError> {
    Ok(Xorb {
        id: row.get(0)?,
        hash: row.get(1)?,
        blob_key: row.get(2)?,
        index_key: row.get(3)?,
        stored_bytes: row.get(4)?,
        raw_bytes: row.get(5)?,
        damaged: row.get(6)?,
    })
}

/// A xorb that this repository may use.
pub async fn xorb_of<L: Includes<Read>>(
    read: &mut Reader,
    access: &Access<L>,
    hash: XetHash,
) -> Result<Option<Xorb>, StoreError> {
    let sql = format!(
        "SELECT {XORB} FROM repo_xorb r JOIN xorb x ON x.id = r.xorb_id WHERE r.hash = $1 AND r.repo_id = $2"
    );
    read.one(&sql, values![hash, access.repo_id()]).await?.map(|row| xorb(&row)).transpose()
}

/// A new xorb's bytes, stored already.
pub struct NewXorb<'a> {
    pub hash: XetHash,
    pub blob_key: &'a str,
    pub index_key: &'a str,
    pub stored_bytes: u64,
    pub raw_bytes: u64,
    pub chunks: u32,
    pub eligible: &'a [XetHash],
    /// The blob of this repository's own copy, when that was found to be lost or damaged.
    pub replaces: Option<&'a str>,
}

/// What became of a xorb that was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// It is new to this repository.
    New(RowId),
    /// This repository has it: the new bytes are not needed.
    Known,
    /// This repository's copy was bad and the new bytes took its place. What is named here is in no
    /// row any more.
    Replaced { unused: Vec<String> },
}

/// Notes that somebody who may bring content to this repository has sent all of a xorb's bytes. Looks at
/// this repository alone: what others hold changes nothing. In place of a bad copy they come for writers only.
pub async fn receive_xorb<L: Includes<Propose>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    new: &NewXorb<'_>,
    now: Timestamp,
) -> Result<Received, StoreError> {
    let Some(known) = use_xorb(tx, access.repo_id(), new.hash, now).await? else {
        return Ok(Received::New(insert_xorb(tx, access.repo_id(), new, now).await?));
    };
    let sql = "SELECT blob_key, index_key, stored_bytes FROM xorb WHERE id = $1";
    let row = tx.one(sql, values![known]).await?;
    let row = row.ok_or_else(|| StoreError::Corrupt("a right to no xorb".into()))?;
    let (blob, index, before): (String, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
    if new.replaces != Some(blob.as_str()) || L::RANK < Rank::Write {
        return Ok(Received::Known);
    }
    let sql = "UPDATE xorb SET blob_key = $1, index_key = $2, stored_bytes = $3, raw_bytes = $4, chunks = $5, \
        damaged_at = NULL, compared_at = NULL WHERE id = $6";
    let params = values![new.blob_key, new.index_key, new.stored_bytes, new.raw_bytes, new.chunks, known];
    tx.execute(sql, params).await?;
    let more = i64::try_from(new.stored_bytes).unwrap_or(i64::MAX) - before;
    count_for_all(tx, known, more).await?;
    Ok(Received::Replaced { unused: unnamed(tx, blob, index).await? })
}

/// A xorb takes so many bytes more or less: in every repository that has a right to it.
async fn count_for_all(tx: &mut WriteTx, xorb: RowId, bytes: i64) -> Result<(), StoreError> {
    let sql = "SELECT r.repo_id, p.xorb_id IS NOT NULL FROM repo_xorb r LEFT JOIN proposal_xorb p \
        ON p.repo_id = r.repo_id AND p.xorb_id = r.xorb_id WHERE r.xorb_id = $1";
    for row in tx.all(sql, values![xorb]).await? {
        let (repo, proposed): (RepoId, bool) = (row.get(0)?, row.get(1)?);
        storage::add(tx, repo, bytes).await?;
        if proposed {
            storage::propose(tx, repo, (bytes, 0)).await?;
        }
    }
    Ok(())
}

/// Which of a xorb's blobs no row names.
pub(crate) async fn unnamed(
    tx: &mut WriteTx,
    blob: String,
    index: String,
) -> Result<Vec<String>, StoreError> {
    let named = tx.one("SELECT 1 FROM xorb WHERE blob_key = $1 LIMIT 1", values![&blob]).await?.is_some();
    Ok(if named { Vec::new() } else { vec![blob, index] })
}

async fn insert_xorb(
    tx: &mut WriteTx,
    repo: RepoId,
    new: &NewXorb<'_>,
    now: Timestamp,
) -> Result<RowId, StoreError> {
    let id = RowId::new(now);
    let sql = "INSERT INTO xorb (id, hash, blob_key, index_key, stored_bytes, raw_bytes, chunks, state_at, created_at) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)";
    let params =
        values![id, new.hash, new.blob_key, new.index_key, new.stored_bytes, new.raw_bytes, new.chunks, now];
    tx.execute(sql, params).await?;
    let sql = "INSERT INTO repo_xorb (repo_id, xorb_id, hash, origin, created_at, touched_at) \
        VALUES ($1, $2, $3, 'upload', $4, $4)";
    tx.execute(sql, values![repo, id, new.hash, now]).await?;
    storage::add(tx, repo, i64::try_from(new.stored_bytes).unwrap_or(i64::MAX)).await?;
    for chunk in new.eligible {
        add_dedup_chunk(tx, repo, *chunk, id).await?;
    }
    Ok(id)
}

async fn add_dedup_chunk(
    tx: &mut WriteTx,
    repo: RepoId,
    chunk: XetHash,
    xorb: RowId,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO dedup_chunk (repo_id, chunk, xorb_id) VALUES ($1, $2, $3) \
        ON CONFLICT (repo_id, chunk, xorb_id) DO NOTHING";
    tx.execute(sql, values![repo, chunk, xorb]).await?;
    Ok(())
}

/// This repository's row of a xorb, which is wanted as of now: collection leaves it alone for its
/// grace. `None` when the repository may not use it.
pub(crate) async fn use_xorb(
    tx: &mut WriteTx,
    repo: RepoId,
    hash: XetHash,
    now: Timestamp,
) -> Result<Option<RowId>, StoreError> {
    let sql = "UPDATE repo_xorb SET touched_at = $1 WHERE repo_id = $2 AND hash = $3 RETURNING xorb_id";
    tx.one(sql, values![now, repo, hash]).await?.map(|row| row.get(0)).transpose()
}

/// Takes back xorbs that were received for a file that then was refused, where nothing has come to
/// use them. Answers the blobs that no row names any more.
pub async fn forget_xorbs<L: Includes<Propose>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    ids: &[RowId],
) -> Result<Vec<String>, StoreError> {
    let repo = access.repo_id();
    let mut unused = Vec::new();
    for id in ids {
        let sql = "DELETE FROM repo_xorb WHERE repo_id = $1 AND xorb_id = $2 \
            AND NOT EXISTS (SELECT 1 FROM file_xorb f WHERE f.xorb_id = $2) \
            AND NOT EXISTS (SELECT 1 FROM lfs_part_xorb p WHERE p.xorb_id = $2)";
        if !drop_right(tx, sql, (repo, *id), values![repo, *id]).await? {
            continue;
        }
        let sql = "DELETE FROM xorb WHERE id = $1 \
            AND NOT EXISTS (SELECT 1 FROM repo_xorb r WHERE r.xorb_id = $1) RETURNING blob_key, index_key";
        if let Some(row) = tx.one(sql, values![*id]).await? {
            unused.extend(unnamed(tx, row.get(0)?, row.get(1)?).await?);
        }
    }
    // Clients may have been offered them meanwhile: their memory of that is void.
    tx.execute("UPDATE repo SET epoch = epoch + 1 WHERE id = $1", values![repo]).await?;
    Ok(unused)
}

/// Takes away the right of a repository to a xorb, which `sql` deletes, and what it counts for. Says whether
/// there was one.
pub(crate) async fn drop_right(
    tx: &mut WriteTx,
    sql: &str,
    (repo, xorb): (RepoId, RowId),
    params: &[crate::db::Value],
) -> Result<bool, StoreError> {
    // Its row goes with that of the right.
    let charge = "SELECT bytes FROM proposal_xorb WHERE repo_id = $1 AND xorb_id = $2";
    let price: Option<i64> = tx.one(charge, values![repo, xorb]).await?.map(|row| row.get(0)).transpose()?;
    let sql = format!("{sql} RETURNING (SELECT x.stored_bytes FROM xorb x WHERE x.id = xorb_id)");
    let Some(row) = tx.one(&sql, params).await? else { return Ok(false) };
    let bytes: i64 = row.get(0)?;
    storage::add(tx, repo, -bytes).await?;
    if let Some(price) = price {
        storage::propose(tx, repo, (-bytes, -price)).await?;
    }
    Ok(true)
}

/// Xorbs of this repository with a chunk that may be offered: whole as far as is known, and safe from
/// collection for a while, because a file in use has them or because they were wanted since `fresh`.
pub async fn xorbs_with_chunk<L: Includes<Read>>(
    read: &mut Reader,
    access: &Access<L>,
    chunk: XetHash,
    fresh: Timestamp,
    limit: u32,
) -> Result<Vec<Xorb>, StoreError> {
    let sql = format!(
        "SELECT {XORB} FROM dedup_chunk d JOIN xorb x ON x.id = d.xorb_id \
         JOIN repo_xorb r ON r.repo_id = d.repo_id AND r.xorb_id = d.xorb_id \
         WHERE d.repo_id = $1 AND d.chunk = $2 AND x.damaged_at IS NULL AND (r.touched_at >= $3 \
         OR EXISTS (SELECT 1 FROM file_xorb f JOIN xet_file t ON t.id = f.file_id \
             WHERE f.xorb_id = d.xorb_id AND t.repo_id = $1 AND t.unused_since IS NULL)) \
         ORDER BY d.xorb_id DESC LIMIT $4"
    );
    let rows = read.all(&sql, values![access.repo_id(), chunk, fresh, limit]).await?;
    rows.iter().map(xorb).collect()
}

/// A file and how to put it together.
#[derive(Debug, Clone)]
pub struct File {
    pub id: RowId,
    pub hash: XetHash,
    pub sha256: Option<Sha256>,
    pub size: u64,
    pub terms: Vec<u8>,
    pub touched_at: Timestamp,
    /// Collection has found that no commit points at it.
    pub unused: bool,
}

const FILE: &str = "SELECT id, hash, sha256, size, terms, touched_at, unused_since IS NOT NULL \
    FROM xet_file WHERE repo_id = $1";

fn file(row: &Row) -> Result<File, StoreError> {
    Ok(File {
        id: row.get(0)?,
        hash: row.get(1)?,
        sha256: row.get(2)?,
        size: row.get(3)?,
        terms: row.get(4)?,
        touched_at: row.get(5)?,
        unused: row.get(6)?,
    })
}

pub async fn file_by_hash<L: Includes<Read>>(
    read: &mut Reader,
    access: &Access<L>,
    hash: XetHash,
) -> Result<Option<File>, StoreError> {
    let row = read.one(&format!("{FILE} AND hash = $2"), values![access.repo_id(), hash]).await?;
    row.map(|row| file(&row)).transpose()
}

pub async fn file_by_sha256<L: Includes<Read>>(
    read: &mut Reader,
    access: &Access<L>,
    sha256: Sha256,
) -> Result<Option<File>, StoreError> {
    let sql = format!("{FILE} AND sha256 = $2 ORDER BY id LIMIT 1");
    read.one(&sql, values![access.repo_id(), sha256]).await?.map(|row| file(&row)).transpose()
}

/// How long the file with this content is, if this repository has it: all that may be known
/// without the right to read it.
pub async fn file_size<L: Includes<See>>(
    read: &mut Reader,
    access: &Access<L>,
    sha256: Sha256,
) -> Result<Option<u64>, StoreError> {
    let sql = "SELECT size FROM xet_file WHERE repo_id = $1 AND sha256 = $2 ORDER BY id LIMIT 1";
    read.one(sql, values![access.repo_id(), sha256]).await?.map(|row| row.get(0)).transpose()
}

/// The Xet hash and size of a file with this content. The hash is for readers: with it the
/// content can be asked for.
pub async fn file_hash<L: Includes<Read>>(
    read: &mut Reader,
    access: &Access<L>,
    sha256: Sha256,
) -> Result<Option<(XetHash, u64)>, StoreError> {
    let sql = "SELECT hash, size FROM xet_file WHERE repo_id = $1 AND sha256 = $2 ORDER BY id LIMIT 1";
    let row = read.one(sql, values![access.repo_id(), sha256]).await?;
    row.map(|row| Ok((row.get(0)?, row.get(1)?))).transpose()
}

/// How long those of some contents are that this repository has.
pub async fn file_sizes<L: Includes<See>>(
    read: &mut Reader,
    access: &Access<L>,
    contents: &[Sha256],
) -> Result<HashMap<Sha256, u64>, StoreError> {
    const BATCH: usize = 200;
    let mut found = HashMap::new();
    for part in contents.chunks(BATCH) {
        let ids = part.iter().copied().chain(part.last().copied().into_iter().cycle()).take(BATCH);
        let places: Vec<String> = (2..BATCH + 2).map(|place| format!("${place}")).collect();
        let places = places.join(", ");
        let sql = format!("SELECT sha256, size FROM xet_file WHERE repo_id = $1 AND sha256 IN ({places})");
        let params: Vec<Value> =
            std::iter::once(access.repo_id().into()).chain(ids.map(Value::from)).collect();
        for row in read.all(&sql, &params).await? {
            found.insert(row.get(0)?, row.get(1)?);
        }
    }
    Ok(found)
}

pub struct NewFile<'a> {
    pub hash: XetHash,
    pub sha256: Option<Sha256>,
    pub size: u64,
    pub terms: &'a [u8],
    pub xorbs: &'a [XetHash],
    /// The first chunk of the file, by which others look for it.
    pub first_chunk: Option<(XetHash, XetHash)>,
    /// Put these terms in the place of those that are known, which do not give the file any more.
    pub replace: bool,
}

/// Registers a file. False when one of its xorbs is not this repository's any more: collection
/// came between, and nothing has changed.
pub async fn add_file<L: Includes<Propose>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    new: &NewFile<'_>,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let mut xorbs = Vec::with_capacity(new.xorbs.len());
    for hash in new.xorbs {
        let Some(id) = use_xorb(tx, access.repo_id(), *hash, now).await? else { return Ok(false) };
        if let Some((_, chunk)) = new.first_chunk.filter(|(xorb, _)| xorb == hash) {
            add_dedup_chunk(tx, access.repo_id(), chunk, id).await?;
        }
        xorbs.push(id);
    }
    let replace = new.replace && L::RANK >= Rank::Write;
    if let Some(file) = file_row(tx, access.repo_id(), (new, replace), now).await? {
        for xorb in xorbs {
            let sql = "INSERT INTO file_xorb (file_id, xorb_id) VALUES ($1, $2)";
            tx.execute(sql, values![file, xorb]).await?;
        }
    }
    Ok(true)
}

/// Writes the row of a file. Its id, when its xorbs have to be written as well.
async fn file_row(
    tx: &mut WriteTx,
    repo: RepoId,
    (new, replace): (&NewFile<'_>, bool),
    now: Timestamp,
) -> Result<Option<RowId>, StoreError> {
    let sql = "UPDATE xet_file SET touched_at = $1, unused_since = NULL, sha256 = COALESCE(sha256, $2) \
        WHERE repo_id = $3 AND hash = $4 RETURNING id";
    let known = tx.one(sql, values![now, new.sha256, repo, new.hash]).await?;
    let known: Option<RowId> = known.map(|row| row.get(0)).transpose()?;
    match known {
        Some(_) if !replace => Ok(None),
        Some(id) => {
            tx.execute("DELETE FROM file_xorb WHERE file_id = $1", values![id]).await?;
            tx.execute("UPDATE xet_file SET terms = $1 WHERE id = $2", values![new.terms, id]).await?;
            Ok(Some(id))
        }
        None => {
            let sql = "DELETE FROM deleted_content WHERE repo_id = $1 AND sha256 = $2";
            tx.execute(sql, values![repo, new.sha256]).await?;
            let id = RowId::new(now);
            let sql = "INSERT INTO xet_file (id, repo_id, hash, sha256, size, terms, created_at, touched_at) \
                VALUES ($1, $2, $3, $4, $5, $6, $7, $7)";
            tx.execute(sql, values![id, repo, new.hash, new.sha256, new.size, new.terms, now]).await?;
            Ok(Some(id))
        }
    }
}

/// Notes that a file is wanted (a commit is about to point at it, a client was told that it is here),
/// so that collection leaves it alone. False when it has taken the file already.
pub async fn touch_file<L: Includes<Write>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    sha256: Sha256,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let sql = "UPDATE xet_file SET touched_at = $1, unused_since = NULL WHERE repo_id = $2 AND sha256 = $3";
    Ok(tx.execute(sql, values![now, access.repo_id(), sha256]).await? > 0)
}

/// Is a file here that collection does not regard as unused? A proposal may point at it as it is: nobody
/// but a writer keeps what is on its way out.
pub async fn is_in_use<L: Includes<Propose>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    sha256: Sha256,
) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM xet_file WHERE repo_id = $1 AND sha256 = $2 AND unused_since IS NULL LIMIT 1";
    Ok(tx.one(sql, values![access.repo_id(), sha256]).await?.is_some())
}

/// Gives a repository the files of another: for duplicates and server-side copies, whose caller
/// may read both. Copies the right to the xorbs too.
pub async fn copy_file<L: Includes<Read>>(
    tx: &mut WriteTx,
    from: &Access<L>,
    to: &Access<Write>,
    sha256: Sha256,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let Some(file) = file_by_sha256(tx, from, sha256).await? else { return Ok(false) };
    // Where the other repository has sent the same xorb itself, its own is as good.
    let sql = "INSERT INTO repo_xorb (repo_id, xorb_id, hash, origin, created_at, touched_at) \
        SELECT $1, r.xorb_id, r.hash, 'copy', $2, $2 FROM file_xorb f \
        JOIN repo_xorb r ON r.repo_id = $3 AND r.xorb_id = f.xorb_id WHERE f.file_id = $4 ON CONFLICT DO NOTHING \
        RETURNING (SELECT x.stored_bytes FROM xorb x WHERE x.id = xorb_id)";
    let rows = tx.all(sql, values![to.repo_id(), now, from.repo_id(), file.id]).await?;
    let bytes = rows.iter().map(|row| row.get::<i64>(0)).sum::<Result<i64, _>>()?;
    storage::add(tx, to.repo_id(), bytes).await?;
    let sql = "INSERT INTO dedup_chunk (repo_id, chunk, xorb_id) \
        SELECT r.repo_id, d.chunk, d.xorb_id FROM file_xorb f \
        JOIN dedup_chunk d ON d.repo_id = $2 AND d.xorb_id = f.xorb_id \
        JOIN repo_xorb r ON r.repo_id = $1 AND r.xorb_id = d.xorb_id WHERE f.file_id = $3 ON CONFLICT DO NOTHING";
    tx.execute(sql, values![to.repo_id(), from.repo_id(), file.id]).await?;
    let sql = "SELECT x.hash FROM file_xorb f JOIN xorb x ON x.id = f.xorb_id WHERE f.file_id = $1";
    let rows = tx.all(sql, values![file.id]).await?;
    let xorbs = rows.iter().map(|row| row.get(0)).collect::<Result<Vec<XetHash>, _>>()?;
    let new = NewFile {
        hash: file.hash,
        sha256: file.sha256,
        size: file.size,
        terms: &file.terms,
        xorbs: &xorbs,
        first_chunk: None,
        replace: false,
    };
    add_file(tx, to, &new, now).await
}

/// The content hashes of all files of a repository.
pub async fn all_sha256<L: Includes<Read>>(
    read: &mut Reader,
    access: &Access<L>,
) -> Result<Vec<Sha256>, StoreError> {
    let sql = "SELECT DISTINCT sha256 FROM xet_file WHERE repo_id = $1 AND sha256 IS NOT NULL";
    read.scan(sql, values![access.repo_id()]).await?.iter().map(|row| row.get(0)).collect()
}
