//! The job queue: one table, enqueued in the transaction of the change that needs the work.
//!
//! A job that is waiting is not enqueued twice under one key. A claim is a lease: a worker that
//! dies loses it and another takes over, so every job must be idempotent. The number of attempts
//! names the lease: who has lost it can neither end the job nor put it back.

use bastide_core::{Timestamp, id::RowId};
use bastide_ledger::NewEvent;

use crate::db::{Db, Reader, WriteTx};
use crate::{StoreError, values};

/// How long a worker may keep a job without a sign of life.
pub const LEASE_SECONDS: i64 = 600;
/// After so many attempts a job is left for a person to look at.
pub const MAX_ATTEMPTS: i64 = 10;
/// Back-off doubles from the first to the second of these.
const FIRST_RETRY_SECONDS: i64 = 5;
const LAST_RETRY_SECONDS: i64 = 3600;

#[derive(Debug, Clone)]
pub struct Job {
    pub id: RowId,
    pub kind: String,
    pub key: String,
    pub payload: String,
    /// This attempt's number.
    pub attempts: i64,
}

impl Job {
    /// Has it been tried often enough? It is claimed once more only to be put aside: whoever had
    /// it the last time died of it, or never said how it ended.
    pub const fn is_used_up(&self) -> bool {
        self.attempts > MAX_ATTEMPTS
    }
}

/// What becomes of a job that has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    /// It will be tried again.
    Again,
    /// It is left for a person to look at.
    ForGood,
    /// Somebody else holds it by now.
    Lost,
}

pub struct NewJob<'a> {
    pub kind: &'a str,
    pub key: String,
    pub payload: String,
    pub run_at: Timestamp,
}

pub async fn enqueue(tx: &mut WriteTx, now: Timestamp, job: NewJob<'_>) -> Result<(), StoreError> {
    let sql = "INSERT INTO job (id, kind, key, payload, run_at, created_at) VALUES ($1, $2, $3, $4, $5, $6) \
        ON CONFLICT (kind, key) WHERE locked_until IS NULL AND failed_at IS NULL DO NOTHING";
    let params = values![RowId::new(now), job.kind, job.key, job.payload, job.run_at, now];
    tx.execute(sql, params).await?;
    Ok(())
}

/// Takes the job that is due longest, or whose worker died.
pub async fn claim(db: &Db, now: Timestamp) -> Result<Option<Job>, StoreError> {
    // A look without the writer's lock first: most of the time there is nothing to do.
    if due(&mut db.read().await?, now).await?.is_none() {
        return Ok(None);
    }
    let mut tx = db.begin().await?;
    let Some(job) = due(&mut tx, now).await? else { return Ok(None) };
    let sql = "UPDATE job SET locked_until = $1, attempts = attempts + 1 WHERE id = $2";
    tx.execute(sql, values![now.plus_seconds(LEASE_SECONDS), job.id]).await?;
    tx.commit_upkeep().await?;
    Ok(Some(Job { attempts: job.attempts + 1, ..job }))
}

async fn due(read: &mut Reader, now: Timestamp) -> Result<Option<Job>, StoreError> {
    let sql = "SELECT id, kind, key, payload, attempts FROM job \
        WHERE failed_at IS NULL AND run_at <= $1 AND (locked_until IS NULL OR locked_until < $1) \
        ORDER BY run_at, id LIMIT 1";
    let Some(row) = read.one(sql, values![now]).await? else { return Ok(None) };
    Ok(Some(Job {
        id: row.get(0)?,
        kind: row.get(1)?,
        key: row.get(2)?,
        payload: row.get(3)?,
        attempts: row.get(4)?,
    }))
}

/// Keeps a job for longer. False when it is somebody else's by now.
pub async fn renew(db: &Db, job: &Job, now: Timestamp) -> Result<bool, StoreError> {
    let mut tx = db.begin().await?;
    let sql = "UPDATE job SET locked_until = $1 WHERE id = $2 AND attempts = $3 AND locked_until IS NOT NULL";
    let held = tx.execute(sql, values![now.plus_seconds(LEASE_SECONDS), job.id, job.attempts]).await?;
    tx.commit_upkeep().await?;
    Ok(held > 0)
}

/// Ends a job that is done. False when it is somebody else's by now.
pub async fn finish(db: &Db, job: &Job) -> Result<bool, StoreError> {
    let mut tx = db.begin().await?;
    let ended = remove(&mut tx, job).await?;
    tx.commit_upkeep().await?;
    Ok(ended)
}

async fn remove(tx: &mut WriteTx, job: &Job) -> Result<bool, StoreError> {
    let sql = "DELETE FROM job WHERE id = $1 AND attempts = $2 AND locked_until IS NOT NULL";
    Ok(tx.execute(sql, values![job.id, job.attempts]).await? > 0)
}

/// Puts a job back with a back-off, or aside for good together with `event`.
pub async fn fail(
    db: &Db,
    job: &Job,
    error: &str,
    now: Timestamp,
    event: NewEvent,
) -> Result<Failed, StoreError> {
    let again = job.attempts < MAX_ATTEMPTS;
    let mut tx = db.begin().await?;
    // Another of its kind may have been enqueued while it ran: that one will do the work.
    let twin = "SELECT id FROM job WHERE kind = $1 AND key = $2 AND id <> $3 \
        AND locked_until IS NULL AND failed_at IS NULL";
    let held = if again && tx.one(twin, values![&job.kind, &job.key, job.id]).await?.is_some() {
        remove(&mut tx, job).await?
    } else {
        let sql = "UPDATE job SET locked_until = NULL, run_at = $1, last_error = $2, failed_at = $3 \
            WHERE id = $4 AND attempts = $5 AND locked_until IS NOT NULL";
        let run_at = now.plus_seconds(retry_seconds(job.attempts));
        let failed_at = (!again).then_some(now);
        tx.execute(sql, values![run_at, error, failed_at, job.id, job.attempts]).await? > 0
    };
    match (held, again) {
        (false, _) => return Ok(Failed::Lost),
        (true, true) => tx.commit_upkeep().await?,
        (true, false) => tx.commit(event).await?,
    }
    Ok(if again { Failed::Again } else { Failed::ForGood })
}

fn retry_seconds(attempts: i64) -> i64 {
    let doublings = u32::try_from(attempts.clamp(1, 30) - 1).unwrap_or(0);
    FIRST_RETRY_SECONDS.saturating_mul(1 << doublings).min(LAST_RETRY_SECONDS)
}

/// Jobs that wait, run or have failed for good: for tests.
pub async fn counts(read: &mut Reader) -> Result<(u64, u64), StoreError> {
    let sql = "SELECT COUNT(*), COUNT(failed_at) FROM job";
    let Some(row) = read.one(sql, &[]).await? else { return Ok((0, 0)) };
    let (all, failed): (u64, u64) = (row.get(0)?, row.get(1)?);
    Ok((all - failed, failed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_off_doubles_up_to_an_hour() {
        assert_eq!(retry_seconds(1), 5);
        assert_eq!(retry_seconds(2), 10);
        assert_eq!(retry_seconds(9), 1280);
        assert_eq!(retry_seconds(30), 3600);
    }
}
