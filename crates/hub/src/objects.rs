//! A repository's git objects: read from the node's own copy, which is brought up to date from
//! the rows and blobs only when something is missing.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bastide_blobs::{BlobKey, Class};
use bastide_core::{RepoId, Timestamp};
use bastide_git::{GitError, KnownPack, NewPack, Repo};
use bastide_store::WriteTx;
use bastide_store::git::{self, Pack};

use crate::access::{Access, Includes, Propose, See};
use crate::{Hub, Problem};

/// More packs than this are merged by a job.
const MERGE_PACKS_FROM: u64 = 24;
/// With so many, merging has not been possible for long: a repository takes no more, so that it
/// stays one that can be opened.
const MAX_PACKS: u64 = 20_000;
const MERGE_WAIT_SECONDS: u32 = 60;
/// Packs of this age in a copy, without a row, belong to no change that is under way.
const STALE_AGE: Duration = Duration::from_secs(3600);

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
    /// Reads git objects. Runs `work` at once; when it misses an object, or the copy is damaged,
    /// brings the copy up to date and runs it again on the blocking pool.
    pub(crate) async fn objects<L, T, F>(&self, access: &Access<L>, work: F) -> Result<T, Problem>
    where
        L: Includes<See>,
        T: Send + 'static,
        F: Fn(&Repo) -> Result<T, GitError> + Send + Sync + 'static,
    {
        let first = self.git.repo(access.repo_id()).and_then(|repo| work(&repo));
        match first {
            Err(error) if error.blames_the_copy() => {
                self.forget_if_damaged(access, &error);
                self.objects_blocking(access, work).await
            }
            done => Ok(done?),
        }
    }

    /// The same for work that is long from the start. Work that answers with what is missing, and
    /// does not fail by it, needs `materialise` before.
    pub(crate) async fn objects_blocking<L, T, F>(&self, access: &Access<L>, work: F) -> Result<T, Problem>
    where
        L: Includes<See>,
        T: Send + 'static,
        F: Fn(&Repo) -> Result<T, GitError> + Send + Sync + 'static,
    {
        let work = Arc::new(work);
        let run = async |repo: Repo| {
            let work = Arc::clone(&work);
            tokio::task::spawn_blocking(move || work(&repo)).await
        };
        match run(self.git.repo(access.repo_id())?).await? {
            Err(error) if error.blames_the_copy() => self.forget_if_damaged(access, &error),
            done => return Ok(done?),
        }
        match run(self.materialise(access).await?).await? {
            Err(error) if error.blames_the_copy() && self.git.may_rebuild(access.repo_id()) => {
                tracing::warn!(repo = %access.repo_id(), %error, "a copy of a repository is made anew");
                Ok(run(self.rebuild(access).await?).await??)
            }
            done => Ok(done?),
        }
    }

    /// A missing object may just not have been fetched yet; all else is the handle's or the
    /// folder's fault.
    fn forget_if_damaged<L: Includes<See>>(&self, access: &Access<L>, error: &GitError) {
        if !matches!(error, GitError::Missing(_))
            && let Err(error) = self.git.reopen(access.repo_id())
        {
            tracing::warn!(repo = %access.repo_id(), %error, "a copy of a repository cannot be opened");
        }
    }

    /// The repository with all of its packs, and room for them.
    pub(crate) async fn materialise<L: Includes<See>>(&self, access: &Access<L>) -> Result<Repo, Problem> {
        let repo = self.git.repo(access.repo_id())?;
        let changed = self.fetch_packs(access, &repo).await?;
        if changed == Changed::Replaced || !repo.has_room()? {
            return Ok(self.git.reopen(access.repo_id())?);
        }
        Ok(repo)
    }

    /// The repository with packs that are all fetched anew.
    pub(crate) async fn rebuild<L: Includes<See>>(&self, access: &Access<L>) -> Result<Repo, Problem> {
        let repo = self.git.repo(access.repo_id())?;
        {
            let _turn = self.fetches.lock(access.repo_id()).await;
            let packs = git::packs(&mut self.db.read().await?, access).await?;
            let names: Vec<String> = packs.into_iter().map(|pack| pack.name).collect();
            repo.remove_packs(&names)?;
        }
        self.fetch_packs(access, &repo).await?;
        Ok(self.git.reopen(access.repo_id())?)
    }

    /// Fetches the packs that are not here, or not whole, and removes those that no row names.
    /// Waits for nobody when there is nothing to do.
    pub(crate) async fn fetch_packs<L: Includes<See>>(
        &self,
        access: &Access<L>,
        repo: &Repo,
    ) -> Result<Changed, Problem> {
        repo.restore()?;
        let packs = git::packs(&mut self.db.read().await?, access).await?;
        if repo.missing_packs(packs.iter().map(known)).is_empty() && stale(repo, &packs)?.is_empty() {
            return Ok(Changed::Nothing);
        }
        let _turn = self.fetches.lock(access.repo_id()).await;
        let packs = git::packs(&mut self.db.read().await?, access).await?;
        let missing = repo.missing_packs(packs.iter().map(known));
        let mut changed = Changed::Nothing;
        for pack in packs.iter().filter(|pack| missing.contains(&pack.name.as_str())) {
            let replaced = self.fetch_pack(repo, pack).await?;
            changed = changed.max(if replaced { Changed::Replaced } else { Changed::Added });
        }
        let stale = stale(repo, &packs)?;
        repo.remove_packs(&stale)?;
        // Handles would go on reading what is gone, and keep its room.
        Ok(if stale.is_empty() { changed } else { Changed::Replaced })
    }

    /// Fetches one pack, in place of what is left of it. Says whether there was something left.
    async fn fetch_pack(&self, repo: &Repo, pack: &Pack) -> Result<bool, Problem> {
        let (to_pack, to_index) = repo.pack_paths(&pack.name);
        let replaced = to_index.exists();
        repo.remove_packs(std::slice::from_ref(&pack.name))?;
        self.blobs.fetch_to(&pack.pack_key.parse()?, &to_pack).await?;
        self.blobs.fetch_to(&pack.index_key.parse()?, &to_index).await?;
        if !repo.missing_packs([known(pack)]).is_empty() {
            repo.remove_packs(std::slice::from_ref(&pack.name))?;
            return Err(Problem::internal(format!(
                "the stored bytes of {} have another length than was stored: run fsck",
                pack.name
            )));
        }
        Ok(replaced)
    }

    /// Where new packs are written: on the same file system as the copies of repositories.
    pub(crate) fn scratch(&self) -> Result<PathBuf, Problem> {
        let folder = self.scratch_folder();
        std::fs::create_dir_all(&folder).map_err(GitError::from)?;
        Ok(folder)
    }

    pub(crate) fn scratch_folder(&self) -> PathBuf {
        self.config.data.join("cache").join("tmp")
    }

    /// Makes a new pack durable and puts it into the node's copy. It is part of the repository
    /// only when its row is committed.
    pub(crate) async fn store_pack(&self, repo: &Repo, new: &NewPack) -> Result<Pack, Problem> {
        let hash = new.name.trim_start_matches("pack-");
        let pack_key = BlobKey::fresh(Class::Pack, hash)?;
        let index_key = BlobKey::fresh(Class::PackIndex, hash)?;
        let pack = Pack {
            name: new.name.clone(),
            pack_key: pack_key.to_string(),
            index_key: index_key.to_string(),
            objects: new.objects,
            bytes: new.bytes,
        };
        let stored = async {
            self.blobs.put_file(&new.pack, &pack_key).await?;
            self.blobs.put_file(&new.index, &index_key).await?;
            Ok(repo.add_pack(&new.name, &new.pack, &new.index)?)
        };
        let stored: Result<(), Problem> = stored.await;
        self.keep_if(stored, &pack).await.map(|()| pack)
    }

    /// Adds a pack to a repository, and has its packs merged when they have become many. Says whether it is new.
    pub(crate) async fn add_pack<L: Includes<See> + Includes<Propose>>(
        &self,
        tx: &mut WriteTx,
        access: &Access<L>,
        pack: &Pack,
        now: Timestamp,
    ) -> Result<bool, Problem> {
        let added = git::add_pack(tx, access, pack, now).await?;
        let count = git::pack_count(tx, access).await?;
        if count > MAX_PACKS {
            return Err(Problem::Busy { seconds: MERGE_WAIT_SECONDS });
        }
        if count > MERGE_PACKS_FROM {
            bastide_store::jobs::enqueue(tx, now, crate::jobs::merge_packs::new(access, now)).await?;
        }
        Ok(added)
    }

    /// For a pack that was just stored, until its row is committed.
    pub(crate) fn unpublished(&self, repo: RepoId, pack: &Pack) -> Unpublished {
        Unpublished { hub: self.clone(), repo, name: Some(pack.name.clone()) }
    }

    /// Passes a result on. When it is a failure that certainly left no row behind, the bytes that
    /// were stored for it go at once: on a full disk nobody may wait for collection.
    pub(crate) async fn keep_if<T>(&self, done: Result<T, Problem>, pack: &Pack) -> Result<T, Problem> {
        match &done {
            // After a fault of ours nobody knows whether the row is there.
            Ok(_) | Err(Problem::Internal(_)) => {}
            Err(_) => {
                for key in [&pack.pack_key, &pack.index_key] {
                    let Ok(key) = key.parse::<BlobKey>() else { continue };
                    if let Err(error) = self.blobs.delete(&key).await {
                        tracing::warn!(%key, %error, "bytes of a failed change are left to collection");
                    }
                }
            }
        }
        done
    }
}

