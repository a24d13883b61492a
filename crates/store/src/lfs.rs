//! LFS uploads in parts, while they are under way.

use bastide_core::{Sha256, Timestamp, XetHash, id::RowId};

use crate::db::{Reader, WriteTx};
use crate::permit::{Access, Includes, Write};
use crate::{StoreError, values};

#[derive(Debug, Clone)]
pub struct Upload {
    pub id: RowId,
    pub oid: Sha256,
    pub size: u64,
    pub part_bytes: u64,
}

#[derive(Debug, Clone)]
pub struct Part {
    pub number: u64,
    pub size: u64,
    pub etag: String,
    pub terms: Vec<u8>,
}

pub async fn begin<L: Includes<Write>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    upload: &Upload,
    now: Timestamp,
    expires: Timestamp,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO lfs_upload (id, repo_id, oid, size, part_bytes, created_at, expires_at) \
        VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let Upload { id, oid, size, part_bytes } = upload;
    tx.execute(sql, values![*id, access.repo_id(), *oid, *size, *part_bytes, now, expires]).await?;
    Ok(())
}

/// How many uploads of this repository have not ended.
pub async fn count_open<L: Includes<Write>>(
    read: &mut Reader,
    access: &Access<L>,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let sql = "SELECT count(*) FROM lfs_upload WHERE repo_id = $1 AND expires_at > $2";
    let row = read.one(sql, values![access.repo_id(), now]).await?;
    row.map_or(Ok(0), |row| row.get(0))
}

/// An upload of this repository that has not ended.
pub async fn upload<L: Includes<Write>>(
    read: &mut Reader,
    access: &Access<L>,
    id: RowId,
    now: Timestamp,
) -> Result<Option<Upload>, StoreError> {
    let sql =
        "SELECT id, oid, size, part_bytes FROM lfs_upload WHERE id = $1 AND repo_id = $2 AND expires_at > $3";
    let Some(row) = read.one(sql, values![id, access.repo_id(), now]).await? else { return Ok(None) };
    Ok(Some(Upload { id: row.get(0)?, oid: row.get(1)?, size: row.get(2)?, part_bytes: row.get(3)? }))
}

/// Adds a part, in place of one that came before under its number. False when the upload has
/// ended, or when one of the part's xorbs is not this repository's any more.
pub async fn add_part<L: Includes<Write>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    upload: RowId,
    part: &Part,
    (xorbs, now): (&[XetHash], Timestamp),
) -> Result<bool, StoreError> {
    if self::upload(tx, access, upload, now).await?.is_none() {
        return Ok(false);
    }
    let sql = "DELETE FROM lfs_part WHERE upload_id = $1 AND number = $2";
    tx.execute(sql, values![upload, part.number]).await?;
    let sql = "INSERT INTO lfs_part (upload_id, number, size, etag, terms) VALUES ($1, $2, $3, $4, $5)";
    let params = values![upload, part.number, part.size, &part.etag, part.terms.as_slice()];
    tx.execute(sql, params).await?;
    for hash in xorbs {
        let Some(xorb) = crate::xet::use_xorb(tx, access.repo_id(), *hash, now).await? else {
            return Ok(false);
        };
        let sql = "INSERT INTO lfs_part_xorb (upload_id, number, xorb_id) VALUES ($1, $2, $3)";
        tx.execute(sql, values![upload, part.number, xorb]).await?;
    }
    Ok(true)
}

/// The parts of an upload, in order.
pub async fn parts<L: Includes<Write>>(
    read: &mut Reader,
    access: &Access<L>,
    upload: RowId,
) -> Result<Vec<Part>, StoreError> {
    let sql = "SELECT p.number, p.size, p.etag, p.terms FROM lfs_part p JOIN lfs_upload u ON u.id = p.upload_id \
        WHERE u.id = $1 AND u.repo_id = $2 ORDER BY p.number";
    let rows = read.all(sql, values![upload, access.repo_id()]).await?;
    let part = |row: &crate::db::Row| {
        Ok(Part { number: row.get(0)?, size: row.get(1)?, etag: row.get(2)?, terms: row.get(3)? })
    };
    rows.iter().map(part).collect()
}

pub async fn end<L: Includes<Write>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    upload: RowId,
) -> Result<(), StoreError> {
    let sql = "DELETE FROM lfs_upload WHERE id = $1 AND repo_id = $2";
    tx.execute(sql, values![upload, access.repo_id()]).await?;
    Ok(())
}
