//! Large files as rows: xorbs, who may use them, files and what they are made of.
//!
//! A row of `repo_xorb` or `xet_file` is the right to use; knowing a hash is none.

use bastide_core::{RepoId, Sha256, Timestamp, XetHash, id::RowId};

use crate::db::{Reader, Row, WriteTx};
use crate::permit::{Access, Includes, Read, See, Write};
use crate::{StoreError, values};

#[derive(Debug, Clone)]
pub struct Xorb {
    pub id: RowId,
    pub hash: XetHash,
    pub blob_key: String,
    pub index_key: String,
    pub stored_bytes: u64,
    pub raw_bytes: u64,
}

const XORB: &str = "x.id, x.hash, x.blob_key, x.index_key, x.stored_bytes, x.raw_bytes";

fn xorb(row: &Row) -> Result<Xorb, StoreError> {
    Ok(Xorb {
        id: row.get(0)?,
        hash: row.get(1)?,
        blob_key: row.get(2)?,
        index_key: row.get(3)?,
        stored_bytes: row.get(4)?,
        raw_bytes: row.get(5)?,
    })
}

/// A xorb that this repository may use.
pub async fn xorb_of<L: Includes<Read>>(
    read: &mut Reader,
    access: &Access<L>,
    hash: XetHash,
) -> Result<Option<Xorb>, StoreError> {
    let sql = format!(
        "SELECT {XORB} FROM xorb x JOIN repo_xorb r ON r.xorb_id = x.id WHERE x.hash = $1 AND r.repo_id = $2"
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
}

/// What became of a xorb that was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// Its bytes are new to this hub.
    New,
    /// Another repository had it: the new bytes are not needed.
    Known,
}

/// Notes that a writer of this repository has sent all of a xorb's bytes.
pub async fn receive_xorb<L: Includes<Write>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    new: &NewXorb<'_>,
    now: Timestamp,
) -> Result<Received, StoreError> {
    let known = tx.one("SELECT id FROM xorb WHERE hash = $1", values![new.hash]).await?;
    let (id, received) = match known {
        Some(row) => {
            let id: RowId = row.get(0)?;
            // One that was about to be removed is wanted again.
            let sql = "UPDATE xorb SET state = 'live', state_at = $1 WHERE id = $2 AND state <> 'live'";
            tx.execute(sql, values![now, id]).await?;
            (id, Received::Known)
        }
        None => (insert_xorb(tx, new, now).await?, Received::New),
    };
    entitle(tx, access.repo_id(), id, "upload", now).await?;
    Ok(received)
}

async fn insert_xorb(tx: &mut WriteTx, new: &NewXorb<'_>, now: Timestamp) -> Result<RowId, StoreError> {
    let id = RowId::new(now);
    let sql = "INSERT INTO xorb (id, hash, blob_key, index_key, stored_bytes, raw_bytes, chunks, state_at, created_at) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)";
    let params =
        values![id, new.hash, new.blob_key, new.index_key, new.stored_bytes, new.raw_bytes, new.chunks, now];
    tx.execute(sql, params).await?;
    for chunk in new.eligible {
        add_dedup_chunk(tx, *chunk, id).await?;
    }
    Ok(id)
}

async fn add_dedup_chunk(tx: &mut WriteTx, chunk: XetHash, xorb: RowId) -> Result<(), StoreError> {
    let sql =
        "INSERT INTO dedup_chunk (chunk, xorb_id) VALUES ($1, $2) ON CONFLICT (chunk, xorb_id) DO NOTHING";
    tx.execute(sql, values![chunk, xorb]).await?;
    Ok(())
}

async fn entitle(
    tx: &mut WriteTx,
    repo: RepoId,
    xorb: RowId,
    origin: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO repo_xorb (repo_id, xorb_id, origin, created_at) VALUES ($1, $2, $3, $4) \
        ON CONFLICT (repo_id, xorb_id) DO NOTHING";
    tx.execute(sql, values![repo, xorb, origin, now]).await?;
    Ok(())
}

