//! Webhooks of users: what they watch, where they send. Queue and log are below here.
//!
//! A user's webhooks hang on the permit for that user; what they are told is decided by the hub, at
//! dispatch and again at every delivery, from the rights of their owner.

pub mod deliveries;
pub mod dispatch;

use bastide_core::id::RowId;
use bastide_core::{NamespaceId, RepoId, Timestamp, TokenId};

use crate::db::{Reader, Row, WriteTx};
use crate::permit::{Access, Admin, Namespace};
use crate::{StoreError, values};

/// What a webhook watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    Repo(RepoId),
    Namespace(NamespaceId),
}

impl Subject {
    const fn parts(self) -> (&'static str, i64) {
        match self {
            Self::Repo(id) => ("repo", id.as_i64()),
            Self::Namespace(id) => ("namespace", id.as_i64()),
        }
    }
}

/// One thing that is watched: its type and name as the owner of the webhook gave them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    pub subject: Subject,
    pub kind: &'static str,
    pub name: String,
}

/// What is to be told of: the two domains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Domains {
    pub repos: bool,
    pub discussions: bool,
}

#[derive(Debug, Clone)]
pub struct WebhookRow {
    pub id: RowId,
    pub url: String,
    pub has_secret: bool,
    pub domains: Domains,
    /// Why it is off; empty when its owner wanted it.
    pub disabled: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

pub struct NewWebhook<'a> {
    pub id: RowId,
    pub url: &'a str,
    /// Sealed.
    pub secret: Option<Vec<u8>>,
    pub domains: Domains,
    /// What it is made with: it ends with it.
    pub token: Option<TokenId>,
    pub now: Timestamp,
}

/// What is to change; `None` leaves a thing as it is.
#[derive(Debug, Default)]
pub struct Changes<'a> {
    pub url: Option<&'a str>,
    /// Who changes the URL to another.
    pub token: Option<TokenId>,
    /// Sealed; `Some(None)` takes it away.
    pub secret: Option<Option<Vec<u8>>>,
    pub domains: Option<Domains>,
}

type Owner = Access<Admin, Namespace>;

const COLUMNS: &str =
    "id, url, secret IS NOT NULL, repos, discussions, disabled, created_at, updated_at FROM webhook";

fn webhook(row: &Row) -> Result<WebhookRow, StoreError> {
    Ok(WebhookRow {
        id: row.get(0)?,
        url: row.get(1)?,
        has_secret: row.get(2)?,
        domains: Domains { repos: row.get(3)?, discussions: row.get(4)? },
        disabled: row.get(5)?,
        created_at: row.get(6)?,
        updated_at: row.get(7)?,
    })
}

/// A user's webhooks, oldest first.
pub async fn of_owner(read: &mut Reader, owner: &Owner) -> Result<Vec<WebhookRow>, StoreError> {
    let sql = format!("SELECT {COLUMNS} WHERE owner_id = $1 ORDER BY id");
    read.all(&sql, values![owner.namespace().id]).await?.iter().map(webhook).collect()
}

pub async fn get(read: &mut Reader, owner: &Owner, id: RowId) -> Result<Option<WebhookRow>, StoreError> {
    let sql = format!("SELECT {COLUMNS} WHERE owner_id = $1 AND id = $2");
    read.one(&sql, values![owner.namespace().id, id]).await?.map(|row| webhook(&row)).transpose()
}

pub async fn count_of(read: &mut Reader, owner: &Owner) -> Result<usize, StoreError> {
    let sql = "SELECT COUNT(*) FROM webhook WHERE owner_id = $1";
    let row = read.one(sql, values![owner.namespace().id]).await?;
    let count: u64 = row.map_or(Ok(0), |row| row.get(0))?;
    Ok(usize::try_from(count).unwrap_or(usize::MAX))
}

/// Adds a webhook that watches nothing yet. With the first of a hub the cursor begins: what was
/// before it is nobody's.
pub async fn add(tx: &mut WriteTx, owner: &Owner, new: NewWebhook<'_>) -> Result<(), StoreError> {
    if tx.one("SELECT id FROM webhook LIMIT 1", &[]).await?.is_none() {
        let size = crate::ledger::size(tx).await?;
        dispatch::set_cursor(tx, dispatch::Cursor { seq: size, webhook: 0 }).await?;
    }
    let sql = "INSERT INTO webhook (id, owner_id, url, secret, repos, discussions, token_id, created_at, updated_at) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)";
    let (owner, domains) = (owner.namespace().id, new.domains);
    let (repos, discussions) = (domains.repos, domains.discussions);
    let params = values![new.id, owner, new.url, new.secret, repos, discussions, new.token, new.now];
    tx.execute(sql, params).await?;
    Ok(())
}

