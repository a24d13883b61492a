//! What repositories and namespaces use, and how much they may.
//!
//! `used_bytes` is changed by `add`, in the same transaction as the packs and rights that it counts.

use bastide_core::{RepoId, Timestamp};

use crate::db::{Reader, Row, WriteTx};
use crate::permit::{Access, Admin, Includes, Level, Namespace, Read};
use crate::{StoreError, values};

/// A quota as its row has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quota {
    /// Nobody has set one: the settings decide.
    Default,
    Unlimited,
    Bytes(u64),
}

impl Quota {
    fn from_row(row: &Row, column: usize) -> Result<Self, StoreError> {
        let bytes: Option<i64> = row.get(column)?;
        Ok(bytes.map_or(Self::Default, |bytes| u64::try_from(bytes).map_or(Self::Unlimited, Self::Bytes)))
    }

    fn to_row(self) -> Option<i64> {
        match self {
            Self::Default => None,
            Self::Unlimited => Some(-1),
            Self::Bytes(bytes) => Some(i64::try_from(bytes).unwrap_or(i64::MAX)),
        }
    }
}

/// What a repository and its namespace use, and the quotas of both.
#[derive(Debug, Clone)]
pub struct Usage {
    pub repo_used: u64,
    pub repo_quota: Quota,
    pub namespace: String,
    pub is_organization: bool,
    pub namespace_used: u64,
    pub namespace_quota: Quota,
}

pub async fn usage<L: Level>(read: &mut Reader, access: &Access<L>) -> Result<Usage, StoreError> {
    let sql = "SELECT r.used_bytes, r.quota_bytes, n.name, n.kind, n.used_bytes, n.quota_bytes \
        FROM repo r JOIN namespace n ON n.id = r.namespace_id WHERE r.id = $1";
    let row = read.one(sql, values![access.repo_id()]).await?;
    let row = row.ok_or_else(|| StoreError::Corrupt("a repository without a row".to_owned()))?;
    Ok(Usage {
        repo_used: used(&row, 0)?,
        repo_quota: Quota::from_row(&row, 1)?,
        namespace: row.get(2)?,
        is_organization: row.get::<String>(3)? == "org",
        namespace_used: used(&row, 4)?,
        namespace_quota: Quota::from_row(&row, 5)?,
    })
}

fn used(row: &Row, column: usize) -> Result<u64, StoreError> {
    let bytes: i64 = row.get(column)?;
    Ok(u64::try_from(bytes).unwrap_or(0))
}

/// What a namespace uses, and its quota.
#[derive(Debug, Clone)]
pub struct NamespaceUsage {
    pub name: String,
    pub is_organization: bool,
    pub used: u64,
    pub quota: Quota,
}

const NAMESPACE: &str = "SELECT name, kind, used_bytes, quota_bytes FROM namespace";

fn namespace_usage(row: &Row) -> Result<NamespaceUsage, StoreError> {
    Ok(NamespaceUsage {
        name: row.get(0)?,
        is_organization: row.get::<String>(1)? == "org",
        used: used(row, 2)?,
        quota: Quota::from_row(row, 3)?,
    })
}

pub async fn usage_of<L: Includes<Read>>(
    read: &mut Reader,
    access: &Access<L, Namespace>,
) -> Result<NamespaceUsage, StoreError> {
    let row = read.one(&format!("{NAMESPACE} WHERE id = $1"), values![access.namespace().id]).await?;
    let row = row.ok_or_else(|| StoreError::Corrupt("a namespace without a row".to_owned()))?;
    namespace_usage(&row)
}

/// What every namespace uses, the largest first: for the operator.
pub async fn usage_of_all(read: &mut Reader) -> Result<Vec<NamespaceUsage>, StoreError> {
    let rows = read.scan(&format!("{NAMESPACE} ORDER BY used_bytes DESC, name"), &[]).await?;
    rows.iter().map(namespace_usage).collect()
}

