//! Rules for branches, as rows.

use bastide_core::Timestamp;

use crate::db::{Reader, Row, WriteTx};
use crate::permit::{Access, Admin, Includes, See};
use crate::{StoreError, values};

/// What may be done to the branches that a pattern names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchRule {
    pub pattern: String,
    pub allow_force: bool,
    pub allow_delete: bool,
}

pub async fn list<L: Includes<See>>(
    read: &mut Reader,
    access: &Access<L>,
) -> Result<Vec<BranchRule>, StoreError> {
    let sql =
        "SELECT pattern, allow_force, allow_delete FROM branch_rule WHERE repo_id = $1 ORDER BY pattern";
    let rule = |row: &Row| {
        Ok(BranchRule { pattern: row.get(0)?, allow_force: row.get(1)?, allow_delete: row.get(2)? })
    };
    read.all(sql, values![access.repo_id()]).await?.iter().map(rule).collect()
}

/// Makes a rule, or puts it in the place of the one for the same pattern.
pub async fn put(
    tx: &mut WriteTx,
    access: &Access<Admin>,
    rule: &BranchRule,
    now: Timestamp,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO branch_rule (repo_id, pattern, allow_force, allow_delete, created_at) \
        VALUES ($1, $2, $3, $4, $5) ON CONFLICT (repo_id, pattern) \
        DO UPDATE SET allow_force = excluded.allow_force, allow_delete = excluded.allow_delete";
    let params = values![
        access.repo_id(),
        &rule.pattern,
        i64::from(rule.allow_force),
        i64::from(rule.allow_delete),
        now
    ];
    tx.execute(sql, params).await?;
    Ok(())
}

/// False when there is none.
pub async fn delete(tx: &mut WriteTx, access: &Access<Admin>, pattern: &str) -> Result<bool, StoreError> {
    let sql = "DELETE FROM branch_rule WHERE repo_id = $1 AND pattern = $2";
    Ok(tx.execute(sql, values![access.repo_id(), pattern]).await? > 0)
}
