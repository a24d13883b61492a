//! Read records: every delivery of content, in a journal file before the answer begins, and moved
//! to the database in batches.
//!
//! A line in the journal survives the death of this process. Lines carry their place, so that a
//! batch that is loaded twice counts once.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use bastide_core::{Actor, Credential, Oid, RepoId};
use bastide_ledger::Context;
pub use bastide_store::reads::ReadFact;
use bastide_store::reads::{self, ReadRow};
use serde::{Deserialize, Serialize};

use crate::access::{Access, Admin, Read};
use crate::{Hub, Problem};

/// A segment is closed when it has this many bytes, so that the journal stays bounded even when
/// the database is slow: what is moved is removed.
const MAX_SEGMENT_BYTES: u64 = 64 * 1024 * 1024;
const ENDING: &str = "reads";
/// Rows of one transaction.
const BATCH: usize = 2000;

/// What was delivered.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// `resolve`, `raw`, `lfs`, `xet`.
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
    file: File,
    bytes: u64,
}

impl Journal {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, open: Mutex::new(None) }
    }

    fn append(&self, line: &Line) -> Result<(), Problem> {
        let mut text = serde_json::to_vec(line).map_err(Problem::internal)?;
        text.push(b'\n');
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.as_ref().is_none_or(|segment| segment.bytes >= MAX_SEGMENT_BYTES) {
            *open = Some(self.begin(line.time_ms)?);
        }
        let Some(segment) = open.as_mut() else { return Err(Problem::internal("the journal is closed")) };
        // One write: a line is there whole or, after a power cut, is seen to be cut.
        segment.file.write_all(&text).map_err(bastide_blobs::BlobError::from)?;
        segment.bytes += text.len() as u64;
        Ok(())
    }

    fn begin(&self, time_ms: i64) -> Result<Segment, Problem> {
        fs::create_dir_all(&self.folder).map_err(bastide_blobs::BlobError::from)?;
        // Two that begin in one millisecond, or after the clock went back, take the next number.
        for number in time_ms.. {
            let path = self.folder.join(format!("{number}.{ENDING}"));
            match OpenOptions::new().append(true).create_new(true).open(&path) {
                Ok(file) => return Ok(Segment { file, bytes: 0 }),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(bastide_blobs::BlobError::from(error).into()),
            }
        }
        Err(Problem::internal("no number is left for a journal segment"))
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
    pub fn record_read(
        &self,
        context: &Context,
        access: &Access<Read>,
        delivery: Delivery,
    ) -> Result<(), Problem> {
        self.journal.append(&line(context, access.repo_id(), delivery))
    }

    /// Moves the journal into the database.
    pub async fn flush_reads(&self) -> Result<u64, Problem> {
        let _one_at_a_time = self.flushing.lock().await;
        let mut moved = 0;
        for (segment, path) in self.journal.closed()? {
            let rows = tokio::task::spawn_blocking({
                let path = path.clone();
                move || read_segment(&path)
            });
            for batch in rows.await??.chunks(BATCH) {
                moved += reads::add(&self.db, segment, batch).await?;
            }
            fs::remove_file(&path).map_err(Problem::internal)?;
        }
        Ok(moved)
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

/// The rows of a segment. A last line that was cut by a crash of the machine is left out.
fn read_segment(path: &Path) -> Result<Vec<ReadRow>, Problem> {
    let mut reader = BufReader::new(File::open(path).map_err(Problem::internal)?);
    let mut rows = Vec::new();
    let mut text = String::new();
    let mut position = 0;
    loop {
        text.clear();
        let read = reader.read_line(&mut text).map_err(Problem::internal)?;
        if read == 0 {
            return Ok(rows);
        }
        match serde_json::from_str::<Line>(&text) {
            Ok(line) => rows.push(row(position, line)),
            Err(error) => tracing::warn!(%error, ?path, position, "a damaged line of the read journal"),
        }
        position += 1;
    }
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
