//! The walk along the ledger: which webhooks each event is for.
//!
//! Writers pay nothing: they write their event as ever. A batch of events that nobody watches costs
//! one statement, and no write until the walk has come far.

use std::sync::atomic::{AtomicI64, Ordering};

use bastide_ledger::Event;
use bastide_store::ledger;
use bastide_store::webhooks::dispatch::{self, Cursor, NewDelivery, WatchersOf};

use super::told::{self, About, Told};
use crate::{Hub, Problem};

/// Events of one step of the walk.
const BATCH: i64 = 1000;
/// Those of a step that somebody may watch: the others wait for the next.
const WATCHED: u32 = 200;
/// Webhooks that are asked for at a time, and deliveries of one transaction, more or less.
const PAGE: u32 = 500;
/// The cursor is written down after so many events at the latest, though nobody watches them.
const REMEMBERED: i64 = 10_000;

/// How far this server has walked past the cursor: nobody watched what lies between.
#[derive(Debug, Default)]
pub struct Walked(AtomicI64);

/// What a step has found, and where it ends.
struct Step {
    found: Vec<NewDelivery>,
    to: Cursor,
}

impl Hub {
    /// Queues deliveries for all that has happened; how many.
    pub async fn dispatch_webhooks(&self) -> Result<usize, Problem> {
        let mut count = 0;
        while let Some(found) = self.dispatch_step().await? {
            count += found;
        }
        Ok(count)
    }

    /// One step of the walk; `None` at its end.
    async fn dispatch_step(&self) -> Result<Option<usize>, Problem> {
        let mut read = self.db.read().await?;
        let Some(cursor) = dispatch::cursor(&mut read).await? else { return Ok(None) };
        let size = ledger::size(&mut read).await?;
        let walked = self.walked.0.load(Ordering::Acquire);
        let start = if walked > cursor.seq { Cursor { seq: walked, webhook: 0 } } else { cursor };
        if start.seq >= size {
            return Ok(None);
        }
        // While all are off, one that is turned on goes on from here.
        let step = if dispatch::any_enabled(&mut read).await? {
            drop(read);
            self.look(start, size.min(start.seq.saturating_add(BATCH))).await?
        } else {
            Step { found: Vec::new(), to: Cursor { seq: size, webhook: 0 } }
        };
        if step.found.is_empty() && step.to.webhook == 0 && step.to.seq - cursor.seq < REMEMBERED {
            self.walked.0.fetch_max(step.to.seq, Ordering::AcqRel);
            return Ok(Some(0));
        }
        let daily = self.config.webhook_daily_triggers;
        let way = (cursor, step.to);
        let moved = dispatch::advance(&self.db, way, &step.found, daily, self.clock.now()).await?;
        Ok(Some(if moved { step.found.len() } else { 0 }))
    }

    async fn look(&self, start: Cursor, end: i64) -> Result<Step, Problem> {
        let mut read = self.db.read().await?;
        let range = start.seq..end;
        let events =
            dispatch::watched_events(&mut read, range, &told::actions(), &told::BY_FACTS, WATCHED).await?;
        drop(read);
        let full = events.len() >= WATCHED as usize;
        let last = events.last().map_or(end, |event| event.seq + 1);
        let mut found = Vec::new();
        for event in &events {
            let mut after = if event.seq == start.seq { start.webhook } else { 0 };
            while let Some(webhook) = self.find(event, after, &mut found).await? {
                after = webhook;
                if found.len() >= PAGE as usize {
                    return Ok(Step { found, to: Cursor { seq: event.seq, webhook } });
                }
            }
        }
        Ok(Step { found, to: Cursor { seq: if full { last } else { end }, webhook: 0 } })
    }

    /// Adds the next webhooks that an event is for; the last that was looked at, if there may be more.
    async fn find(
        &self,
        event: &Event,
        after: i64,
        found: &mut Vec<NewDelivery>,
    ) -> Result<Option<i64>, Problem> {
        let Some(told) = told::told(event) else { return Ok(None) };
        let Some(about) = self.about(event).await? else { return Ok(None) };
        let of = watchers_of(event, &about, told);
        let watchers = dispatch::watchers(&mut self.db.read().await?, &of, after, PAGE).await?;
        let last = watchers.last().map(|watcher| watcher.webhook.as_i64());
        let may = watchers.iter().filter(|watcher| self.may_be_told(&about, told, watcher));
        found.extend(may.map(|watcher| NewDelivery {
            webhook: watcher.webhook,
            seq: event.seq,
            event: told.label,
        }));
        Ok(last)
    }
}

fn watchers_of(event: &Event, about: &About, told: Told) -> WatchersOf {
    WatchersOf {
        repo: about.repo.id,
        namespaces: about.namespaces,
        member_of: about.repo.namespace_id,
        seq: event.seq,
        discussions: told.is_discussion(),
    }
}
