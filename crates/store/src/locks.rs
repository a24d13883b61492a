//! Locks of git-lfs: files that somebody works on alone. A lock holds in every branch.

use bastide_core::{EntryPath, NamespaceId, Timestamp, id::RowId};

use crate::db::{Reader, Row, Value, WriteTx};
use crate::gate::parse;
use crate::permit::{Access, Includes, See, Write};
use crate::{StoreError, values};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    pub id: RowId,
    pub path: EntryPath,
    pub owner_id: NamespaceId,
    pub owner: String,
    pub created_at: Timestamp,
}

const LOCK: &str = "SELECT l.id, l.path, l.owner_id, n.name, l.created_at FROM lfs_lock l \
    JOIN namespace n ON n.id = l.owner_id WHERE l.repo_id = $1";

fn lock(row: &Row) -> Result<Lock, StoreError> {
    Ok(Lock {
        id: row.get(0)?,
        path: parse(row, 1)?,
        owner_id: row.get(2)?,
        owner: row.get(3)?,
        created_at: row.get(4)?,
    })
}

pub async fn by_id<L: Includes<See>>(
    read: &mut Reader,
    access: &Access<L>,
    id: RowId,
) -> Result<Option<Lock>, StoreError> {
    let row = read.one(&format!("{LOCK} AND l.id = $2"), values![access.repo_id(), id]).await?;
    row.map(|row| lock(&row)).transpose()
}

pub async fn at<L: Includes<See>>(
    read: &mut Reader,
    access: &Access<L>,
    path: &EntryPath,
) -> Result<Option<Lock>, StoreError> {
    let row = read.one(&format!("{LOCK} AND l.path = $2"), values![access.repo_id(), path.as_str()]).await?;
    row.map(|row| lock(&row)).transpose()
}

/// Which locks are wanted, from `after` on.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    pub id: Option<RowId>,
    pub path: Option<String>,
    pub after: Option<RowId>,
    pub limit: usize,
}

/// Locks, the oldest first.
pub async fn list<L: Includes<See>>(
    read: &mut Reader,
    access: &Access<L>,
    wanted: &Wanted,
) -> Result<Vec<Lock>, StoreError> {
    let mut params = vec![Value::from(access.repo_id())];
    let mut sql = LOCK.to_owned();
    let path = wanted.path.as_deref().map(Value::from);
    for (condition, value) in [
        ("l.id =", wanted.id.map(Value::from)),
        ("l.path =", path),
        ("l.id >", wanted.after.map(Value::from)),
    ] {
        let Some(value) = value else { continue };
        params.push(value);
        sql.push_str(&format!(" AND {condition} ${}", params.len()));
    }
    params.push(Value::from(wanted.limit));
    sql.push_str(&format!(" ORDER BY l.id LIMIT ${}", params.len()));
    read.all(&sql, &params).await?.iter().map(lock).collect()
}

/// Every lock that is not of this user: usually there is none.
pub async fn of_others<L: Includes<See>>(
    read: &mut Reader,
    access: &Access<L>,
    user: Option<NamespaceId>,
) -> Result<Vec<Lock>, StoreError> {
    let sql = format!("{LOCK} AND l.owner_id <> $2 ORDER BY l.path");
    let nobody = NamespaceId::from_i64(-1);
    read.all(&sql, values![access.repo_id(), user.unwrap_or(nobody)]).await?.iter().map(lock).collect()
}

pub async fn count<L: Includes<See>>(read: &mut Reader, access: &Access<L>) -> Result<u64, StoreError> {
    let sql = "SELECT COUNT(*) FROM lfs_lock WHERE repo_id = $1";
    read.one(sql, values![access.repo_id()]).await?.map_or(Ok(0), |row| row.get(0))
}

/// Locks a path that nobody has locked.
pub async fn add<L: Includes<Write>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    new: &Lock,
    branch: Option<&str>,
) -> Result<(), StoreError> {
    let sql =
        "INSERT INTO lfs_lock (id, repo_id, path, owner_id, ref, created_at) VALUES ($1, $2, $3, $4, $5, $6)";
    let Lock { id, path, owner_id, created_at, .. } = new;
    let params =
        values![*id, access.repo_id(), path.as_str(), *owner_id, branch.map(ToOwned::to_owned), *created_at];
    tx.execute(sql, params).await?;
    Ok(())
}

pub async fn remove<L: Includes<Write>>(
    tx: &mut WriteTx,
    access: &Access<L>,
    id: RowId,
) -> Result<bool, StoreError> {
    let sql = "DELETE FROM lfs_lock WHERE repo_id = $1 AND id = $2";
    Ok(tx.execute(sql, values![access.repo_id(), id]).await? > 0)
}
