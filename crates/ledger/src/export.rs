//! The check of an export: the events' lines, the signed checkpoints and the public key are all
//! that it needs.

use std::io::BufRead;

use crate::checkpoint::{NoteError, VerifyingKey, verify_checkpoint};
use crate::tree::{Frontier, Hash, leaf_hash};

/// Longest line that is read: far above any event.
const MAX_LINE_BYTES: u64 = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error("cannot read the events: {0}")]
    Read(#[from] std::io::Error),
    #[error("event {0}: its line is not an event, or not at its place")]
    Line(i64),
    #[error("checkpoint {index}: {error}")]
    Checkpoint { index: usize, error: NoteError },
    #[error("the events before {0} are not those that the checkpoint was signed over")]
    Differs(i64),
    #[error("events are missing: there are {events}, a checkpoint was signed at {checkpoint}")]
    Missing { events: i64, checkpoint: i64 },
    #[error("there is no checkpoint: nothing can be verified")]
    NoCheckpoint,
    #[error(
        "there are {events} events and the last checkpoint was signed at {vouched}: nothing vouches for the rest"
    )]
    Unvouched { events: i64, vouched: i64 },
}

/// What an export that verifies holds.
#[derive(Debug, PartialEq, Eq)]
pub struct Report {
    pub events: i64,
    pub root: Hash,
}

impl Report {
    pub fn root_hex(&self) -> String {
        self.root.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Checks events (one canonical line each, in order) against signed checkpoints. Memory is the
/// tree's edge, whatever the number of events.
pub fn verify_export(
    mut events: impl BufRead,
    notes: &[String],
    key: &VerifyingKey,
) -> Result<Report, VerifyError> {
    let mut checkpoints = Vec::new();
    for (index, note) in notes.iter().enumerate() {
        let checkpoint = verify_checkpoint(note, key);
        checkpoints.push(checkpoint.map_err(|error| VerifyError::Checkpoint { index, error })?);
    }
    checkpoints.sort_by_key(|checkpoint| checkpoint.size);
    let vouched = checkpoints.last().ok_or(VerifyError::NoCheckpoint)?.size;
    let mut checkpoints = checkpoints.into_iter().peekable();
    let mut tree = Frontier::default();
    loop {
        while let Some(checkpoint) = checkpoints.next_if(|checkpoint| checkpoint.size == tree.size()) {
            if checkpoint.root != tree.root() {
                return Err(VerifyError::Differs(checkpoint.size));
            }
        }
        let Some(line) = read_line(&mut events, tree.size())? else { break };
        tree.push(leaf_hash(&line));
    }
    if let Some(checkpoint) = checkpoints.next() {
        return Err(VerifyError::Missing { events: tree.size(), checkpoint: checkpoint.size });
    }
    if tree.size() > vouched {
        return Err(VerifyError::Unvouched { events: tree.size(), vouched });
    }
    Ok(Report { events: tree.size(), root: tree.root() })
}

/// The next line without its end, checked to be event `seq`.
fn read_line(events: &mut impl BufRead, seq: i64) -> Result<Option<Vec<u8>>, VerifyError> {
    use std::io::Read;
    let mut line = Vec::new();
    if events.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.pop() != Some(b'\n') {
        return Err(VerifyError::Line(seq));
    }
    let value: Result<serde_json::Value, _> = serde_json::from_slice(&line);
    let place = value.ok().and_then(|event| event.get("seq").and_then(serde_json::Value::as_i64));
    if place == Some(seq) { Ok(Some(line)) } else { Err(VerifyError::Line(seq)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context;
    use crate::{Action, Checkpoint, NewEvent, SigningKey, sign_checkpoint};
    use bastide_core::Clock;

    fn export(count: i64) -> (Vec<String>, String, VerifyingKey) {
        let context = context::operator(&Clock::System);
        let key = SigningKey::new("hub/ledger", &[1; 32]).unwrap();
        let mut tree = Frontier::default();
        let mut lines = Vec::new();
        for seq in 0..count {
            let event = NewEvent::new(&context, Action::RepoCreate).fact("n", seq).at(seq);
            tree.push(event.leaf_hash());
            lines.push(String::from_utf8(event.canonical()).unwrap());
        }
        let checkpoint = Checkpoint { origin: "hub/ledger".into(), size: count, root: tree.root() };
        (lines, sign_checkpoint(&checkpoint, &key), key.verifying_key())
    }

    fn check(lines: &[String], note: &str, key: &VerifyingKey) -> Result<Report, VerifyError> {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        verify_export(text.as_bytes(), &[note.to_owned()], key)
    }

    #[test]
    fn an_untouched_export_verifies() {
        let (lines, note, key) = export(9);
        assert_eq!(check(&lines, &note, &key).unwrap().events, 9);
    }

    #[test]
    fn removal_reorder_insertion_and_change_are_found() {
        let (lines, note, key) = export(9);
        let mut removed = lines.clone();
        removed.remove(4);
        assert!(matches!(check(&removed, &note, &key), Err(VerifyError::Line(4))));
        let mut cut = lines.clone();
        cut.pop();
        assert!(matches!(check(&cut, &note, &key), Err(VerifyError::Missing { events: 8, checkpoint: 9 })));
        let mut swapped = lines.clone();
        swapped.swap(2, 3);
        assert!(matches!(check(&swapped, &note, &key), Err(VerifyError::Line(2))));
        let mut changed = lines.clone();
        changed[5] = changed[5].replace("repo.create", "repo.delete");
        assert!(matches!(check(&changed, &note, &key), Err(VerifyError::Differs(9))));
        let mut longer = lines.clone();
        longer.push(lines[8].replace("\"seq\":8", "\"seq\":9"));
        assert!(matches!(
            check(&longer, &note, &key),
            Err(VerifyError::Unvouched { events: 10, vouched: 9 })
        ));
        let mut doubled = lines.clone();
        doubled.insert(3, lines[3].clone());
        assert!(matches!(check(&doubled, &note, &key), Err(VerifyError::Line(4))));
        assert!(matches!(verify_export(&b""[..], &[], &key), Err(VerifyError::NoCheckpoint)));
    }
}
