//! The large files of a repository as a list, and what was deleted from it for good.

use bastide_core::{Oid, Sha256, Timestamp, XetHash, id::RowId};

use crate::db::{Reader, Row, WriteTx};
use crate::permit::{Access, Admin, Includes, Read};
use crate::{StoreError, values, xet};

/// Content that a repository holds. The same content cut in two ways is listed once.
#[derive(Debug, Clone)]
pub struct Content {
    pub id: RowId,
    pub hash: XetHash,
    pub sha256: Sha256,
    pub size: u64,
    pub created_at: Timestamp,
}

fn content(row: &Row) -> Result<Content, StoreError> {
    Ok(Content {
        id: row.get(0)?,
        hash: row.get(1)?,
        sha256: row.get(2)?,
        size: row.get(3)?,
        created_at: row.get(4)?,
    })
}

/// What a repository holds, the last that came first, from behind `after` on.
pub async fn list<L: Includes<Read>>(
    read: &mut Reader,
    access: &Access<L>,
    after: Option<RowId>,
    limit: usize,
) -> Result<Vec<Content>, StoreError> {
    let sql = "SELECT f.id, f.hash, f.sha256, f.size, f.created_at FROM xet_file f \
        WHERE f.repo_id = $1 AND f.id < $2 AND f.sha256 IS NOT NULL AND NOT EXISTS (SELECT 1 FROM xet_file o \
            WHERE o.repo_id = f.repo_id AND o.sha256 = f.sha256 AND o.id > f.id) \
        ORDER BY f.id DESC LIMIT $3";
    let after = after.map_or(i64::MAX, RowId::as_i64);
    read.all(sql, values![access.repo_id(), after, limit]).await?.iter().map(content).collect()
}

const PATH_OF: &str = "SELECT path FROM git_change WHERE repo_id = $1 AND object_id = $2 AND may_point = 1 \
    ORDER BY generation DESC, path LIMIT 1";

/// A path at which a pointer stands or stood: the last that is known.
pub async fn path_of<L: Includes<Read>>(
    read: &mut Reader,
    access: &Access<L>,
    pointer: Oid,
) -> Result<Option<String>, StoreError> {
    read.one(PATH_OF, values![access.repo_id(), pointer]).await?.map(|row| row.get(0)).transpose()
}

/// How many commits and changed paths a repository has.
pub async fn history_size<L: Includes<Read>>(
    read: &mut Reader,
    access: &Access<L>,
) -> Result<(u64, u64), StoreError> {
    let sql = "SELECT (SELECT COUNT(*) FROM git_commit WHERE repo_id = $1), \
        (SELECT COUNT(*) FROM git_change WHERE repo_id = $1)";
    let row = read.one(sql, values![access.repo_id()]).await?;
    row.map_or(Ok((0, 0)), |row| Ok((row.get(0)?, row.get(1)?)))
}

/// Deletes content, and the rights to what only it was made of. Answers its size; `None` when the
/// repository does not hold it.
pub async fn delete(
    tx: &mut WriteTx,
    access: &Access<Admin>,
    sha256: Sha256,
    now: Timestamp,
) -> Result<Option<u64>, StoreError> {
    let repo = access.repo_id();
    let sql = "SELECT id, size FROM xet_file WHERE repo_id = $1 AND sha256 = $2";
    let rows = tx.all(sql, values![repo, sha256]).await?;
    let Some(first) = rows.first() else { return Ok(None) };
    let size: u64 = first.get(1)?;
    let mut xorbs: Vec<RowId> = Vec::new();
    for row in &rows {
        let file: RowId = row.get(0)?;
        let kept = tx.all("SELECT xorb_id FROM file_xorb WHERE file_id = $1", values![file]).await?;
        xorbs.extend(kept.iter().map(|row| row.get(0)).collect::<Result<Vec<RowId>, _>>()?);
        let sql = "DELETE FROM xet_file WHERE id = $1";
        crate::proposals::drop_file(tx, sql, (repo, file), values![file]).await?;
    }
    xorbs.sort_unstable();
    xorbs.dedup();
    for xorb in xorbs {
        xet::drop_right(tx, UNSHARED, (repo, xorb), values![repo, xorb, now]).await?;
    }
    let sql = "INSERT INTO deleted_content (repo_id, sha256, size, deleted_at) VALUES ($1, $2, $3, $4) \
        ON CONFLICT (repo_id, sha256) DO UPDATE SET deleted_at = excluded.deleted_at";
    tx.execute(sql, values![repo, sha256, size, now]).await?;
    Ok(Some(size))
}

/// The right of the repository $1 to the xorb $2, unless a file of it or, as of $3, an upload in parts
/// still has need of it.
const UNSHARED: &str = "DELETE FROM repo_xorb WHERE repo_id = $1 AND xorb_id = $2 \
    AND NOT EXISTS (SELECT 1 FROM file_xorb f JOIN xet_file t ON t.id = f.file_id \
        WHERE t.repo_id = $1 AND f.xorb_id = $2) \
    AND NOT EXISTS (SELECT 1 FROM lfs_part_xorb p JOIN lfs_upload u ON u.id = p.upload_id \
        WHERE u.repo_id = $1 AND u.expires_at > $3 AND p.xorb_id = $2)";

pub async fn deleted_at<L: Includes<Read>>(
    read: &mut Reader,
    access: &Access<L>,
    sha256: Sha256,
) -> Result<Option<Timestamp>, StoreError> {
    let sql = "SELECT deleted_at FROM deleted_content WHERE repo_id = $1 AND sha256 = $2";
    read.one(sql, values![access.repo_id(), sha256]).await?.map(|row| row.get(0)).transpose()
}

/// Everything that was deleted from a repository for good.
pub async fn all_deleted<L: Includes<Read>>(
    read: &mut Reader,
    access: &Access<L>,
) -> Result<Vec<Sha256>, StoreError> {
    let sql = "SELECT sha256 FROM deleted_content WHERE repo_id = $1";
    read.scan(sql, values![access.repo_id()]).await?.iter().map(|row| row.get(0)).collect()
}

/// A copy of a repository has the history of its original: what is missing there on purpose is missing
/// in the copy as well.
pub async fn copy_deleted<L: Includes<Read>>(
    tx: &mut WriteTx,
    from: &Access<L>,
    to: &Access<crate::permit::Write>,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO deleted_content (repo_id, sha256, size, deleted_at) \
        SELECT $1, sha256, size, deleted_at FROM deleted_content WHERE repo_id = $2";
    tx.execute(sql, values![to.repo_id(), from.repo_id()]).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Db;

    #[tokio::test]
    async fn pointers_are_found_by_an_index_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::open_sqlite(&folder.path().join("test.db")).await.unwrap();
        let params = values![bastide_core::RepoId::from_i64(1), Oid::from_bytes([1; 20])];
        let plan = format!("EXPLAIN QUERY PLAN {PATH_OF}");
        let rows = db.read().await.unwrap().all(&plan, params).await.unwrap();
        let steps: Vec<String> = rows.iter().map(|row| row.get(3).unwrap()).collect();
        let key = "SEARCH git_change USING INDEX git_change_by_pointer (repo_id=? AND object_id=?)";
        assert_eq!(steps.first().map(String::as_str), Some(key), "{steps:?}");
    }
}
