//! From events to deliveries: a cursor walks along the ledger, and moves in the transaction that
//! queues what it has passed. So nothing is lost and nothing doubled, whoever many servers walk.

use bastide_core::id::RowId;
use bastide_core::{NamespaceId, RepoId, Timestamp};

use crate::db::{Db, Reader, Value, WriteTx};
use crate::gate::parse;
use crate::ledger::Event;
use crate::{StoreError, settings, values};

const CURSOR: &str = "webhooks.cursor";
/// What counts as one day of triggers.
const DAY_SECONDS: i64 = 86_400;

/// All events before `seq` are done; of `seq` itself, the webhooks up to this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Cursor {
    pub seq: i64,
    pub webhook: i64,
}

/// Where the walk is. `None` while there never was a webhook.
pub async fn cursor(read: &mut Reader) -> Result<Option<Cursor>, StoreError> {
    let Some(text) = settings::get(read, CURSOR).await? else { return Ok(None) };
    let numbers = text.split_once(' ').and_then(|(seq, id)| Some((seq.parse().ok()?, id.parse().ok()?)));
    let (seq, webhook) = numbers.ok_or_else(|| StoreError::Corrupt(format!("{CURSOR}: {text}")))?;
    Ok(Some(Cursor { seq, webhook }))
}

pub(super) async fn set_cursor(tx: &mut WriteTx, to: Cursor) -> Result<(), StoreError> {
    settings::set(tx, CURSOR, &format!("{} {}", to.seq, to.webhook)).await
}

/// Whether any webhook is on: while none is, events pass by unread.
pub async fn any_enabled(read: &mut Reader) -> Result<bool, StoreError> {
    Ok(read.one("SELECT id FROM webhook WHERE disabled IS NULL LIMIT 1", &[]).await?.is_some())
}

/// Events of some actions on repositories from `range.start` to before `range.end` that somebody may
/// watch, oldest first. Of those in `always` the ledger alone knows whose the repository was.
pub async fn watched_events(
    read: &mut Reader,
    range: std::ops::Range<i64>,
    actions: &[&str],
    always: &[&str],
    limit: u32,
) -> Result<Vec<Event>, StoreError> {
    let mut params = values![range.start, range.end, limit].to_vec();
    let mut list = |texts: &[&str]| -> String {
        let names = texts.iter().map(|text| {
            params.push(Value::from(*text));
            format!("${}", params.len())
        });
        names.collect::<Vec<_>>().join(", ")
    };
    let (actions, always) = (list(actions), list(always));
    let sql = format!(
        "SELECT e.seq FROM event e LEFT JOIN repo r ON r.id = e.subject_id \
         WHERE e.seq >= $1 AND e.seq < $2 AND e.subject_kind = 'repo' AND e.action IN ({actions}) AND ( \
            e.action IN ({always}) \
            OR EXISTS (SELECT 1 FROM webhook_watch w WHERE w.kind = 'repo' AND w.subject_id = e.subject_id) \
            OR EXISTS (SELECT 1 FROM webhook_watch w WHERE w.kind = 'namespace' AND w.subject_id = r.namespace_id)) \
         ORDER BY e.seq LIMIT $3"
    );
    let mut events = Vec::new();
    for row in read.scan(&sql, &params).await? {
        events.extend(event(read, row.get(0)?).await?);
    }
    Ok(events)
}

/// An event by its place. `None` for one that cannot be read.
pub async fn event(read: &mut Reader, seq: i64) -> Result<Option<Event>, StoreError> {
    let found = crate::ledger::events_from(read, seq, 1).await?;
    Ok(found.into_iter().find(|stored| stored.seq == seq).and_then(|stored| stored.event))
}

/// A webhook that watches what an event is about, and what decides whether its owner may know.
#[derive(Debug, Clone)]
pub struct Watcher {
    pub webhook: RowId,
    pub owner: NamespaceId,
    pub owner_name: bastide_core::Name,
    /// The owner's role in the organisation that was asked about.
    pub role: Option<bastide_core::Role>,
}

/// Who watches a repository, or one of these namespaces: after webhook `after`, and since before
/// `seq`. `member_of` is the namespace whose rights count.
pub struct WatchersOf {
    pub repo: RepoId,
    pub namespaces: [NamespaceId; 2],
    pub member_of: NamespaceId,
    pub seq: i64,
    pub discussions: bool,
}

