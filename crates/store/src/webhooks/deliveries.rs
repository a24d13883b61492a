//! The queue of deliveries and their log: one table, where what is over stays for a while.
//!
//! A claim is a lease on the whole webhook: one delivery of each is under way at a time, and a few
//! of each owner, so that a slow target holds up nobody else.

use bastide_core::id::RowId;
use bastide_core::{Name, NamespaceId, Timestamp};
use bastide_ledger::NewEvent;

use super::dispatch::{trigger, wake};
use super::{Owner, get};
use crate::db::{Db, Reader, Row, WriteTx};
use crate::gate::parse;
use crate::{StoreError, values};

/// How long a sender may take: more than the longest exchange.
pub const LEASE_SECONDS: i64 = 60;

/// A delivery that is to be tried now, and its webhook as it is now.
#[derive(Debug)]
pub struct Claim {
    pub webhook: RowId,
    lease: i64,
    pub owner: NamespaceId,
    pub owner_name: Name,
    pub owner_disabled: bool,
    pub url: String,
    /// Sealed.
    pub secret: Option<Vec<u8>>,
    /// Deliveries in a row that were given up.
    pub failures: i64,
    pub delivery: RowId,
    pub seq: i64,
    /// What was sent before.
    pub payload: Option<String>,
    /// This attempt's number.
    pub attempts: i64,
}

/// How many deliveries may be under way, on all servers together.
#[derive(Debug, Clone, Copy)]
pub struct Shares {
    /// Those of one user's webhooks.
    pub owner: i64,
    /// Those of all webhooks whose last attempt took seconds.
    pub slow: i64,
}

/// Takes a delivery of the webhook that waits longest for its turn and is not busy, nor its owner.
pub async fn claim(db: &Db, shares: Shares, now: Timestamp) -> Result<Option<Claim>, StoreError> {
    // A look without the writer's lock first: most of the time there is nothing to do.
    if due(&mut db.read().await?, shares, now).await?.is_none() {
        return Ok(None);
    }
    let mut tx = db.begin().await?;
    let Some(webhook) = due(&mut tx, shares, now).await? else { return Ok(None) };
    let until = now.plus_seconds(LEASE_SECONDS);
    let sql = "UPDATE webhook SET lease = lease + 1, leased_until = $1, due_at = $1 WHERE id = $2";
    tx.execute(sql, values![until, webhook]).await?;
    let sql =
        "UPDATE webhook_delivery SET attempts = attempts + 1 WHERE id = (SELECT id FROM webhook_delivery \
        WHERE webhook_id = $1 AND next_at IS NOT NULL AND next_at <= $2 ORDER BY next_at, id LIMIT 1)
        RETURNING id";
    let delivery: Option<RowId> =
        tx.one(sql, values![webhook, now]).await?.map(|row| row.get(0)).transpose()?;
    let claim = match delivery {
        Some(delivery) => claimed(&mut tx, delivery).await?,
        None => {
            release(&mut tx, webhook, now).await?;
            None
        }
    };
    tx.commit_upkeep().await?;
    Ok(claim)
}

async fn due(read: &mut Reader, shares: Shares, now: Timestamp) -> Result<Option<RowId>, StoreError> {
    let sql = "SELECT h.id FROM webhook h WHERE h.due_at IS NOT NULL AND h.due_at <= $1 AND \
        (SELECT COUNT(*) FROM webhook o WHERE o.owner_id = h.owner_id AND o.leased_until > $1) < $2 AND \
        (h.slow = 0 OR (SELECT COUNT(*) FROM webhook o WHERE o.leased_until > $1 AND o.slow = 1) < $3) \
        ORDER BY h.due_at, h.id LIMIT 1";
    read.one(sql, values![now, shares.owner, shares.slow]).await?.map(|row| row.get(0)).transpose()
}

