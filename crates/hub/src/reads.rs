//! Read records: every delivery of content, in a journal file before the answer begins, and moved
//! to the database in batches.
//!
//! A line in the journal survives the death of this process, and from a quarter of a second on
//! that of the machine. Lines carry their place, so that a batch that is loaded twice counts once.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bastide_blobs::BlobError;
use bastide_core::id::RowId;
use bastide_core::{Actor, Credential, Oid, RepoId, Timestamp};
use bastide_ledger::Context;
pub use bastide_store::reads::ReadFact;
use bastide_store::reads::{self, ReadRow};
use serde::{Deserialize, Serialize};

use crate::access::{Access, Admin, Includes, See};
use crate::{Hub, Problem};

/// A segment is closed when it has this many bytes, so that the journal stays bounded even when
/// the database is slow: what is moved is removed.
const MAX_SEGMENT_BYTES: u64 = 64 * 1024 * 1024;
const ENDING: &str = "reads";
/// Lines that are none, for a person to look at.
const DAMAGED_ENDING: &str = "damaged";
/// Rows of one transaction.
const BATCH: usize = 2000;

/// What was delivered.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// `resolve`, `raw`, `lfs`, `xet`, `git`; `git-clone` is the first line of a clone.
    pub via: &'static str,
    pub commit: Option<Oid>,
    pub path: Option<String>,
    /// The content: a blob's id, a SHA-256, a Xet hash.
    pub object: String,
    pub bytes: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    time_ms: i64,
    actor_kind: String,
    actor_id: Option<i64>,
    credential_id: Option<i64>,
    repo_id: i64,
    commit: Option<String>,
    path: Option<String>,
    object: String,
    via: String,
    bytes: u64,
    address: Option<String>,
    user_agent: Option<String>,
    request_id: String,
}

/// The journal's open segment.
pub(crate) struct Journal {
    folder: PathBuf,
    open: Mutex<Option<Segment>>,
}

struct Segment {
    file: Arc<File>,
    bytes: u64,
    /// Lines that a power cut would take.
    unsynced: bool,
}

impl Journal {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, open: Mutex::new(None) }
    }

    fn append(&self, line: &Line) -> Result<(), Problem> {
        let mut text = serde_json::to_vec(line).map_err(Problem::internal)?;
        text.push(b'\n');
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let mut segment = match open.take().filter(|segment| segment.bytes < MAX_SEGMENT_BYTES) {
            Some(segment) => segment,
            None => self.begin(Timestamp::from_millis(line.time_ms))?,
        };
        // One write: a line is there whole or, after a power cut, is seen to be cut.
        if let Err(error) = (&*segment.file).write_all(&text) {
            // A part of it may be there. It is taken back, and in any case the segment ends here:
            // no other line must be glued to it.
            let _ = segment.file.set_len(segment.bytes);
            return Err(BlobError::from(error).into());
        }
        segment.bytes += text.len() as u64;
        segment.unsynced = true;
        *open = Some(segment);
        Ok(())
    }

    /// A segment's number is never used twice, by whichever server of one database and whatever
    /// the clock does: rows that are known by it already would be taken for loaded.
    fn begin(&self, now: Timestamp) -> Result<Segment, Problem> {
        fs::create_dir_all(&self.folder).map_err(BlobError::from)?;
        let path = self.folder.join(format!("{}.{ENDING}", RowId::new(now).as_i64()));
        let file = OpenOptions::new().append(true).create_new(true).open(path).map_err(BlobError::from)?;
        Ok(Segment { file: Arc::new(file), bytes: 0, unsynced: false })
    }

    /// What has to reach the disk, if anything has been written since the last time.
    fn unsynced(&self) -> Option<Arc<File>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let segment = open.as_mut().filter(|segment| segment.unsynced)?;
        segment.unsynced = false;
        Some(Arc::clone(&segment.file))
    }

    /// Puts damaged lines aside, next to where they were.
    fn set_aside(&self, segment: i64, damaged: &[u8]) -> std::io::Result<()> {
        let path = self.folder.join(format!("{segment}.{DAMAGED_ENDING}"));
        fs::write(path, damaged)
    }

    /// Closes the open segment and names all that wait to be moved, oldest first.
    fn closed(&self) -> Result<Vec<(i64, PathBuf)>, Problem> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        *open = None;
        let mut found = Vec::new();
        let Ok(entries) = fs::read_dir(&self.folder) else { return Ok(found) };
        for entry in entries {
            let path = entry.map_err(Problem::internal)?.path();
            if path.extension().is_some_and(|ending| ending == ENDING)
                && let Some(number) = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok())
            {
                found.push((number, path));
            }
        }
        found.sort();
        Ok(found)
    }
}

