//! Whether a pull request can be merged as things are: worked out when somebody asks, kept for as long as
//! neither side moves, and bounded in time, because anybody who reads may ask.

use std::sync::Arc;
use std::time::Duration;

use bastide_core::{Oid, RefName, RepoId};
use bastide_git::{GitError, Merge, merge_commits};
use bastide_store::discussions::Discussion;
use bastide_store::refs;

use crate::access::{Access, Read};
use crate::{Hub, Problem};

/// Pairs of commits that are remembered.
const REMEMBERED: usize = 20_000;
/// Answers that are worked out at the same time: each is a process.
const AT_ONCE: usize = 2;
/// How long one may take, and how long somebody waits for a turn.
const LIMIT: Duration = Duration::from_secs(5);
const WAIT: Duration = Duration::from_secs(5);

/// What stands between a pull request and its base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Conflicts {
    None,
    Files(Arc<Vec<String>>),
    /// It could not be found out in time.
    Unknown,
}

type Key = (RepoId, Oid, Oid);

/// What was worked out: commits never change, so this is never wrong.
pub(crate) struct ConflictCache {
    known: quick_cache::sync::Cache<Key, Arc<Vec<String>>>,
    turns: tokio::sync::Semaphore,
}

impl Default for ConflictCache {
    fn default() -> Self {
        Self { known: quick_cache::sync::Cache::new(REMEMBERED), turns: tokio::sync::Semaphore::new(AT_ONCE) }
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
        let key = (access.repo_id(), base, head);
        if let Some(known) = self.conflicts.known.get(&key) {
            return Ok(shown(known));
        }
        let turn = tokio::time::timeout(WAIT, self.conflicts.turns.acquire()).await;
        let Ok(Ok(_turn)) = turn else { return Ok(Conflicts::Unknown) };
        // Somebody else may have found it out meanwhile.
        if let Some(known) = self.conflicts.known.get(&key) {
            return Ok(shown(known));
        }
        self.find_conflicts(access, key).await
    }

    async fn find_conflicts(&self, access: &Access<Read>, key: Key) -> Result<Conflicts, Problem> {
        let (_, base, head) = key;
        self.materialise(access).await?;
        let scratch = self.scratch()?;
        let found = self.objects_blocking(access, move |repo| {
            match merge_commits(repo, (base, head), &scratch, LIMIT) {
                Ok(Merge::Conflicts(paths)) => Ok(Some(paths)),
                Ok(Merge::Clean { .. } | Merge::Contained) => Ok(Some(Vec::new())),
                Err(GitError::TooSlow) => Ok(None),
                Err(error) => Err(error),
            }
        });
        let Some(paths) = found.await? else { return Ok(Conflicts::Unknown) };
        let paths = Arc::new(paths);
        self.conflicts.known.insert(key, Arc::clone(&paths));
        Ok(shown(paths))
    }
}

fn shown(paths: Arc<Vec<String>>) -> Conflicts {
    if paths.is_empty() { Conflicts::None } else { Conflicts::Files(paths) }
}
