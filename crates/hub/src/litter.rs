//! What crashes leave behind in the cache, and its removal. Blobs in the making are swept by
//! `blobs`, blobs without a row by collection.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::{Hub, Problem};

/// What is older than this was left behind, wherever it is.
const LITTER_AGE: Duration = Duration::from_secs(24 * 3600);
const CHECK_PREFIX: &str = "fsck-";
/// Copies of packs take minutes.
const COPY_AGE: Duration = Duration::from_secs(3600);

impl Hub {
    /// Removes all packs in the making. For a server that starts and has just locked its data
    /// folder: commands that run beside a server make no packs.
    pub async fn clear_scratch(&self) -> Result<(), Problem> {
        let (scratch, hub) = (self.scratch_folder(), self.clone());
        let swept = tokio::task::spawn_blocking(move || {
            hub.git.clear_snapshots()?;
            Ok::<_, bastide_git::GitError>(remove_older(&scratch, Duration::ZERO, |_| true))
        });
        report(swept.await??);
        Ok(())
    }

    /// Removes temporary files that are too old to be in use.
    pub async fn sweep(&self) -> Result<(), Problem> {
        let swept = self.blobs.sweep_temporary(LITTER_AGE).await?;
        let (hub, scratch, cache) = (self.clone(), self.scratch_folder(), self.config.data.join("cache"));
        let in_cache = tokio::task::spawn_blocking(move || {
            let is_check =
                |path: &Path| path.file_name().is_some_and(|name| is_check(name.as_encoded_bytes()));
            let swept =
                remove_older(&scratch, LITTER_AGE, |_| true) + remove_older(&cache, LITTER_AGE, is_check);
            Ok::<_, bastide_git::GitError>(swept + hub.git.sweep(COPY_AGE)?)
        });
        report(swept + in_cache.await??);
        Ok(())
    }

    /// A new folder in which a check makes its own copy of a repository.
    pub(crate) fn check_folder(&self) -> Result<tempfile::TempDir, bastide_git::GitError> {
        let cache = self.config.data.join("cache");
        fs::create_dir_all(&cache)?;
        Ok(tempfile::Builder::new().prefix(CHECK_PREFIX).tempdir_in(cache)?)
    }
}

fn is_check(name: &[u8]) -> bool {
    name.starts_with(CHECK_PREFIX.as_bytes())
}

fn report(swept: usize) {
    if swept > 0 {
        tracing::info!(swept, "temporary files that a crash had left");
    }
}

fn remove_older(folder: &Path, age: Duration, which: impl Fn(&Path) -> bool) -> usize {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let old = entries.filter(|entry| which(&entry.path()) && is_older(entry, age));
    old.filter(|entry| remove(&entry.path())).count()
}

fn is_older(entry: &fs::DirEntry, age: Duration) -> bool {
    let modified = entry.metadata().and_then(|meta| meta.modified());
    modified.ok().and_then(|at| at.elapsed().ok()).is_some_and(|found| found >= age)
}

fn remove(path: &Path) -> bool {
    if path.is_dir() { fs::remove_dir_all(path).is_ok() } else { fs::remove_file(path).is_ok() }
}