async fn claimed(tx: &mut WriteTx, delivery: RowId) -> Result<Option<Claim>, StoreError> {
    let sql = "SELECT h.id, h.lease, h.owner_id, n.name, n.disabled_at IS NOT NULL, h.url, h.secret, h.failures, \
        d.id, d.seq, d.payload, d.attempts FROM webhook_delivery d JOIN webhook h ON h.id = d.webhook_id \
        JOIN namespace n ON n.id = h.owner_id WHERE d.id = $1";
    let Some(row) = tx.one(sql, values![delivery]).await? else { return Ok(None) };
    Ok(Some(Claim {
        webhook: row.get(0)?,
        lease: row.get(1)?,
        owner: row.get(2)?,
        owner_name: parse(&row, 3)?,
        owner_disabled: row.get(4)?,
        url: row.get(5)?,
        secret: row.get(6)?,
        failures: row.get(7)?,
        delivery: row.get(8)?,
        seq: row.get(9)?,
        payload: row.get(10)?,
        attempts: row.get(11)?,
    }))
}

/// Gives a webhook back: it is due when the next of its deliveries is, and not before now. So it goes
/// behind those that wait already, however old its own deliveries are.
async fn release(tx: &mut WriteTx, webhook: RowId, now: Timestamp) -> Result<(), StoreError> {
    let sql = "UPDATE webhook SET leased_until = NULL, due_at = \
        (SELECT CASE WHEN MIN(next_at) < $2 THEN $2 ELSE MIN(next_at) END FROM webhook_delivery \
        WHERE webhook_id = $1 AND next_at IS NOT NULL) WHERE id = $1";
    tx.execute(sql, values![webhook, now]).await?;
    Ok(())
}

/// What an attempt came to.
#[derive(Debug, Clone, Default)]
pub struct Tried {
    pub payload: String,
    /// The discussion, and the event of it, that the payload quotes.
    pub quotes: Option<(RowId, Option<RowId>)>,
    pub url: String,
    pub status: Option<u16>,
    pub duration_ms: Option<i64>,
    pub error: Option<String>,
    pub excerpt: Option<String>,
    /// It took so long that others have to be kept from waiting for it.
    pub slow: bool,
}

/// What becomes of a delivery.
#[derive(Debug)]
pub enum Ending {
    Delivered(Tried),
    Again(Tried, Timestamp),
    GivenUp(Tried),
    /// Its owner may not know of it any more: no trace is left.
    Withdrawn,
}

/// Ends an attempt. With `disable` the webhook is turned off, for this reason and with this event.
/// False when it is somebody else's by now, or gone.
pub async fn finish(
    db: &Db,
    claim: &Claim,
    ending: Ending,
    disable: Option<(&str, NewEvent)>,
    (kept, now): (i64, Timestamp),
) -> Result<bool, StoreError> {
    let mut tx = db.begin().await?;
    let sql = "SELECT id FROM webhook WHERE id = $1 AND lease = $2 AND leased_until IS NOT NULL";
    if tx.one(sql, values![claim.webhook, claim.lease]).await?.is_none() {
        return Ok(false);
    }
    match ending {
        Ending::Delivered(tried) => {
            note(&mut tx, claim, tried, (None, Some("delivered")), now).await?;
            set_failures(&mut tx, claim.webhook, 0).await?;
        }
        Ending::Again(tried, at) => note(&mut tx, claim, tried, (Some(at), None), now).await?,
        Ending::GivenUp(tried) => {
            note(&mut tx, claim, tried, (None, Some("failed")), now).await?;
            set_failures(&mut tx, claim.webhook, claim.failures + 1).await?;
        }
        Ending::Withdrawn => {
            tx.execute("DELETE FROM webhook_delivery WHERE id = $1", values![claim.delivery]).await?;
        }
    }
    forget_oldest(&mut tx, claim.webhook, kept).await?;
    release(&mut tx, claim.webhook, now).await?;
    match disable {
        None => tx.commit_upkeep().await?,
        Some((reason, event)) => {
            let sql = "UPDATE webhook SET disabled = $1, updated_at = $2 WHERE id = $3";
            tx.execute(sql, values![reason, now, claim.webhook]).await?;
            drop_waiting(&mut tx, claim.webhook, now).await?;
            tx.commit(event).await?;
        }
    }
    Ok(true)
}

