//! Whether a pull request can be merged as things are: worked out when somebody asks, kept for as long as
//! neither side moves, and bounded in time, because anybody who reads may ask. A repository has one answer worked out
//! at a time, and nobody waits for long: what is not ready yet is not known.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bastide_core::{Oid, RefName, RepoId};
use bastide_git::{GitError, Merge, merge_commits};
use bastide_store::discussions::Discussion;
use bastide_store::refs;
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::access::{Access, Read};
use crate::objects::RepoLocks;
use crate::{Hub, Problem};

/// Pairs of commits that are remembered.
const REMEMBERED: usize = 20_000;
/// Answers that are worked out at the same time: each is a process.
const AT_ONCE: usize = 2;
/// How long one may take.
const LIMIT: Duration = Duration::from_secs(5);
/// How long somebody waits for a turn, and for what comes of it.
const TURN_WAIT: Duration = Duration::from_secs(1);
const WAIT: Duration = Duration::from_secs(3);
/// What could not be found out is not tried again before this.
const RETRY: Duration = Duration::from_secs(600);

/// What stands between a pull request and its base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Conflicts {
    None,
    Files(Arc<Vec<String>>),
    /// They share no commit: it cannot be merged.
    Unrelated,
    /// It could not be found out in time.
    Unknown,
}

type Key = (RepoId, Oid, Oid);
type Turn = (OwnedMutexGuard<()>, OwnedSemaphorePermit);

/// What was worked out, and when: commits never change, so an answer is never wrong.
pub(crate) struct ConflictCache {
    known: quick_cache::sync::Cache<Key, (Conflicts, Instant)>,
    repos: RepoLocks,
    turns: Arc<Semaphore>,
    turn_wait: Duration,
    wait: Duration,
}

impl Default for ConflictCache {
    fn default() -> Self {
        let known = quick_cache::sync::Cache::new(REMEMBERED);
        let (repos, turns) = (RepoLocks::default(), Arc::new(Semaphore::new(AT_ONCE)));
        Self { known, repos, turns, turn_wait: TURN_WAIT, wait: WAIT }
    }
}

impl ConflictCache {
    fn known(&self, key: &Key) -> Option<Conflicts> {
        let (found, at) = self.known.get(key)?;
        (found != Conflicts::Unknown || at.elapsed() < RETRY).then_some(found)
    }

    async fn turn(&self, repo: RepoId) -> Option<Turn> {
        let taken = async {
            let repo = self.repos.lock(repo).await;
            Arc::clone(&self.turns).acquire_owned().await.ok().map(|turn| (repo, turn))
        };
        timeout(self.turn_wait, taken).await.ok().flatten()
    }

    /// What is known, or what comes of `work`, which goes on when nobody waits for it any more.
    async fn look_up<F>(self: &Arc<Self>, key: Key, work: F) -> Result<Conflicts, Problem>
    where
        F: Future<Output = Result<Conflicts, Problem>> + Send + 'static,
    {
        if let Some(known) = self.known(&key) {
            return Ok(known);
        }
        let Some(turn) = self.turn(key.0).await else { return Ok(Conflicts::Unknown) };
        // Somebody else may have found it out meanwhile.
        if let Some(known) = self.known(&key) {
            return Ok(known);
        }
        let cache = Arc::clone(self);
        let running = tokio::spawn(async move {
            let _turn = turn;
            let found = work.await;
            // What fails would fail again, at the same price.
            let kept = found.as_ref().map_or(Conflicts::Unknown, Clone::clone);
            cache.known.insert(key, (kept, Instant::now()));
            found
        });
        match timeout(self.wait, running).await {
            Ok(found) => found?,
            Err(_) => Ok(Conflicts::Unknown),
        }
    }
}

impl Hub {
    /// The files in which a pull request and its base are at odds. One that is merged or closed has none.
    pub async fn pull_conflicts(
        &self,
        access: &Access<Read>,
        pull: &Discussion,
    ) -> Result<Conflicts, Problem> {
        let Some(details) = pull.pull_request.as_ref().filter(|_| pull.status.is_open()) else {
            return Ok(Conflicts::None);
        };
        let own = RefName::pull_request(pull.num);
        let names = [details.base.clone(), own.clone()];
        let found = refs::named(&mut self.db.read().await?, access, &names).await?;
        let at = |name: &RefName| found.iter().find(|found| found.name == *name).map(|found| found.commit);
        let (Some(base), Some(head)) = (at(&details.base), at(&own)) else { return Ok(Conflicts::None) };
        if base == head {
            return Ok(Conflicts::None);
        }
        let repo = access.repo_id();
        let (hub, access) = (self.clone(), access.clone());
        let work = async move { hub.find_conflicts(&access, (base, head)).await };
        self.conflicts.look_up((repo, base, head), work).await
    }

