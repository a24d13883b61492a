//! The book, from outside: verifying it, exporting it, signing checkpoints.

use std::collections::HashSet;
use std::ops::Range;

use bastide_ledger::Context;
use bastide_ledger::{
    Checkpoint, Frontier, Hash, SigningKey, VerifyingKey, node_count, sign_checkpoint, verify_checkpoint,
};
use bastide_store::ledger::{self, StoredCheckpoint, StoredEvent, Totals};
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
    /// Events that the last checkpoint covers; those after it are there but nothing vouches for
    /// them yet.
    pub vouched: i64,
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
    /// Recomputes the whole tree from the events and compares it with what is stored and signed:
    /// in the database, in this server's own file, and in the notes that the caller has kept.
    /// Right beside a hub that goes on writing, too.
    pub async fn verify_ledger(
        &self,
        context: &Context,
        kept: &[String],
        progress: impl Fn(i64, i64),
    ) -> Result<LedgerReport, Problem> {
        crate::accounts::require_operator(context)?;
        // In this order: what is signed first is there in what is read next.
        let witnessed = self.witness.notes()?;
        let mut read = self.db.read().await?;
        let stored = ledger::checkpoints(&mut read).await?;
        let totals = ledger::totals(&mut read).await?;
        let mut check = Check::new(self.ledger_key().verifying_key(), totals.size);
        check.expect(stored, &witnessed, kept);
        while check.tree.size() < totals.size {
            let events = ledger::events_from(&mut read, check.tree.size(), BATCH).await?;
            if events.is_empty() {
                break;
            }
            for stored in events.iter().take_while(|stored| stored.seq < totals.size) {
                check.event(&mut read, stored).await?;
            }
            progress(check.tree.size(), totals.size);
        }
        Ok(check.end(totals))
    }

    /// Signs the tree as it is now and keeps the checkpoint, in the database and outside of it.
    /// The same tree gives the same one. A tree that is not a continuation of what was signed
    /// last is not signed.
    pub async fn checkpoint(&self) -> Result<StoredCheckpoint, Problem> {
        let _one_at_a_time = self.signing.lock().await;
        let mut read = self.db.read().await?;
        let last = ledger::last_checkpoint(&mut read).await?;
        let size = ledger::size(&mut read).await?;
        self.check_continues(&mut read, last.as_ref(), size).await?;
        if let Some(last) = last.filter(|last| last.size == size) {
            return Ok(last);
        }
        let root = self.root(&mut read, size).await?;
        let key = self.ledger_key();
        let checkpoint = Checkpoint { origin: key.name().to_owned(), size, root };
        let stored = StoredCheckpoint { size, root, note: sign_checkpoint(&checkpoint, &key) };
        drop(read);
        ledger::keep_checkpoint(&self.db, &stored).await?;
        let (witness, note) = (self.witness.clone(), stored.note.clone());
        tokio::task::spawn_blocking(move || witness.add(&note)).await??;
        tracing::info!(size, note = stored.note, "checkpoint");
        Ok(stored)
    }

    async fn check_continues(
        &self,
        read: &mut Reader,
        last: Option<&StoredCheckpoint>,
        size: i64,
    ) -> Result<(), Problem> {
        let key = self.ledger_key().verifying_key();
        let witnessed = self.witness.last()?;
        for note in last.map(|last| &last.note).into_iter().chain(&witnessed) {
            let signed = verify_checkpoint(note, &key)
                .map_err(|error| not_ours(&format!("the last checkpoint cannot be read: {error}")))?;
            if signed.size > size || self.root(read, signed.size).await? != signed.root {
                return Err(not_ours(&format!("it does not continue the one signed at {}", signed.size)));
            }
        }
        Ok(())
    }

    /// The root at a size, from the stored subtrees.
    async fn root(&self, read: &mut Reader, size: i64) -> Result<Hash, Problem> {
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

    /// One batch of the export: the canonical lines of the first events of a range.
    pub async fn export_events(&self, context: &Context, range: Range<i64>) -> Result<Vec<Vec<u8>>, Problem> {
        crate::accounts::require_operator(context)?;
        let events = ledger::events_from(&mut self.db.read().await?, range.start, BATCH).await?;
        let damaged = |seq| Problem::Invalid(format!("event {seq} is damaged: run `bastide ledger verify`"));
        let line = |stored: &StoredEvent| match &stored.event {
            Some(event) => Ok(event.canonical()),
            None => Err(damaged(stored.seq)),
        };
        events.iter().take_while(|stored| stored.seq < range.end).map(line).collect()
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

/// The alarm that stops signing. The text is for the log and the operator.
fn not_ours(what: &str) -> Problem {
    Problem::internal(format!("the ledger is not signed: {what}: run `bastide ledger verify`"))
}

/// A checkpoint that the events have to agree with.
struct Expected {
    note: String,
    /// Size and root as the database has them beside the note.
    stored: Option<(i64, Hash)>,
}

/// A check under way: one pass over the events, with a tree's edge as the only memory.
struct Check {
    report: LedgerReport,
    tree: Frontier,
    /// By the size that they were signed at, largest first.
    checkpoints: Vec<(i64, Hash)>,
    key: VerifyingKey,
}

impl Check {
    fn new(key: VerifyingKey, size: i64) -> Self {
        let report = LedgerReport { events: size, ..LedgerReport::default() };
        Self { report, tree: Frontier::default(), checkpoints: Vec::new(), key }
    }

    /// Takes in all checkpoints; those that are no good are noted at once.
    fn expect(&mut self, stored: Vec<StoredCheckpoint>, witnessed: &[String], kept: &[String]) {
        let known: HashSet<&str> = stored.iter().map(|checkpoint| checkpoint.note.as_str()).collect();
        for note in witnessed {
            if !known.contains(note.as_str()) {
                let size = verify_checkpoint(note, &self.key).map_or(0, |signed| signed.size);
                self.report.note(size, format!("the checkpoint signed at {size} is gone from the database"));
            }
        }
        self.report.checkpoints = stored.len();
        let stored = stored.into_iter().map(|checkpoint| Expected {
            note: checkpoint.note,
            stored: Some((checkpoint.size, checkpoint.root)),
        });
        let notes = witnessed.iter().chain(kept).cloned();
        for expected in stored.chain(notes.map(|note| Expected { note, stored: None })) {
            match self.signed(&expected) {
                Ok(signed) => {
                    self.report.vouched = self.report.vouched.max(signed.0);
                    self.checkpoints.push(signed);
                }
                Err((size, what)) => self.report.note(size, what),
            }
        }
        self.checkpoints.sort_by_key(|(size, _)| std::cmp::Reverse(*size));
    }

    fn signed(&self, expected: &Expected) -> Result<(i64, Hash), (i64, String)> {
        let size = expected.stored.map_or(0, |(size, _)| size);
        let signed = verify_checkpoint(&expected.note, &self.key)
            .map_err(|error| (size, format!("the checkpoint at size {size} is not ours: {error}")))?;
        let signed = (signed.size, signed.root);
        if expected.stored.is_some_and(|stored| stored != signed) {
            return Err((size, format!("the checkpoint at size {size} was changed")));
        }
        Ok(signed)
    }

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
        while let Some((signed, root)) = self.checkpoints.pop_if(|(signed, _)| *signed <= size) {
            if root != self.tree.root() {
                let what =
                    format!("the events before {signed} are not those that the checkpoint was signed over");
                self.report.note(signed, what);
            }
        }
    }

    fn end(mut self, totals: Totals) -> LedgerReport {
        let size = self.tree.size();
        self.before(size);
        if let Some((signed, _)) = self.checkpoints.pop() {
            self.report.note(size, format!("events are missing: a checkpoint was signed at {signed}"));
        }
        if totals.events != totals.size {
            let what = format!("there are {} events where {} have places", totals.events, totals.size);
            self.report.note(size, what);
        }
        if totals.nodes != node_count(totals.size) {
            self.report.note(size, "the tree has more or fewer nodes than its events");
        }
        if totals.size > 0 && self.report.checkpoints == 0 {
            self.report.note(0, "there are events and no checkpoint: nothing vouches for them");
        }
        self.report
    }
}