impl Hub {
    /// Notes a delivery. When this fails, nothing may be delivered.
    pub fn record_read<L: Includes<See>>(
        &self,
        context: &Context,
        access: &Access<L>,
        delivery: Delivery,
    ) -> Result<(), Problem> {
        self.journal.append(&line(context, access.repo_id(), delivery))
    }

    /// Moves the journal into the database. A segment that cannot be read does not hold up others.
    pub async fn flush_reads(&self) -> Result<u64, Problem> {
        let _one_at_a_time = self.flushing.lock().await;
        let mut moved = 0;
        let mut unread = None;
        for (segment, path) in self.journal.closed()? {
            let read = tokio::task::spawn_blocking({
                let path = path.clone();
                move || read_segment(&path)
            });
            let found = match read.await? {
                Ok(found) => found,
                Err(error) => {
                    unread = Some(Problem::internal(format!("{}: {error}", path.display())));
                    continue;
                }
            };
            for batch in found.rows.chunks(BATCH) {
                moved += reads::add(&self.db, segment, batch).await?;
            }
            self.note_damage(segment, &found);
            fs::remove_file(&path).map_err(Problem::internal)?;
        }
        unread.map_or(Ok(moved), Err)
    }

    /// Damaged lines stop nobody; they are counted, and kept when there is room.
    fn note_damage(&self, segment: i64, found: &Found) {
        if found.damaged_lines == 0 {
            return;
        }
        let kept = self.journal.set_aside(segment, &found.damaged);
        let (lines, kept) = (found.damaged_lines, kept.is_ok());
        tracing::error!(segment, lines, kept, "damaged lines in the journal of reads");
    }

    /// Makes the journal's lines so far survive a power cut.
    pub(crate) async fn sync_reads(&self) -> Result<(), Problem> {
        let Some(file) = self.journal.unsynced() else { return Ok(()) };
        let folder = self.journal.folder.clone();
        let synced = tokio::task::spawn_blocking(move || {
            file.sync_data()?;
            // The file's name, too.
            File::open(folder)?.sync_all()
        });
        Ok(synced.await?.map_err(BlobError::from)?)
    }

    /// The latest deliveries from a repository, for those who administer it.
    pub async fn reads_of(&self, access: &Access<Admin>, limit: u32) -> Result<Vec<ReadFact>, Problem> {
        Ok(reads::of_repo(&mut self.db.read().await?, access, limit).await?)
    }

    /// Forgets records that are older than the operator wants to keep.
    pub async fn prune_reads(&self) -> Result<u64, Problem> {
        let before = self.clock.now().plus_days(-self.config.read_record_days);
        Ok(reads::prune(&self.db, before).await?)
    }
}

fn line(context: &Context, repo: RepoId, delivery: Delivery) -> Line {
    let (actor_kind, actor_id) = match context.actor() {
        Actor::Anonymous => ("anonymous", None),
        Actor::User { id, .. } => ("user", Some(id.as_i64())),
        Actor::System(_) => ("system", None),
        Actor::Operator => ("operator", None),
    };
    let credential_id = match context.credential() {
        Credential::Token { id, .. } => Some(id.as_i64()),
        Credential::None | Credential::Local => None,
    };
    Line {
        time_ms: context.now().as_millis(),
        actor_kind: actor_kind.to_owned(),
        actor_id,
        credential_id,
        repo_id: repo.as_i64(),
        commit: delivery.commit.map(|commit| commit.to_string()),
        path: delivery.path,
        object: delivery.object,
        via: delivery.via.to_owned(),
        bytes: delivery.bytes,
        address: context.origin().address.map(|address| address.to_string()),
        user_agent: context.origin().user_agent.clone(),
        request_id: context.origin().request_id.clone(),
    }
}

/// What is in a segment.
#[derive(Default)]
struct Found {
    rows: Vec<ReadRow>,
    damaged_lines: u64,
    damaged: Vec<u8>,
}

/// Reads a segment. Lines that are none (cut by a crash of the machine, or written by who knows
/// whom) are told apart, and keep their place in the count.
fn read_segment(path: &Path) -> std::io::Result<Found> {
    let mut reader = BufReader::new(File::open(path)?);
    let mut found = Found::default();
    let mut text = Vec::new();
    for position in 0.. {
        text.clear();
        if reader.read_until(b'\n', &mut text)? == 0 {
            break;
        }
        match parse(&text) {
            Some(line) => found.rows.push(row(position, line)),
            None => {
                found.damaged_lines += 1;
                found.damaged.extend_from_slice(&text);
            }
        }
    }
    Ok(found)
}