    async fn find_conflicts(&self, access: &Access<Read>, heads: (Oid, Oid)) -> Result<Conflicts, Problem> {
        self.materialise(access).await?;
        let scratch = self.scratch()?;
        let found =
            self.objects_blocking(access, move |repo| match merge_commits(repo, heads, &scratch, LIMIT) {
                Ok(Merge::Conflicts(paths)) => Ok(Conflicts::Files(Arc::new(paths))),
                Ok(Merge::Clean { .. } | Merge::Contained) => Ok(Conflicts::None),
                Ok(Merge::Unrelated) => Ok(Conflicts::Unrelated),
                Err(GitError::TooSlow) => Ok(Conflicts::Unknown),
                Err(error) => Err(error),
            });
        found.await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const WORK: Duration = Duration::from_millis(900);

    fn repo() -> RepoId {
        RepoId::new(bastide_core::Timestamp::from_millis(1))
    }

    fn key(repo: RepoId, head: u8) -> Key {
        let oid = |byte: u8| format!("{byte:02x}").repeat(20).parse().unwrap();
        (repo, oid(1), oid(head))
    }

    fn cache() -> Arc<ConflictCache> {
        let (turn_wait, wait) = (Duration::from_millis(100), Duration::from_millis(300));
        Arc::new(ConflictCache { turn_wait, wait, ..ConflictCache::default() })
    }

    /// Work that counts itself, and what it comes to after a time.
    fn work(
        count: &Arc<AtomicUsize>,
        takes: Duration,
        comes_to: Result<Conflicts, Problem>,
    ) -> impl Future<Output = Result<Conflicts, Problem>> + Send + 'static {
        let count = Arc::clone(count);
        async move {
            count.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(takes).await;
            comes_to
        }
    }

    #[tokio::test]
    async fn what_was_not_found_out_is_not_tried_again_at_once() {
        let (cache, count, repo) = (cache(), Arc::new(AtomicUsize::new(0)), repo());
        for _ in 0..3 {
            let unknown = work(&count, Duration::ZERO, Ok(Conflicts::Unknown));
            let found = cache.look_up(key(repo, 2), unknown).await.unwrap();
            assert_eq!(found, Conflicts::Unknown);
        }
        assert_eq!(count.load(Ordering::SeqCst), 1);
        // What fails is told once, and not tried again either.
        let failed = || work(&count, Duration::ZERO, Err(Problem::Invalid("no".into())));
        assert!(cache.look_up(key(repo, 3), failed()).await.is_err());
        assert_eq!(cache.look_up(key(repo, 3), failed()).await.unwrap(), Conflicts::Unknown);
        assert_eq!(count.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn nobody_waits_for_long_and_what_is_found_is_kept() {
        let (cache, count, one) = (cache(), Arc::new(AtomicUsize::new(0)), repo());
        let files = || Conflicts::Files(Arc::new(vec!["a".into()]));
        let began = tokio::time::Instant::now();
        // The first waits for its own; many others of the repository begin nothing.
        let mut asked = tokio::task::JoinSet::new();
        for head in 2..50 {
            let (cache, work) = (Arc::clone(&cache), work(&count, WORK, Ok(files())));
            asked.spawn(async move { cache.look_up(key(one, head), work).await.unwrap() });
        }
        // Another repository has a turn of its own.
        let other =
            cache.look_up(key(repo(), 2), work(&count, Duration::ZERO, Ok(Conflicts::None))).await.unwrap();
        assert_eq!(other, Conflicts::None);
        assert!(asked.join_all().await.iter().all(|found| *found == Conflicts::Unknown));
        assert!(began.elapsed() < WORK, "{:?}", began.elapsed());
        assert_eq!(count.load(Ordering::SeqCst), 2);
        // Whoever went away has not stopped it.
        tokio::time::sleep(WORK).await;
        let found = (2..50).filter(|head| cache.known(&key(one, *head)) == Some(files()));
        assert_eq!(found.count(), 1);
    }
}
