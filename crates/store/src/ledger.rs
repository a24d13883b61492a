//! The ledger's tables. Events are appended to the Merkle tree in the very transaction that they
//! belong to: with one writer at a time there is no moment when an event is outside the tree.

pub use bastide_ledger::Event;
use bastide_ledger::{Hash, NewEvent};

use crate::db::{Reader, Row, WriteTx};
use crate::{StoreError, values};

/// Appends an event: its row, and the subtrees that it completes.
pub(crate) async fn append(tx: &mut WriteTx, event: NewEvent) -> Result<(), StoreError> {
    let seq = size(tx).await?;
    let event = event.at(seq);
    let leaf = event.leaf_hash();
    insert_event(tx, &event, leaf).await?;
    add_nodes(tx, seq, leaf).await
}

/// A leaf at an odd place completes its parent, which may complete its own, and so on up.
async fn add_nodes(tx: &mut WriteTx, seq: i64, leaf: Hash) -> Result<(), StoreError> {
    let (mut position, mut hash) = (seq, leaf);
    for level in 0.. {
        let sql = "INSERT INTO ledger_node (level, position, hash) VALUES ($1, $2, $3)";
        tx.execute(sql, values![i64::from(level), position, hash]).await?;
        if position % 2 == 0 {
            break;
        }
        let left = node(tx, level, position - 1).await?.ok_or_else(|| {
            StoreError::Corrupt(format!(
                "ledger node {level}/{} is missing: run `bastide ledger verify`",
                position - 1
            ))
        })?;
        hash = bastide_ledger::node_hash(&left, &hash);
        position /= 2;
    }
    Ok(())
}

async fn insert_event(tx: &mut WriteTx, event: &Event, leaf: Hash) -> Result<(), StoreError> {
    let sql = "INSERT INTO event (seq, time_ms, actor_kind, actor_id, actor_name, credential_kind, credential_id, \
        action, subject_kind, subject_id, subject_name, address, user_agent, request_id, facts, leaf) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)";
    let event = event.clone();
    let params = values![
        event.seq,
        event.time_ms,
        event.actor_kind,
        event.actor_id,
        event.actor_name,
        event.credential_kind,
        event.credential_id,
        event.action,
        event.subject_kind,
        event.subject_id,
        event.subject_name,
        event.address,
        event.user_agent,
        event.request_id,
        event.facts,
        leaf
    ];
    tx.execute(sql, params).await?;
    Ok(())
}

/// How many events there are: the size of the tree.
pub async fn size(read: &mut Reader) -> Result<i64, StoreError> {
    let row = read.one("SELECT COALESCE(MAX(seq) + 1, 0) FROM event", &[]).await?;
    row.map_or(Ok(0), |row| row.get(0))
}

/// How much of everything there is, counted in one statement, so that a hub that goes on writing
/// is seen at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    pub size: i64,
    pub events: i64,
    pub nodes: i64,
}

pub async fn totals(read: &mut Reader) -> Result<Totals, StoreError> {
    let sql = "SELECT (SELECT COALESCE(MAX(seq) + 1, 0) FROM event), (SELECT COUNT(*) FROM event), \
        (SELECT COUNT(*) FROM ledger_node)";
    let row = read.scan(sql, &[]).await?.into_iter().next();
    let row = row.ok_or_else(|| StoreError::Corrupt("a count without an answer".to_owned()))?;
    Ok(Totals { size: row.get(0)?, events: row.get(1)?, nodes: row.get(2)? })
}

/// A subtree's hash. What is no hash, because somebody wrote it who was not us, is none.
pub async fn node(read: &mut Reader, level: u32, position: i64) -> Result<Option<Hash>, StoreError> {
    let sql = "SELECT hash FROM ledger_node WHERE level = $1 AND position = $2";
    Ok(read.one(sql, values![i64::from(level), position]).await?.and_then(|row| row.get(0).ok()))
}

/// An event as stored, and the leaf hash that was stored with it. `None` where a column holds
/// what it never can have: somebody has written it who was not us.
#[derive(Debug, Clone)]
pub struct StoredEvent {
    pub seq: i64,
    pub event: Option<Event>,
    pub leaf: Option<Hash>,
}

/// Up to `limit` events from `seq` on. For the operator and the ledger's own checks.
pub async fn events_from(read: &mut Reader, seq: i64, limit: u32) -> Result<Vec<StoredEvent>, StoreError> {
    let sql = "SELECT seq, time_ms, actor_kind, actor_id, actor_name, credential_kind, credential_id, action, \
        subject_kind, subject_id, subject_name, address, user_agent, request_id, facts, leaf \
        FROM event WHERE seq >= $1 ORDER BY seq LIMIT $2";
    read.scan(sql, values![seq, limit]).await?.iter().map(stored_event).collect()
}

fn stored_event(row: &Row) -> Result<StoredEvent, StoreError> {
    Ok(StoredEvent { seq: row.get(0)?, event: event(row).ok(), leaf: row.get(15).ok() })
}

fn event(row: &Row) -> Result<Event, StoreError> {
    Ok(Event {
        seq: row.get(0)?,
        time_ms: row.get(1)?,
        actor_kind: row.get(2)?,
        actor_id: row.get(3)?,
        actor_name: row.get(4)?,
        credential_kind: row.get(5)?,
        credential_id: row.get(6)?,
        action: row.get(7)?,
        subject_kind: row.get(8)?,
        subject_id: row.get(9)?,
        subject_name: row.get(10)?,
        address: row.get(11)?,
        user_agent: row.get(12)?,
        request_id: row.get(13)?,
        facts: row.get(14)?,
    })
}

/// A checkpoint that was signed and kept.
#[derive(Debug, Clone)]
pub struct StoredCheckpoint {
    pub size: i64,
    pub root: Hash,
    pub note: String,
}

pub async fn checkpoints(read: &mut Reader) -> Result<Vec<StoredCheckpoint>, StoreError> {
    let rows = read.scan("SELECT size, root, note FROM checkpoint ORDER BY size", &[]).await?;
    rows.iter().map(checkpoint).collect()
}

pub async fn last_checkpoint(read: &mut Reader) -> Result<Option<StoredCheckpoint>, StoreError> {
    let row = read.one("SELECT size, root, note FROM checkpoint ORDER BY size DESC LIMIT 1", &[]).await?;
    row.map(|row| checkpoint(&row)).transpose()
}

/// Columns that hold what they never can have read as empty, which no check accepts.
fn checkpoint(row: &Row) -> Result<StoredCheckpoint, StoreError> {
    let (root, note) = (row.get(1).unwrap_or_default(), row.get(2).unwrap_or_default());
    Ok(StoredCheckpoint { size: row.get(0)?, root, note })
}

/// Keeps a signed checkpoint. It states what the ledger already says, so it is no event itself.
pub async fn keep_checkpoint(db: &crate::Db, checkpoint: &StoredCheckpoint) -> Result<(), StoreError> {
    let mut tx = db.begin().await?;
    let sql = "INSERT INTO checkpoint (size, root, note) VALUES ($1, $2, $3) \
        ON CONFLICT (size) DO NOTHING";
    let params = values![checkpoint.size, checkpoint.root, checkpoint.note.as_str()];
    tx.execute(sql, params).await?;
    tx.commit_upkeep().await
}