/// A line that every database takes: PostgreSQL has no NUL in its texts.
fn parse(text: &[u8]) -> Option<Line> {
    let line: Line = serde_json::from_slice(text).ok()?;
    let optional = [&line.commit, &line.path, &line.address, &line.user_agent];
    let always = [&line.actor_kind, &line.object, &line.via, &line.request_id];
    let has_nul = optional.into_iter().flatten().chain(always).any(|text| text.contains('\0'));
    (!has_nul).then_some(line)
}

fn row(position: i64, line: Line) -> ReadRow {
    ReadRow {
        position,
        time_ms: line.time_ms,
        actor_kind: line.actor_kind,
        actor_id: line.actor_id,
        credential_id: line.credential_id,
        repo_id: line.repo_id,
        commit: line.commit.and_then(|commit| commit.parse().ok()),
        path: line.path,
        object: line.object,
        via: line.via,
        bytes: line.bytes,
        address: line.address,
        user_agent: line.user_agent,
        request_id: line.request_id,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(object: &str) -> Line {
        Line {
            time_ms: 1_800_000_000_000,
            actor_kind: "user".into(),
            actor_id: Some(1),
            credential_id: None,
            repo_id: 7,
            commit: None,
            path: Some("a".into()),
            object: object.into(),
            via: "resolve".into(),
            bytes: 5,
            address: None,
            user_agent: Some("\\u0000 is only text".into()),
            request_id: "r".into(),
        }
    }

    fn objects(journal: &Journal) -> Vec<String> {
        let mut found = Vec::new();
        for (_, path) in journal.closed().unwrap() {
            found.extend(read_segment(&path).unwrap().rows.into_iter().map(|row| row.object));
        }
        found
    }

    #[test]
    fn segments_never_share_a_number_even_in_one_millisecond() {
        let folder = tempfile::tempdir().unwrap();
        let mut numbers = std::collections::HashSet::new();
        // Servers with folders of their own and one database, and a clock that stands still.
        for server in 0..4 {
            let journal = Journal::new(folder.path().join(server.to_string()));
            for _ in 0..25 {
                journal.append(&delivery("x")).unwrap();
                for (number, path) in journal.closed().unwrap() {
                    assert!(numbers.insert(number), "{number} a second time");
                    fs::remove_file(path).unwrap();
                }
            }
        }
    }

    #[test]
    fn a_line_that_was_cut_takes_no_other_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::new(folder.path().to_owned());
        journal.append(&delivery("one")).unwrap();
        // The disk is full in the middle of a line: the file takes no more.
        let (_, path) = {
            let open = journal.open.lock().unwrap();
            assert!(open.is_some());
            (0, fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path())
        };
        if let Some(segment) = journal.open.lock().unwrap().as_mut() {
            let mut half = OpenOptions::new().append(true).open(&path).unwrap();
            half.write_all(b"{\"time_ms\":18000").unwrap();
            segment.file = Arc::new(File::open(&path).unwrap());
        }
        assert!(journal.append(&delivery("lost")).is_err());
        journal.append(&delivery("two")).unwrap();
        let mut found = objects(&journal);
        found.sort();
        assert_eq!(found, ["one", "two"]);
    }

    #[test]
    fn lines_that_are_none_are_set_aside_and_the_others_keep_their_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("123.reads");
        let line = |object| serde_json::to_vec(&delivery(object)).unwrap();
        let nul = String::from_utf8(line("nul")).unwrap().replace("resolve", "\\u0000");
        let parts: [&[u8]; 5] =
            [&line("a"), b"\xff\xfe\x00garbage", nul.as_bytes(), &line("b"), b"{\"time_ms\":1"];
        fs::write(&path, parts.join(&b'\n')).unwrap();
        let found = read_segment(&path).unwrap();
        let rows: Vec<_> = found.rows.iter().map(|row| (row.position, row.object.as_str())).collect();
        assert_eq!((rows, found.damaged_lines), (vec![(0, "a"), (3, "b")], 3));
        assert!(found.damaged.starts_with(b"\xff\xfe"));
    }

    #[test]
    fn what_was_written_is_synced_once() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::new(folder.path().to_owned());
        assert!(journal.unsynced().is_none());
        journal.append(&delivery("a")).unwrap();
        assert!(journal.unsynced().is_some());
        assert!(journal.unsynced().is_none());
    }
}