async fn note(
    tx: &mut WriteTx,
    claim: &Claim,
    tried: Tried,
    (next, outcome): (Option<Timestamp>, Option<&str>),
    now: Timestamp,
) -> Result<(), StoreError> {
    let sql = "UPDATE webhook_delivery SET payload = $1, url = $2, status = $3, duration_ms = $4, error = $5, \
        excerpt = $6, next_at = $7, outcome = $8, tried_at = $9, discussion_id = $11, discussion_event_id = $12 \
        WHERE id = $10";
    let (discussion, event) = tried.quotes.unzip();
    // It was hidden or removed while it was sent.
    let keep = match tried.quotes {
        Some((discussion, event)) => still_said(tx, discussion, event).await?,
        None => true,
    };
    let (payload, excerpt) = (keep.then_some(tried.payload), tried.excerpt.filter(|_| keep));
    let status = tried.status.map(i64::from);
    let params = values![
        payload,
        tried.url,
        status,
        tried.duration_ms,
        tried.error,
        excerpt,
        next,
        outcome,
        now,
        claim.delivery,
        discussion,
        event.flatten()
    ];
    tx.execute(sql, params).await?;
    tx.execute("UPDATE webhook SET slow = $1 WHERE id = $2", values![tried.slow, claim.webhook]).await?;
    Ok(())
}

async fn still_said(tx: &mut WriteTx, discussion: RowId, event: Option<RowId>) -> Result<bool, StoreError> {
    if tx.one("SELECT id FROM discussion WHERE id = $1", values![discussion]).await?.is_none() {
        return Ok(false);
    }
    let sql = "SELECT id FROM discussion_event WHERE id = $1 AND hidden_at IS NOT NULL";
    Ok(match event {
        Some(event) => tx.one(sql, values![event]).await?.is_none(),
        None => true,
    })
}

/// Takes what was said in a discussion, or by one event of it, out of all that was delivered: no log shows it, and
/// what is sent again says what there is then. Targets may have quoted it in their answers.
pub async fn forget_said(
    tx: &mut WriteTx,
    discussion: RowId,
    event: Option<RowId>,
) -> Result<(), StoreError> {
    let sql = "UPDATE webhook_delivery SET payload = NULL, excerpt = NULL WHERE discussion_id = $1";
    match event {
        None => tx.execute(sql, values![discussion]).await?,
        Some(event) => {
            let sql = format!("{sql} AND discussion_event_id = $2");
            tx.execute(&sql, values![discussion, event]).await?
        }
    };
    Ok(())
}

async fn set_failures(tx: &mut WriteTx, webhook: RowId, failures: i64) -> Result<(), StoreError> {
    tx.execute("UPDATE webhook SET failures = $1 WHERE id = $2", values![failures, webhook]).await?;
    Ok(())
}

/// The log of a webhook keeps its newest rows; what waits is kept in any case.
async fn forget_oldest(tx: &mut WriteTx, webhook: RowId, kept: i64) -> Result<(), StoreError> {
    let sql = "DELETE FROM webhook_delivery WHERE webhook_id = $1 AND next_at IS NULL AND id <= \
        (SELECT id FROM webhook_delivery WHERE webhook_id = $1 ORDER BY id DESC LIMIT 1 OFFSET $2)";
    tx.execute(sql, values![webhook, kept]).await?;
    Ok(())
}

/// Ends all that waits for a webhook that is off; an attempt under way has lost it.
pub(super) async fn drop_waiting(tx: &mut WriteTx, webhook: RowId, now: Timestamp) -> Result<(), StoreError> {
    let sql = "UPDATE webhook_delivery SET next_at = NULL, outcome = 'dropped', tried_at = COALESCE(tried_at, $1), \
        error = COALESCE(error, 'the webhook was disabled') WHERE webhook_id = $2 AND next_at IS NOT NULL";
    tx.execute(sql, values![now, webhook]).await?;
    let sql = "UPDATE webhook SET lease = lease + 1, leased_until = NULL, due_at = NULL WHERE id = $1";
    tx.execute(sql, values![webhook]).await?;
    Ok(())
}

/// Takes what is over for longer than the log is kept.
pub async fn prune(db: &Db, before: Timestamp) -> Result<u64, StoreError> {
    let mut tx = db.begin().await?;
    let sql = "DELETE FROM webhook_delivery WHERE created_at < $1 AND next_at IS NULL";
    let gone = tx.execute(sql, values![before]).await?;
    tx.commit_upkeep().await?;
    Ok(gone)
}