pub async fn watchers(
    read: &mut Reader,
    of: &WatchersOf,
    after: i64,
    limit: u32,
) -> Result<Vec<Watcher>, StoreError> {
    let domain = if of.discussions { "h.discussions" } else { "h.repos" };
    let sql = format!(
        "SELECT h.id, h.owner_id, n.name, m.role FROM webhook h JOIN namespace n ON n.id = h.owner_id \
         LEFT JOIN member m ON m.org_id = $1 AND m.user_id = h.owner_id \
         WHERE h.id > $2 AND h.disabled IS NULL AND n.disabled_at IS NULL AND {domain} = 1 AND h.id IN ( \
            SELECT w.webhook_id FROM webhook_watch w \
                WHERE w.kind = 'repo' AND w.subject_id = $3 AND w.from_seq <= $4 AND w.webhook_id > $2 \
            UNION SELECT w.webhook_id FROM webhook_watch w \
                WHERE w.kind = 'namespace' AND w.subject_id IN ($5, $6) AND w.from_seq <= $4 AND w.webhook_id > $2) \
         ORDER BY h.id LIMIT $7"
    );
    let [one, two] = of.namespaces;
    let params = values![of.member_of, after, of.repo, of.seq, one, two, limit];
    let rows = read.all(&sql, params).await?;
    let watcher = |row: &crate::db::Row| {
        Ok(Watcher {
            webhook: row.get(0)?,
            owner: row.get(1)?,
            owner_name: parse(row, 2)?,
            role: row.get::<Option<String>>(3)?.map(|role| crate::gate::corrupt(role.parse())).transpose()?,
        })
    };
    rows.iter().map(watcher).collect()
}

/// One event for one webhook, as its log calls it.
#[derive(Debug, Clone)]
pub struct NewDelivery {
    pub webhook: RowId,
    pub seq: i64,
    pub event: &'static str,
}

/// Moves the cursor and queues what it has passed, both or nothing. False when somebody else has
/// moved it: then all is to be looked at anew.
pub async fn advance(
    db: &Db,
    (from, to): (Cursor, Cursor),
    found: &[NewDelivery],
    daily: i64,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let mut tx = db.begin().await?;
    if cursor(&mut tx).await? != Some(from) {
        return Ok(false);
    }
    let first = RowId::new(now).as_i64();
    for (number, new) in (0..).zip(found) {
        queue(&mut tx, RowId::from_i64(first + number), new, daily, now).await?;
    }
    set_cursor(&mut tx, to).await?;
    tx.commit_upkeep().await?;
    Ok(true)
}

async fn queue(
    tx: &mut WriteTx,
    id: RowId,
    new: &NewDelivery,
    daily: i64,
    now: Timestamp,
) -> Result<(), StoreError> {
    let Some(triggers) = trigger(tx, new.webhook, now).await? else { return Ok(()) };
    // The first that is too many is told of in the log; the others of that day are not.
    if triggers > daily + 1 {
        return Ok(());
    }
    let over = triggers > daily;
    let error = over.then(|| format!("more than {daily} events in a day: those until its end are not sent"));
    let sql = "INSERT INTO webhook_delivery (id, webhook_id, seq, event, next_at, outcome, error, created_at) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    let (next, outcome) = ((!over).then_some(now), over.then_some("dropped"));
    tx.execute(sql, values![id, new.webhook, new.seq, new.event, next, outcome, error, now]).await?;
    if over { Ok(()) } else { wake(tx, new.webhook, now).await }
}

/// Counts one trigger; how many there are today by now. `None` when the webhook is gone or off.
pub(super) async fn trigger(
    tx: &mut WriteTx,
    webhook: RowId,
    now: Timestamp,
) -> Result<Option<i64>, StoreError> {
    let sql = "UPDATE webhook SET triggers = CASE WHEN window_at <= $1 THEN 1 ELSE triggers + 1 END, \
        window_at = CASE WHEN window_at <= $1 THEN $2 ELSE window_at END \
        WHERE id = $3 AND disabled IS NULL RETURNING triggers";
    let params = values![now.plus_seconds(-DAY_SECONDS), now, webhook];
    tx.one(sql, params).await?.map(|row| row.get(0)).transpose()
}

/// Makes a webhook due now, if nobody is at it.
pub(super) async fn wake(tx: &mut WriteTx, webhook: RowId, now: Timestamp) -> Result<(), StoreError> {
    let sql = "UPDATE webhook SET due_at = \
        CASE WHEN leased_until > $1 THEN due_at WHEN due_at <= $1 THEN due_at ELSE $1 END WHERE id = $2";
    tx.execute(sql, values![now, webhook]).await?;
    Ok(())
}
