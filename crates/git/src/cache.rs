//! The folder of bare repositories, and what of their objects is kept in memory. All of it can be
//! deleted at any time.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bastide_core::{Oid, RepoId};
use quick_cache::Weighter;

use crate::object::{Commit, Pointer, Tree};
use crate::snapshot::{Snapshot, SnapshotRef};
use crate::{GitError, KnownPack, Repo};

const OPEN_REPOS: usize = 256;
/// Snapshots that are kept for the next who asks: of repositories that are served now.
const SNAPSHOTS: usize = 256;
const SNAPSHOT_FOLDER: &str = "snapshots";
/// Between two times that a copy is made anew because it looks damaged.
const REBUILD_PAUSE: Duration = Duration::from_secs(600);
/// Bytes of trees in memory, about.
const TREE_BYTES: u64 = 128 * 1024 * 1024;
/// What an entry takes besides its name.
const TREE_ENTRY_BYTES: u64 = 64;
const COMMITS: usize = 20_000;
const BLOB_FACTS: usize = 200_000;

#[derive(Clone, Default)]
pub(crate) struct TreeWeight;

impl Weighter<Oid, Arc<Tree>> for TreeWeight {
    fn weight(&self, _: &Oid, tree: &Arc<Tree>) -> u64 {
        let entries = tree.entries.iter().map(|entry| TREE_ENTRY_BYTES + entry.name.len() as u64);
        64 + entries.sum::<u64>()
    }
}

/// What is known of a blob without reading it again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlobFacts {
    pub size: u64,
    pub pointer: Option<Pointer>,
}

/// Objects in memory, by id. An id stands for its content, whichever repository it is read from;
/// whoever asks has got the id from a repository that it may read.
pub(crate) struct Memory {
    pub trees: quick_cache::sync::Cache<Oid, Arc<Tree>, TreeWeight>,
    pub commits: quick_cache::sync::Cache<Oid, Arc<Commit>>,
    pub blobs: quick_cache::sync::Cache<Oid, BlobFacts>,
}

impl Memory {
    fn with(tree_bytes: u64, commits: usize, blobs: usize) -> Self {
        let items = usize::try_from(tree_bytes / 4096).unwrap_or(1024);
        Self {
            trees: quick_cache::sync::Cache::with_weighter(items, tree_bytes, TreeWeight),
            commits: quick_cache::sync::Cache::new(commits),
            blobs: quick_cache::sync::Cache::new(blobs),
        }
    }

    /// For a repository that is looked at once.
    pub fn small() -> Self {
        Self::with(TREE_BYTES / 16, COMMITS / 16, BLOB_FACTS / 16)
    }
}

pub struct Cache {
    root: PathBuf,
    repos: quick_cache::sync::Cache<RepoId, Repo>,
    memory: Arc<Memory>,
    rebuilt: Mutex<HashMap<RepoId, Instant>>,
    /// Beside the repositories, and with a name that none of them has.
    snapshot_root: PathBuf,
    snapshots: quick_cache::sync::Cache<RepoId, Arc<Snapshot>>,
}

impl Cache {
    pub fn new(root: PathBuf) -> Self {
        let memory = Memory::with(TREE_BYTES, COMMITS, BLOB_FACTS);
        let repos = quick_cache::sync::Cache::new(OPEN_REPOS);
        let (snapshot_root, snapshots) =
            (root.join(SNAPSHOT_FOLDER), quick_cache::sync::Cache::new(SNAPSHOTS));
        Self { root, repos, memory: Arc::new(memory), rebuilt: Mutex::default(), snapshot_root, snapshots }
    }

    fn path(&self, id: RepoId) -> PathBuf {
        self.root.join(format!("{id}.git"))
    }

    /// The bare repository of `id`, made if it is not there.
    pub fn repo(&self, id: RepoId) -> Result<Repo, GitError> {
        self.repos.get_or_insert_with(&id, || Repo::open(&self.path(id), Arc::clone(&self.memory)))
    }

    /// The same, opened anew: with room for all packs that are there now, and without what the
    /// old handle remembers of the folder.
    pub fn reopen(&self, id: RepoId) -> Result<Repo, GitError> {
        self.repos.remove(&id);
        // It may share damaged files with the copy.
        self.snapshots.remove(&id);
        self.repo(id)
    }

    /// May the copy of `id` be made anew from its source now? At most once in a while: a
    /// repository whose source itself is damaged is not fetched again for every reader.
    pub fn may_rebuild(&self, id: RepoId) -> bool {
        let mut rebuilt = self.rebuilt.lock().unwrap_or_else(PoisonError::into_inner);
        rebuilt.retain(|_, at| at.elapsed() < REBUILD_PAUSE);
        let may = !rebuilt.contains_key(&id);
        rebuilt.entry(id).or_insert_with(Instant::now);
        may
    }

    /// Removes temporary files of this age that a crash has left in the repositories.
    pub fn sweep(&self, age: Duration) -> Result<usize, GitError> {
        let entries = match std::fs::read_dir(&self.root) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
            other => other?,
        };
        Ok(entries.flatten().map(|entry| crate::repo::sweep(&entry.path(), age)).sum())
    }

    /// The repository at this moment, for stock git to serve. It lasts for as long as somebody holds
    /// it, whatever becomes of the repository.
    pub fn snapshot(
        &self,
        id: RepoId,
        repo: &Repo,
        refs: Vec<SnapshotRef>,
        packs: &[KnownPack<'_>],
    ) -> Result<Arc<Snapshot>, GitError> {
        if let Some(kept) = self.snapshots.get(&id).filter(|kept| kept.is_of(&refs, packs)) {
            return Ok(kept);
        }
        let made = Arc::new(Snapshot::make(&self.snapshot_root, repo, refs, packs)?);
        self.snapshots.insert(id, Arc::clone(&made));
        Ok(made)
    }

    /// Removes the snapshots that a process which has ended left behind. For a server that starts:
    /// nobody else makes any.
    pub fn clear_snapshots(&self) -> Result<(), GitError> {
        remove(&self.snapshot_root)
    }

    /// Forgets a repository and removes its folder.
    pub fn forget(&self, id: RepoId) -> Result<(), GitError> {
        self.snapshots.remove(&id);
        self.repos.remove(&id);
        remove(&self.path(id))
    }
}

fn remove(path: &Path) -> Result<(), GitError> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