/// Changes a webhook. False when there is none.
pub async fn change(
    tx: &mut WriteTx,
    owner: &Owner,
    id: RowId,
    changes: Changes<'_>,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let sql = "UPDATE webhook SET url = COALESCE($1, url), repos = COALESCE($2, repos), \
        discussions = COALESCE($3, discussions), updated_at = $4, \
        token_id = CASE WHEN COALESCE($1, url) = url THEN token_id ELSE $7 END WHERE owner_id = $5 AND id = $6";
    let (repos, discussions) =
        (changes.domains.map(|domains| domains.repos), changes.domains.map(|domains| domains.discussions));
    let params = values![changes.url, repos, discussions, now, owner.namespace().id, id, changes.token];
    let found = tx.execute(sql, params).await? > 0;
    if let (true, Some(secret)) = (found, changes.secret) {
        let sql = "UPDATE webhook SET secret = $1 WHERE id = $2";
        tx.execute(sql, values![secret, id]).await?;
    }
    Ok(found)
}

/// Says what a webhook watches from now on. What it watched already it goes on watching from where
/// it did.
pub async fn set_watched(
    tx: &mut WriteTx,
    owner: &Owner,
    id: RowId,
    watched: &[Watch],
) -> Result<(), StoreError> {
    if get(tx, owner, id).await?.is_none() {
        return Ok(());
    }
    let size = crate::ledger::size(tx).await?;
    let sql = "SELECT kind, subject_id, from_seq FROM webhook_watch WHERE webhook_id = $1";
    let mut before = std::collections::HashMap::new();
    for row in tx.all(sql, values![id]).await? {
        before.insert((row.get::<String>(0)?, row.get::<i64>(1)?), row.get::<i64>(2)?);
    }
    tx.execute("DELETE FROM webhook_watch WHERE webhook_id = $1", values![id]).await?;
    for (place, watch) in watched.iter().enumerate() {
        let (kind, subject) = watch.subject.parts();
        let from = before.get(&(kind.to_owned(), subject)).copied().unwrap_or(size);
        let sql = "INSERT INTO webhook_watch (kind, subject_id, webhook_id, place, type, name, from_seq) \
            VALUES ($1, $2, $3, $4, $5, $6, $7)";
        tx.execute(sql, values![kind, subject, id, place, watch.kind, &watch.name, from]).await?;
    }
    Ok(())
}

/// Turns a webhook on, or off for a reason: then what waits is dropped, and whoever is sending for
/// it has lost it. False when there is none.
pub async fn set_disabled(
    tx: &mut WriteTx,
    owner: &Owner,
    id: RowId,
    reason: Option<&str>,
    now: Timestamp,
) -> Result<bool, StoreError> {
    if reason.is_none() {
        // What happened while it was off is not told afterwards.
        let sql = "UPDATE webhook_watch SET from_seq = $1 WHERE webhook_id = \
            (SELECT id FROM webhook WHERE owner_id = $2 AND id = $3 AND disabled IS NOT NULL)";
        let size = crate::ledger::size(tx).await?;
        tx.execute(sql, values![size, owner.namespace().id, id]).await?;
    }
    let sql =
        "UPDATE webhook SET disabled = $1, failures = 0, updated_at = $2 WHERE owner_id = $3 AND id = $4";
    let found = tx.execute(sql, values![reason, now, owner.namespace().id, id]).await? > 0;
    if found && reason.is_some() {
        deliveries::drop_waiting(tx, id, now).await?;
    }
    Ok(found)
}

/// Turns off all webhooks of a user that are on.
pub async fn disable_all(
    tx: &mut WriteTx,
    owner: &Owner,
    reason: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    for row in of_owner(tx, owner).await?.into_iter().filter(|row| row.disabled.is_none()) {
        set_disabled(tx, owner, row.id, Some(reason), now).await?;
    }
    Ok(())
}

/// Turns off a user's webhooks that send where this token has said; those that were on.
pub async fn disable_of_token(
    tx: &mut WriteTx,
    owner: &Owner,
    token: TokenId,
    reason: &str,
    now: Timestamp,
) -> Result<Vec<RowId>, StoreError> {
    let sql = "SELECT id FROM webhook WHERE owner_id = $1 AND token_id = $2 AND disabled IS NULL ORDER BY id";
    let rows = tx.all(sql, values![owner.namespace().id, token]).await?;
    let found = rows.iter().map(|row| row.get(0)).collect::<Result<Vec<RowId>, _>>()?;
    for id in &found {
        set_disabled(tx, owner, *id, Some(reason), now).await?;
    }
    Ok(found)
}

/// False when there is none.
pub async fn remove(tx: &mut WriteTx, owner: &Owner, id: RowId) -> Result<bool, StoreError> {
    let sql = "DELETE FROM webhook WHERE owner_id = $1 AND id = $2";
    Ok(tx.execute(sql, values![owner.namespace().id, id]).await? > 0)
}