/// Xorbs with a chunk, in this repository.
pub async fn xorbs_with_chunk<L: Includes<Read>>(
    read: &mut Reader,
    access: &Access<L>,
    chunk: XetHash,
    limit: u32,
) -> Result<Vec<Xorb>, StoreError> {
    let sql = format!(
        "SELECT {XORB} FROM dedup_chunk d JOIN xorb x ON x.id = d.xorb_id \
         JOIN repo_xorb r ON r.xorb_id = x.id AND r.repo_id = $2 WHERE d.chunk = $1 LIMIT $3"
    );
    let rows = read.all(&sql, values![chunk, access.repo_id(), limit]).await?;
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
}

const FILE: &str = "SELECT id, hash, sha256, size, terms FROM xet_file WHERE repo_id = $1";

fn file(row: &Row) -> Result<File, StoreError> {
    Ok(File {
        id: row.get(0)?,
        hash: row.get(1)?,
        sha256: row.get(2)?,
        size: row.get(3)?,
        terms: row.get(4)?,
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

pub struct NewFile<'a> {
    pub hash: XetHash,
    pub sha256: Option<Sha256>,
    pub size: u64,
    pub terms: &'a [u8],
    pub xorbs: &'a [XetHash],
    /// The first chunk of the file, by which others look for it.
    pub first_chunk: Option<(XetHash, XetHash)>,
}

/// Registers a file. False when one of its xorbs is not this repository's any more: collection
/// came between, and nothing has changed.
pub async fn add_file<L: Includes<Write>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    new: &NewFile<'_>,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let repo = access.repo_id();
    let mut xorbs = Vec::with_capacity(new.xorbs.len());
    for hash in new.xorbs {
        let sql = "SELECT x.id FROM xorb x JOIN repo_xorb r ON r.xorb_id = x.id WHERE x.hash = $1 AND r.repo_id = $2";
        let Some(row) = tx.one(sql, values![*hash, repo]).await? else { return Ok(false) };
        let id: RowId = row.get(0)?;
        let sql = "UPDATE xorb SET state = 'live', state_at = $1 WHERE id = $2 AND state <> 'live'";
        tx.execute(sql, values![now, id]).await?;
        if let Some((_, chunk)) = new.first_chunk.filter(|(xorb, _)| xorb == hash) {
            add_dedup_chunk(tx, chunk, id).await?;
        }
        xorbs.push(id);
    }
    let sql = "INSERT INTO xet_file (id, repo_id, hash, sha256, size, terms, created_at, touched_at) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $7) ON CONFLICT (repo_id, hash) DO UPDATE \
        SET touched_at = excluded.touched_at, sha256 = COALESCE(xet_file.sha256, excluded.sha256) RETURNING id";
    let params = values![RowId::new(now), repo, new.hash, new.sha256, new.size, new.terms, now];
    let row =
        tx.one(sql, params).await?.ok_or_else(|| StoreError::Corrupt("a file was not stored".into()))?;
    let file: RowId = row.get(0)?;
    for xorb in xorbs {
        let sql = "INSERT INTO file_xorb (file_id, xorb_id) VALUES ($1, $2) ON CONFLICT (file_id, xorb_id) DO NOTHING";
        tx.execute(sql, values![file, xorb]).await?;
    }
    Ok(true)
}

/// Notes that a commit is about to point at a file, so that collection leaves it alone. False when
/// it has taken the file already.
pub async fn touch_file<L: Includes<Write>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    sha256: Sha256,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let sql = "UPDATE xet_file SET touched_at = $1 WHERE repo_id = $2 AND sha256 = $3";
    Ok(tx.execute(sql, values![now, access.repo_id(), sha256]).await? > 0)
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
    let sql = "INSERT INTO repo_xorb (repo_id, xorb_id, origin, created_at) \
        SELECT $1, xorb_id, 'copy', $2 FROM file_xorb WHERE file_id = $3 ON CONFLICT (repo_id, xorb_id) DO NOTHING";
    tx.execute(sql, values![to.repo_id(), now, file.id]).await?;
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
