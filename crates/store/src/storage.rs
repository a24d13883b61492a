//! What repositories and namespaces use, and how much they may.
//!
//! `used_bytes` is changed by `add`, in the same transaction as the packs and rights that it counts; the part of
//! it that only proposals use by `propose`.

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
    pub repo: Used,
    pub repo_quota: Quota,
    pub namespace: String,
    pub is_organization: bool,
    pub namespace_used: Used,
    pub namespace_quota: Quota,
}

/// What is stored, and what of it only proposals use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    pub all: u64,
    pub proposed: u64,
    /// What all proposers together are charged for it: more, because small things have a least price.
    pub price: u64,
}

impl Used {
    fn from_row(row: &Row, column: usize) -> Result<Self, StoreError> {
        Ok(Self { all: used(row, column)?, proposed: used(row, column + 1)?, price: used(row, column + 2)? })
    }

    /// What counts for the owner.
    pub const fn owned(&self) -> u64 {
        self.all.saturating_sub(self.proposed)
    }
}

pub async fn usage<L: Level>(read: &mut Reader, access: &Access<L>) -> Result<Usage, StoreError> {
    let sql = "SELECT r.used_bytes, r.proposed_bytes, r.proposal_price, r.quota_bytes, n.name, n.kind, \
        n.used_bytes, n.proposed_bytes, n.proposal_price, n.quota_bytes FROM repo r JOIN namespace n ON n.id = r.namespace_id WHERE r.id = $1";
    let row = read.one(sql, values![access.repo_id()]).await?;
    let row = row.ok_or_else(|| StoreError::Corrupt("a repository without a row".to_owned()))?;
    Ok(Usage {
        repo: Used::from_row(&row, 0)?,
        repo_quota: Quota::from_row(&row, 3)?,
        namespace: row.get(4)?,
        is_organization: row.get::<String>(5)? == "org",
        namespace_used: Used::from_row(&row, 6)?,
        namespace_quota: Quota::from_row(&row, 9)?,
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
    pub used: Used,
    pub quota: Quota,
}

const NAMESPACE: &str =
    "SELECT name, kind, used_bytes, proposed_bytes, proposal_price, quota_bytes FROM namespace";

fn namespace_usage(row: &Row) -> Result<NamespaceUsage, StoreError> {
    Ok(NamespaceUsage {
        name: row.get(0)?,
        is_organization: row.get::<String>(1)? == "org",
        used: Used::from_row(row, 2)?,
        quota: Quota::from_row(row, 5)?,
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

/// Notes that only proposals use so many stored bytes more, or less, and what they are charged for it.
pub(crate) async fn propose(
    tx: &mut WriteTx,
    repo: RepoId,
    (bytes, price): (i64, i64),
) -> Result<(), StoreError> {
    if (bytes, price) == (0, 0) {
        return Ok(());
    }
    let sql = "UPDATE repo SET proposed_bytes = proposed_bytes + $1, proposal_price = proposal_price + $2 \
        WHERE id = $3";
    tx.execute(sql, values![bytes, price, repo]).await?;
    let sql = "UPDATE namespace SET proposed_bytes = proposed_bytes + $1, proposal_price = proposal_price + $2 \
        WHERE id = (SELECT namespace_id FROM repo WHERE id = $3)";
    tx.execute(sql, values![bytes, price, repo]).await?;
    Ok(())
}

/// Moves what a repository uses out of its namespace, or into it: before and after it is moved.
pub(crate) async fn leave_namespace(tx: &mut WriteTx, repo: RepoId) -> Result<(), StoreError> {
    carry(tx, repo, '-').await
}

pub(crate) async fn enter_namespace(tx: &mut WriteTx, repo: RepoId) -> Result<(), StoreError> {
    carry(tx, repo, '+').await
}

async fn carry(tx: &mut WriteTx, repo: RepoId, sign: char) -> Result<(), StoreError> {
    let set = ["used_bytes", "proposed_bytes", "proposal_price"]
        .map(|column| format!("{column} = {column} {sign} (SELECT {column} FROM repo WHERE id = $1)"));
    let sql = format!(
        "UPDATE namespace SET {} WHERE id = (SELECT namespace_id FROM repo WHERE id = $1)",
        set.join(", ")
    );
    tx.execute(&sql, values![repo]).await?;
    Ok(())
}

/// What is counted, counted anew: (as it is noted, as it is).
pub async fn recount<L: Level>(read: &mut Reader, access: &Access<L>) -> Result<(Used, Used), StoreError> {
    let sql = "SELECT used_bytes, proposed_bytes, proposal_price, \
        CAST(COALESCE((SELECT SUM(bytes) FROM git_pack WHERE repo_id = $1), 0) \
        + COALESCE((SELECT SUM(x.stored_bytes) FROM repo_xorb r JOIN xorb x ON x.id = r.xorb_id \
            WHERE r.repo_id = $1), 0) AS BIGINT), \
        CAST(COALESCE((SELECT SUM(x.stored_bytes) FROM proposal_xorb p JOIN xorb x ON x.id = p.xorb_id \
            WHERE p.repo_id = $1), 0) \
        + COALESCE((SELECT SUM(pack_bytes) FROM proposal_commit WHERE repo_id = $1), 0) AS BIGINT), \
        CAST(COALESCE((SELECT SUM(bytes) FROM proposal_xorb WHERE repo_id = $1), 0) \
        + COALESCE((SELECT SUM(bytes) FROM proposal_file WHERE repo_id = $1), 0) \
        + COALESCE((SELECT SUM(bytes) FROM proposal_commit WHERE repo_id = $1), 0) AS BIGINT) \
        FROM repo WHERE id = $1";
    let row = read.one(sql, values![access.repo_id()]).await?;
    row.map_or(Ok(Default::default()), |row| Ok((Used::from_row(&row, 0)?, Used::from_row(&row, 3)?)))
}

/// Namespaces whose bytes are not those of their repositories.
pub async fn miscounted(read: &mut Reader) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT n.name FROM namespace n LEFT JOIN (SELECT namespace_id, SUM(used_bytes) AS bytes, \
        SUM(proposed_bytes) AS proposed, SUM(proposal_price) AS price FROM repo GROUP BY namespace_id) s \
        ON s.namespace_id = n.id WHERE n.used_bytes <> COALESCE(s.bytes, 0) \
        OR n.proposed_bytes <> COALESCE(s.proposed, 0) OR n.proposal_price <> COALESCE(s.price, 0)";
    read.scan(sql, &[]).await?.iter().map(|row| row.get(0)).collect()
}
