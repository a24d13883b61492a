//! What crashes leave behind in the cache, and its removal. Blobs in the making are swept by
//! `blobs`, blobs without a row by collection.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{Hub, Problem};

/// What is older than this was left behind, wherever it is.
const LITTER_AGE: Duration = Duration::from_secs(24 * 3600);
/// Copies of packs take minutes.
const COPY_AGE: Duration = Duration::from_secs(3600);

impl Hub {
    /// Removes all packs in the making. For a server that starts and has just locked its data
    /// folder: commands that run beside a server make no packs.
    pub async fn clear_scratch(&self) -> Result<(), Problem> {
        let scratch = self.scratch_folder();
        let swept = tokio::task::spawn_blocking(move || remove_older(&scratch, Duration::ZERO)).await?;
        report(swept);
        Ok(())
    }

    /// Removes temporary files that are too old to be in use.
    pub async fn sweep(&self) -> Result<(), Problem> {
        let swept = self.blobs.sweep_temporary(LITTER_AGE).await?;
        let (hub, scratch, checks) = (self.clone(), self.scratch_folder(), self.checks_folder());
        let in_cache = tokio::task::spawn_blocking(move || {
            let swept = remove_older(&scratch, LITTER_AGE) + remove_older(&checks, LITTER_AGE);
            Ok::<_, bastide_git::GitError>(swept + hub.git.sweep(COPY_AGE)?)
        });
        report(swept + in_cache.await??);
        Ok(())
    }

    /// Where checks make their own copies of repositories.
    pub(crate) fn checks_folder(&self) -> PathBuf {
        self.config.data.join("cache").join("fsck")
    }
}

fn report(swept: usize) {
    if swept > 0 {
        tracing::info!(swept, "temporary files that a crash had left");
    }
}

fn remove_older(folder: &Path, age: Duration) -> usize {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|entry| is_older(entry, age) && remove(&entry.path())).count()
}

fn is_older(entry: &fs::DirEntry, age: Duration) -> bool {
    let modified = entry.metadata().and_then(|meta| meta.modified());
    modified.ok().and_then(|at| at.elapsed().ok()).is_some_and(|found| found >= age)
}

fn remove(path: &Path) -> bool {
    if path.is_dir() { fs::remove_dir_all(path).is_ok() } else { fs::remove_file(path).is_ok() }
}