/// Bytes that uploads in parts of the repository's namespace may still bring.
pub async fn reserved<L: Level>(
    read: &mut Reader,
    access: &Access<L>,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let sql = "SELECT CAST(COALESCE(SUM(u.size - (SELECT COALESCE(SUM(p.size), 0) FROM lfs_part p \
        WHERE p.upload_id = u.id)), 0) AS BIGINT) FROM lfs_upload u JOIN repo r ON r.id = u.repo_id \
        WHERE u.expires_at > $1 AND r.namespace_id = (SELECT namespace_id FROM repo WHERE id = $2)";
    let row = read.one(sql, values![now, access.repo_id()]).await?;
    row.map_or(Ok(0), |row| used(&row, 0))
}

pub async fn set_repo_quota(
    tx: &mut WriteTx,
    access: &Access<Admin>,
    quota: Quota,
) -> Result<(), StoreError> {
    let sql = "UPDATE repo SET quota_bytes = $1 WHERE id = $2";
    tx.execute(sql, values![quota.to_row(), access.repo_id()]).await?;
    Ok(())
}

pub async fn set_namespace_quota(
    tx: &mut WriteTx,
    access: &Access<Admin, Namespace>,
    quota: Quota,
) -> Result<(), StoreError> {
    let sql = "UPDATE namespace SET quota_bytes = $1 WHERE id = $2";
    tx.execute(sql, values![quota.to_row(), access.namespace().id]).await?;
    Ok(())
}

/// Notes that a repository uses so many bytes more, or less.
pub(crate) async fn add(tx: &mut WriteTx, repo: RepoId, bytes: i64) -> Result<(), StoreError> {
    if bytes == 0 {
        return Ok(());
    }
    let sql = "UPDATE repo SET used_bytes = used_bytes + $1 WHERE id = $2";
    tx.execute(sql, values![bytes, repo]).await?;
    let sql = "UPDATE namespace SET used_bytes = used_bytes + $1 \
        WHERE id = (SELECT namespace_id FROM repo WHERE id = $2)";
    tx.execute(sql, values![bytes, repo]).await?;
    Ok(())
}

/// Moves what a repository uses out of its namespace, or into it: before and after it is moved.
pub(crate) async fn leave_namespace(tx: &mut WriteTx, repo: RepoId) -> Result<(), StoreError> {
    let sql = "UPDATE namespace SET used_bytes = used_bytes - (SELECT used_bytes FROM repo WHERE id = $1) \
        WHERE id = (SELECT namespace_id FROM repo WHERE id = $1)";
    tx.execute(sql, values![repo]).await?;
    Ok(())
}

pub(crate) async fn enter_namespace(tx: &mut WriteTx, repo: RepoId) -> Result<(), StoreError> {
    let sql = "UPDATE namespace SET used_bytes = used_bytes + (SELECT used_bytes FROM repo WHERE id = $1) \
        WHERE id = (SELECT namespace_id FROM repo WHERE id = $1)";
    tx.execute(sql, values![repo]).await?;
    Ok(())
}

/// What is counted, counted anew: (as it is noted, as it is).
pub async fn recount<L: Level>(read: &mut Reader, access: &Access<L>) -> Result<(u64, u64), StoreError> {
    let sql = "SELECT used_bytes, CAST(COALESCE((SELECT SUM(bytes) FROM git_pack WHERE repo_id = $1), 0) \
        + COALESCE((SELECT SUM(x.stored_bytes) FROM repo_xorb r JOIN xorb x ON x.id = r.xorb_id \
            WHERE r.repo_id = $1), 0) AS BIGINT) FROM repo WHERE id = $1";
    let row = read.one(sql, values![access.repo_id()]).await?;
    row.map_or(Ok((0, 0)), |row| Ok((used(&row, 0)?, used(&row, 1)?)))
}

/// Namespaces whose bytes are not those of their repositories.
pub async fn miscounted(read: &mut Reader) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT n.name FROM namespace n LEFT JOIN (SELECT namespace_id, SUM(used_bytes) AS bytes FROM repo \
        GROUP BY namespace_id) s ON s.namespace_id = n.id WHERE n.used_bytes <> COALESCE(s.bytes, 0)";
    read.scan(sql, &[]).await?.iter().map(|row| row.get(0)).collect()
}
