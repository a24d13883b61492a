//! The book, from outside: verifying it, exporting it, signing checkpoints.

use bastide_ledger::Context;
use bastide_ledger::{Checkpoint, Frontier, SigningKey, VerifyingKey, sign_checkpoint, verify_checkpoint};
use bastide_store::ledger::{self, StoredCheckpoint, StoredEvent};
use bastide_store::{Reader, jobs};

use crate::{Hub, Problem};

/// Events that are read at a time.
const BATCH: u32 = 1000;
/// Kept small: a report that names the first places is enough to look further.
const MAX_PROBLEMS: usize = 20;

/// What a check of the ledger found. No problems: everything that was ever written is there,
/// unchanged, and every signed checkpoint agrees.
#[derive(Debug, Default)]
pub struct LedgerReport {
    pub events: i64,
    pub checkpoints: usize,
    pub problems: Vec<LedgerProblem>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct LedgerProblem {
    /// The first event that is wrong or missing.
    pub seq: i64,
    pub what: String,
}

impl LedgerReport {
    fn note(&mut self, seq: i64, what: impl Into<String>) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(LedgerProblem { seq, what: what.into() });
        }
    }
}

impl Hub {
    /// Recomputes the whole tree from the events and compares it with what is stored and signed.
    pub async fn verify_ledger(&self) -> Result<LedgerReport, Problem> {
        let mut read = self.db.read().await?;
        let checkpoints = ledger::checkpoints(&mut read).await?;
        let mut check = Check {
            report: LedgerReport { checkpoints: checkpoints.len(), ..LedgerReport::default() },
            tree: Frontier::default(),
            checkpoints: checkpoints.into_iter().peekable(),
            key: self.ledger_key().verifying_key(),
        };
        loop {
            let next = check.tree.size();
            let events = ledger::events_from(&mut read, next, BATCH).await?;
            if events.is_empty() {
                break;
            }
            for stored in &events {
                check.event(&mut read, stored).await?;
            }
        }
        check.end(&mut read).await
    }

    /// Signs the tree as it is now and keeps the checkpoint. The same tree gives the same one.
    pub async fn checkpoint(&self) -> Result<StoredCheckpoint, Problem> {
        let mut read = self.db.read().await?;
        let size = ledger::size(&mut read).await?;
        let last = ledger::last_checkpoint(&mut read).await?;
        if let Some(last) = last.filter(|last| last.size == size) {
            return Ok(last);
        }
        let root = self.root(&mut read, size).await?;
        let key = self.ledger_key();
        let checkpoint = Checkpoint { origin: key.name().to_owned(), size, root };
        let stored = StoredCheckpoint { size, root, note: sign_checkpoint(&checkpoint, &key) };
        drop(read);
        ledger::keep_checkpoint(&self.db, &stored, self.clock.now()).await?;
        Ok(stored)
    }

    /// The root at a size, from the stored subtrees.
    async fn root(&self, read: &mut Reader, size: i64) -> Result<bastide_ledger::Hash, Problem> {
        let mut peaks = Vec::new();
        for (level, position) in bastide_ledger::peaks(size) {
            let node = ledger::node(read, level, position).await?;
            peaks.push(
                node.ok_or_else(|| Problem::internal(format!("ledger node {level}/{position} is missing")))?,
            );
        }
        Ok(bastide_ledger::root_of_peaks(&peaks))
    }

    /// The public half of the key that signs checkpoints, in the form that verifiers take.
    pub fn ledger_public_key(&self) -> String {
        self.ledger_key().verifying_key().to_string()
    }

    fn ledger_key(&self) -> SigningKey {
        SigningKey::of_hub(self.keys.ledger_seed())
    }

    /// One batch of the export: the canonical line of every event from `seq` on.
    pub async fn export_events(&self, context: &Context, seq: i64) -> Result<Vec<Vec<u8>>, Problem> {
        crate::accounts::require_operator(context)?;
        let events = ledger::events_from(&mut self.db.read().await?, seq, BATCH).await?;
        let damaged = |seq| Problem::Invalid(format!("event {seq} is damaged: run `bastide ledger verify`"));
        let line = |stored: &StoredEvent| match &stored.event {
            Some(event) => Ok(event.canonical()),
            None => Err(damaged(stored.seq)),
        };
        events.iter().map(line).collect()
    }

    /// Every signed checkpoint, oldest first.
    pub async fn checkpoints(&self) -> Result<Vec<StoredCheckpoint>, Problem> {
        Ok(ledger::checkpoints(&mut self.db.read().await?).await?)
    }

    /// Jobs that wait or run, and jobs that have failed for good.
    pub async fn job_counts(&self) -> Result<(u64, u64), Problem> {
        Ok(jobs::counts(&mut self.db.read().await?).await?)
    }
}

/// A check under way: one pass over the events, with a tree's edge as the only memory.
struct Check {
    report: LedgerReport,
    tree: Frontier,
    checkpoints: std::iter::Peekable<std::vec::IntoIter<StoredCheckpoint>>,
    key: VerifyingKey,
}

impl Check {
    async fn event(&mut self, read: &mut Reader, stored: &StoredEvent) -> Result<(), Problem> {
        let seq = self.tree.size();
        if stored.seq != seq {
            self.report.note(seq, format!("events {seq} to {} are missing", stored.seq - 1));
        }
        let leaf = stored.event.as_ref().map(bastide_ledger::Event::leaf_hash);
        if leaf.is_none() || leaf != stored.leaf {
            self.report.note(stored.seq, "the event was changed after it was written");
        }
        let leaf = leaf.unwrap_or_default();
        self.before(seq);
        for (level, position, hash) in self.tree.push(leaf) {
            if ledger::node(read, level, position).await? != Some(hash) {
                self.report.note(seq, format!("tree node {level}/{position} does not agree with the events"));
            }
        }
        // After a gap go on with the numbers that are there.
        self.tree.skip_to(stored.seq + 1);
        Ok(())
    }

    /// Compares the checkpoints that were signed at this size of the tree.
    fn before(&mut self, size: i64) {
        while let Some(checkpoint) = self.checkpoints.next_if(|checkpoint| checkpoint.size <= size) {
            if let Err(what) = self.agrees(&checkpoint) {
                self.report.note(checkpoint.size, what);
            }
        }
    }

    fn agrees(&self, stored: &StoredCheckpoint) -> Result<(), String> {
        let size = stored.size;
        let signed = verify_checkpoint(&stored.note, &self.key)
            .map_err(|error| format!("the checkpoint at size {size} is not ours: {error}"))?;
        if signed.size != stored.size || signed.root != stored.root {
            return Err(format!("the checkpoint at size {size} was changed"));
        }
        if signed.root != self.tree.root() {
            return Err(format!(
                "the events before {size} are not those that the checkpoint was signed over"
            ));
        }
        Ok(())
    }

    async fn end(mut self, read: &mut Reader) -> Result<LedgerReport, Problem> {
        let size = self.tree.size();
        self.before(size);
        self.report.events = size;
        if let Some(checkpoint) = self.checkpoints.next() {
            self.report
                .note(size, format!("events are missing: a checkpoint was signed at {}", checkpoint.size));
        }
        if ledger::node(read, 0, size).await?.is_some() {
            self.report.note(size, "events are missing at the end: the tree has more leaves");
        }
        Ok(self.report)
    }
}
