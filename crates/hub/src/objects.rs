//! A repository's git objects: read from the node's own copy, which is brought up to date from
//! the rows and blobs only when something is missing.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bastide_blobs::{BlobKey, Class};
use bastide_core::RepoId;
use bastide_git::{GitError, NewPack, Repo};
use bastide_store::git::{self, Pack};

use crate::access::{Access, Includes, See};
use crate::{Hub, Problem};

/// Locks by repository: commits to one repository follow each other.
#[derive(Default)]
pub(crate) struct RepoLocks(Mutex<std::collections::HashMap<RepoId, Weak<tokio::sync::Mutex<()>>>>);

impl RepoLocks {
    pub(crate) async fn lock(&self, repo: RepoId) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            locks.retain(|_, lock| lock.strong_count() > 0);
            let held = locks.get(&repo).and_then(Weak::upgrade);
            held.unwrap_or_else(|| {
                let lock = Arc::new(tokio::sync::Mutex::new(()));
                locks.insert(repo, Arc::downgrade(&lock));
                lock
            })
        };
        lock.lock_owned().await
    }
}

impl Hub {
    /// Reads git objects. Runs `work` at once; when it misses an object, fetches the packs that
    /// are missing here and runs it again on the blocking pool.
    pub(crate) async fn objects<L, T, F>(&self, access: &Access<L>, work: F) -> Result<T, Problem>
    where
        L: Includes<See>,
        T: Send + 'static,
        F: Fn(&Repo) -> Result<T, GitError> + Send + 'static,
    {
        let repo = self.git.repo(access.repo_id())?;
        match work(&repo) {
            Err(GitError::Missing(_)) => {}
            done => return Ok(done?),
        }
        self.fetch_packs(access, &repo).await?;
        Ok(tokio::task::spawn_blocking(move || work(&repo)).await??)
    }

    /// The same for work that is long from the start.
    pub(crate) async fn objects_blocking<L, T, F>(&self, access: &Access<L>, work: F) -> Result<T, Problem>
    where
        L: Includes<See>,
        T: Send + 'static,
        F: FnOnce(&Repo) -> Result<T, GitError> + Send + 'static,
    {
        let repo = self.materialise(access).await?;
        Ok(tokio::task::spawn_blocking(move || work(&repo)).await??)
    }

    /// The repository with all of its packs.
    pub(crate) async fn materialise<L: Includes<See>>(&self, access: &Access<L>) -> Result<Repo, Problem> {
        let repo = self.git.repo(access.repo_id())?;
        self.fetch_packs(access, &repo).await?;
        Ok(repo)
    }

    pub(crate) async fn fetch_packs<L: Includes<See>>(
        &self,
        access: &Access<L>,
        repo: &Repo,
    ) -> Result<(), Problem> {
        let packs = git::packs(&mut self.db.read().await?, access).await?;
        let missing = repo.missing_packs(packs.iter().map(|pack| pack.name.as_str()));
        for pack in packs.iter().filter(|pack| missing.contains(&pack.name.as_str())) {
            let (to_pack, to_index) = repo.pack_paths(&pack.name);
            self.blobs.fetch_to(&pack.pack_key.parse()?, &to_pack).await?;
            self.blobs.fetch_to(&pack.index_key.parse()?, &to_index).await?;
        }
        Ok(())
    }

    /// Where new packs are written: on the same file system as the copies of repositories.
    pub(crate) fn scratch(&self) -> Result<PathBuf, Problem> {
        let folder = self.config.data.join("cache").join("tmp");
        std::fs::create_dir_all(&folder).map_err(GitError::from)?;
        Ok(folder)
    }

    /// Makes a new pack durable and puts it into the node's copy. It is part of the repository
    /// only when its row is committed.
    pub(crate) async fn store_pack(&self, repo: &Repo, new: &NewPack) -> Result<Pack, Problem> {
        let hash = new.name.trim_start_matches("pack-");
        let pack_key = BlobKey::fresh(Class::Pack, hash)?;
        let index_key = BlobKey::fresh(Class::PackIndex, hash)?;
        self.blobs.put_file(&new.pack, &pack_key).await?;
        self.blobs.put_file(&new.index, &index_key).await?;
        repo.add_pack(&new.name, &new.pack, &new.index)?;
        Ok(Pack {
            name: new.name.clone(),
            pack_key: pack_key.to_string(),
            index_key: index_key.to_string(),
            objects: new.objects,
            bytes: new.bytes,
        })
    }
}