/// A pack in the node's copy that is no part of its repository. It leaves the copy again with this, however that comes:
/// others are to find there what the repository has. Where its row is there after all, it is fetched again.
pub(crate) struct Unpublished {
    hub: Hub,
    repo: RepoId,
    name: Option<String>,
}

impl Unpublished {
    /// It is part of the repository now.
    pub(crate) fn publish(mut self) {
        self.name = None;
    }
}

impl Drop for Unpublished {
    fn drop(&mut self) {
        let Some(name) = self.name.take() else { return };
        let git = &self.hub.git;
        let removed = git.repo(self.repo).and_then(|repo| repo.remove_packs(&[name]));
        // Whoever reads goes on with what is open; nobody opens it anew.
        if let Err(error) = removed.and_then(|()| git.reopen(self.repo)) {
            tracing::warn!(repo = %self.repo, %error, "a pack of a change that failed is left in a copy");
        }
    }
}

/// What bringing a copy up to date has done to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Changed {
    Nothing,
    Added,
    /// What was there was not whole, or is gone: handles that know it are of no use.
    Replaced,
}

fn stale(repo: &Repo, packs: &[Pack]) -> Result<Vec<String>, GitError> {
    repo.stale_packs(&packs.iter().map(|pack| pack.name.as_str()).collect::<HashSet<_>>(), STALE_AGE)
}

fn known(pack: &Pack) -> KnownPack<'_> {
    KnownPack { name: &pack.name, objects: pack.objects, bytes: pack.bytes }
}