/// A line of the log.
#[derive(Debug, Clone)]
pub struct DeliveryRow {
    pub id: RowId,
    pub seq: i64,
    pub replay_of: Option<RowId>,
    pub event: String,
    pub next_at: Option<Timestamp>,
    pub attempts: i64,
    pub outcome: Option<String>,
    pub url: Option<String>,
    pub status: Option<i64>,
    pub duration_ms: Option<i64>,
    pub error: Option<String>,
    pub created_at: Timestamp,
    pub tried_at: Option<Timestamp>,
}

/// A line of the log with what was sent, and how the answer began.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub row: DeliveryRow,
    pub payload: Option<String>,
    pub excerpt: Option<String>,
}

const COLUMNS: &str = "id, seq, replay_of, event, next_at, attempts, outcome, url, status, duration_ms, error, \
    created_at, tried_at";

fn delivery_row(row: &Row) -> Result<DeliveryRow, StoreError> {
    Ok(DeliveryRow {
        id: row.get(0)?,
        seq: row.get(1)?,
        replay_of: row.get(2)?,
        event: row.get(3)?,
        next_at: row.get(4)?,
        attempts: row.get(5)?,
        outcome: row.get(6)?,
        url: row.get(7)?,
        status: row.get(8)?,
        duration_ms: row.get(9)?,
        error: row.get(10)?,
        created_at: row.get(11)?,
        tried_at: row.get(12)?,
    })
}

/// The log of a webhook, newest first, before the line `before`. What was never tried is not in it:
/// its owner may turn out not to be allowed to know of it.
pub async fn log(
    read: &mut Reader,
    owner: &Owner,
    webhook: RowId,
    before: Option<RowId>,
    limit: usize,
) -> Result<Option<Vec<DeliveryRow>>, StoreError> {
    if get(read, owner, webhook).await?.is_none() {
        return Ok(None);
    }
    let sql = format!(
        "SELECT {COLUMNS} FROM webhook_delivery WHERE webhook_id = $1 AND id < $2 AND (tried_at IS NOT NULL OR outcome IS NOT NULL) \
         ORDER BY id DESC LIMIT $3"
    );
    let before = before.map_or(i64::MAX, RowId::as_i64);
    let rows = read.all(&sql, values![webhook, before, limit]).await?;
    rows.iter().map(delivery_row).collect::<Result<_, _>>().map(Some)
}

/// One line of the log, as `log` has it.
pub async fn line(
    read: &mut Reader,
    owner: &Owner,
    (webhook, line): (RowId, RowId),
) -> Result<Option<Delivery>, StoreError> {
    if get(read, owner, webhook).await?.is_none() {
        return Ok(None);
    }
    let sql = format!(
        "SELECT {COLUMNS}, payload, excerpt FROM webhook_delivery WHERE webhook_id = $1 AND id = $2 \
         AND (tried_at IS NOT NULL OR outcome IS NOT NULL)"
    );
    let Some(row) = read.one(&sql, values![webhook, line]).await? else { return Ok(None) };
    Ok(Some(Delivery { row: delivery_row(&row)?, payload: row.get(13)?, excerpt: row.get(14)? }))
}

/// Queues a delivery once more, to where its webhook sends now, by the rights of now. How many
/// triggers that makes today; `None` when there is no such line, or the webhook is off.
pub async fn replay(
    tx: &mut WriteTx,
    owner: &Owner,
    (webhook, line): (RowId, RowId),
    now: Timestamp,
) -> Result<Option<(RowId, i64)>, StoreError> {
    let Some(old) = self::line(tx, owner, (webhook, line)).await? else { return Ok(None) };
    let Some(triggers) = trigger(tx, webhook, now).await? else { return Ok(None) };
    let id = RowId::new(now);
    let sql = "INSERT INTO webhook_delivery (id, webhook_id, seq, replay_of, event, payload, next_at, created_at, \
        discussion_id, discussion_event_id) SELECT $1, webhook_id, seq, id, event, payload, $2, $2, discussion_id, \
        discussion_event_id FROM webhook_delivery WHERE id = $3";
    tx.execute(sql, values![id, now, old.row.id]).await?;
    wake(tx, webhook, now).await?;
    Ok(Some((id, triggers)))
}
