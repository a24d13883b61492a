//! Read records: who was given what. Facts about deliveries, not changes: no event goes with them.

use bastide_core::{Oid, Timestamp};

use crate::db::{Db, Reader};
use crate::permit::{Access, Admin};
use crate::{StoreError, values};

#[derive(Debug, Clone)]
pub struct ReadRow {
    pub position: i64,
    pub time_ms: i64,
    pub actor_kind: String,
    pub actor_id: Option<i64>,
    pub credential_id: Option<i64>,
    pub repo_id: i64,
    pub commit: Option<Oid>,
    pub path: Option<String>,
    pub object: String,
    pub via: String,
    pub bytes: u64,
    pub address: Option<String>,
    pub user_agent: Option<String>,
    pub request_id: String,
}

/// Adds the records of a journal segment. Those that are there already are left as they are.
pub async fn add(db: &Db, segment: i64, rows: &[ReadRow]) -> Result<u64, StoreError> {
    let mut tx = db.begin().await?;
    let mut added = 0;
    let mut new = Vec::with_capacity(rows.len());
    for row in rows {
        let sql = "INSERT INTO read_record (segment, position, time_ms, actor_kind, actor_id, credential_id, repo_id, \
            commit_id, path, object, via, bytes, address, user_agent, request_id) \
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) \
            ON CONFLICT (segment, position) DO NOTHING";
        let params = values![
            segment,
            row.position,
            row.time_ms,
            &row.actor_kind,
            row.actor_id,
            row.credential_id,
            row.repo_id,
            row.commit,
            row.path.clone(),
            &row.object,
            &row.via,
            row.bytes,
            row.address.clone(),
            row.user_agent.clone(),
            &row.request_id
        ];
        // One that was loaded before counts no second time.
        if tx.execute(sql, params).await? > 0 {
            added += 1;
            new.push(row);
        }
    }
    for (repo, count) in downloads(&new) {
        let sql =
            "UPDATE repo SET downloads = downloads + $1, downloads_all = downloads_all + $1 WHERE id = $2";
        tx.execute(sql, values![count, repo]).await?;
    }
    tx.commit_upkeep().await?;
    Ok(added)
}

/// Files and clones that were fetched whole or from their start, by repository.
fn downloads(rows: &[&ReadRow]) -> std::collections::BTreeMap<i64, i64> {
    let mut counts = std::collections::BTreeMap::new();
    for row in rows.iter().filter(|row| matches!(row.via.as_str(), "resolve" | "xet" | "git-clone")) {
        *counts.entry(row.repo_id).or_default() += 1;
    }
    counts
}

pub async fn prune(db: &Db, before: Timestamp) -> Result<u64, StoreError> {
    let mut tx = db.begin().await?;
    let removed = tx.execute("DELETE FROM read_record WHERE time_ms < $1", values![before]).await?;
    tx.commit_upkeep().await?;
    Ok(removed)
}

/// One record, as the owner of a repository sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadFact {
    pub time: Timestamp,
    pub actor_id: Option<i64>,
    pub credential_id: Option<i64>,
    pub path: Option<String>,
    pub object: String,
    pub via: String,
    pub bytes: u64,
}

/// The latest deliveries from a repository.
pub async fn of_repo(
    read: &mut Reader,
    access: &Access<Admin>,
    limit: u32,
) -> Result<Vec<ReadFact>, StoreError> {
    let sql = "SELECT time_ms, actor_id, credential_id, path, object, via, bytes FROM read_record \
        WHERE repo_id = $1 ORDER BY time_ms DESC, segment DESC, position DESC LIMIT $2";
    let rows = read.scan(sql, values![access.repo_id(), limit]).await?;
    let fact = |row: &crate::db::Row| {
        Ok(ReadFact {
            time: row.get(0)?,
            actor_id: row.get(1)?,
            credential_id: row.get(2)?,
            path: row.get(3)?,
            object: row.get(4)?,
            via: row.get(5)?,
            bytes: row.get(6)?,
        })
    };
    rows.iter().map(fact).collect()
}
