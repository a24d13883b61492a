//! Prunes a repository's packs: they become one that holds what its refs and its remaining commits need. What
//! collection has dropped is gone with that: nobody can fetch it by its id any more, and its bytes count no more.
//!
//! The new pack is checked before anybody relies on it, and put in the place of the others in one transaction, which
//! is refused when a ref has moved or packs have come since. Whoever was building upon what goes sees that
//! `repo.prunings` is another, and begins anew.

use std::sync::Arc;

use bastide_core::{RepoId, Timestamp};
use bastide_git::{Pruned, Snapshot, Wanted};
use bastide_ledger::{Action, Context, context};
use bastide_store::jobs::NewJob;
use bastide_store::prune::{self, Loss};
use bastide_store::{collect, git, proposals};

use crate::access::{Access, Admin, Level, Write};
use crate::objects::Unpublished;
use crate::repos::repo_event;
use crate::{Hub, Problem};

pub(crate) const KIND: &str = "prune-packs";

/// Packs of so many bytes together are written anew for whatever was dropped; larger ones when it is this share
/// of them (one in so many bytes), or when it is long ago, or when somebody has asked for it.
const SMALL_BYTES: u64 = 64 * 1024 * 1024;
const SHARE: u64 = 8;
const AGE_SECONDS: i64 = 24 * 3600;
/// Looks at a repository whose refs keep moving. During the last one nobody commits here, where it is not large.
const ATTEMPTS: usize = 3;

pub(crate) fn new<L: Level>(access: &Access<L>, now: Timestamp) -> NewJob<'static> {
    let key = access.repo_id().to_string();
    NewJob { kind: KIND, payload: key.clone(), key, run_at: now }
}

/// What was looked at, and what came of it.
struct Pruning {
    ref_moves: i64,
    /// Commits that collection had dropped before.
    lost: u64,
    old: Vec<String>,
    wanted: Arc<Wanted>,
    new: Option<git::Pack>,
    /// Bytes of it that neither a branch nor a tag needs.
    beside: u64,
}

impl Hub {
    pub(crate) async fn prune_packs(&self, repo: &str) -> Result<(), Problem> {
        let context = context::system(KIND, &self.clock);
        let id: RepoId = repo.parse().map_err(|_| Problem::internal("a bad repository id in a job"))?;
        let access = match self.access(&context).repo_by_id::<Admin>(id).await {
            // Deleted in the meantime: nothing to prune.
            Err(Problem::RepoNotFound { .. }) => return Ok(()),
            other => other?,
        };
        for attempt in 1..=ATTEMPTS {
            match self.prune_once(&context, &access, attempt == ATTEMPTS).await {
                Err(Problem::Stale) if attempt < ATTEMPTS => {}
                done => return done,
            }
        }
        Ok(())
    }

    async fn prune_once(
        &self,
        context: &Context,
        access: &Access<Admin>,
        is_last: bool,
    ) -> Result<(), Problem> {
        let mut read = self.db.read().await?;
        let Some(loss) = prune::loss(&mut read, access).await?.filter(|loss| loss.commits > 0) else {
            return Ok(());
        };
        let packs = git::packs(&mut read, access).await?;
        drop(read);
        let is_small = packs.iter().map(|pack| pack.bytes).sum::<u64>() <= SMALL_BYTES;
        let _turn = match is_last && is_small {
            true => Some(self.locks.lock(access.repo_id()).await),
            false => None,
        };
        // Before the refs: a move after this is seen.
        let ref_moves = collect::ref_moves(&mut self.db.read().await?, access).await?;
        let Some(ref_moves) = ref_moves else { return Ok(()) };
        let snapshot = self.snapshot(access).await?;
        let wanted = match self.wanted(access, &snapshot).await {
            // Commits that came after the snapshot are not in it.
            Err(_) if collect::ref_moves(&mut self.db.read().await?, access).await? != Some(ref_moves) => {
                return Err(Problem::Stale);
            }
            wanted => Arc::new(wanted?),
        };
        let (lost, old) = (loss.commits, snapshot.packs().to_vec());
        let pruning = Pruning { ref_moves, lost, old, wanted, new: None, beside: 0 };
        let (bytes, dropped) = (pruning.wanted.bytes, pruning.wanted.dropped_bytes);
        if pruning.wanted.dropped > 0 && !is_due(&loss, (bytes, dropped), context.now()) {
            return Ok(());
        }
        self.replace_packs(context, access, (&snapshot, pruning)).await
    }

    async fn wanted(&self, access: &Access<Admin>, snapshot: &Arc<Snapshot>) -> Result<Wanted, Problem> {
        // After the refs: what they reach has rows.
        let commits = prune::commits(&mut self.db.read().await?, access).await?;
        let (snapshot, scratch) = (Arc::clone(snapshot), self.scratch()?);
        Ok(tokio::task::spawn_blocking(move || snapshot.wanted(commits, &scratch)).await??)
    }

    async fn replace_packs(
        &self,
        context: &Context,
        access: &Access<Admin>,
        (snapshot, mut pruning): (&Arc<Snapshot>, Pruning),
    ) -> Result<(), Problem> {
        if pruning.wanted.dropped == 0 {
            // It has come back, or was packed nowhere.
            return self.publish_pruning(context, access, &pruning).await;
        }
        let local = self.git.repo(access.repo_id())?;
        let mut unpublished = None;
        if let Some(Pruned { pack, beside }) = self.pack_wanted(snapshot, &pruning.wanted).await? {
            let stored = self.store_pack(&local, &pack).await?;
            // One that is there already, and holds all that is needed, is among the old ones.
            if !pruning.old.contains(&stored.name) {
                unpublished = Some(self.unpublished(access.repo_id(), &stored));
            }
            (pruning.new, pruning.beside) = (Some(stored), beside);
        }
        crate::crash::point("prune.stored");
        let published = self.publish_pruning(context, access, &pruning).await;
        match &pruning.new {
            Some(new) => self.keep_if(published, new).await?,
            None => published?,
        }
        unpublished.into_iter().for_each(Unpublished::publish);
        crate::crash::point("prune.after");
        let kept = pruning.new.as_ref().map(|new| new.name.as_str());
        let gone: Vec<String> =
            pruning.old.iter().filter(|name| Some(name.as_str()) != kept).cloned().collect();
        local.remove_packs(&gone)?;
        // Whoever reads goes on with what is open; nobody opens it anew.
        self.git.reopen(access.repo_id())?;
        Ok(())
    }

    async fn pack_wanted(
        &self,
        snapshot: &Arc<Snapshot>,
        wanted: &Arc<Wanted>,
    ) -> Result<Option<Pruned>, Problem> {
        let (snapshot, wanted, scratch) = (Arc::clone(snapshot), Arc::clone(wanted), self.scratch()?);
        Ok(tokio::task::spawn_blocking(move || snapshot.pack_wanted(&wanted, &scratch)).await??)
    }

    /// The transaction of a pruning.
    async fn publish_pruning(
        &self,
        context: &Context,
        access: &Access<Admin>,
        pruning: &Pruning,
    ) -> Result<(), Problem> {
        let Pruning { ref_moves, lost, old, wanted, new, beside } = pruning;
        let mut tx = self.write_to(context, access).await?;
        let packs = git::packs(&mut tx, access).await?;
        let same = packs.iter().map(|pack| &pack.name).eq(old.iter());
        if !same || collect::ref_moves(&mut tx, access).await? != Some(*ref_moves) {
            return Err(Problem::Stale);
        }
        let writer = access.lower::<Write>();
        if wanted.dropped > 0 {
            let kept = new.as_ref().map(|new| new.name.as_str());
            let gone: Vec<String> = old.iter().filter(|name| Some(name.as_str()) != kept).cloned().collect();
            if !git::remove_packs(&mut tx, &writer, &gone).await? {
                return Err(Problem::Stale);
            }
            if let Some(new) = new {
                git::add_pack(&mut tx, &writer, new, context.now()).await?;
            }
            prune::pruned(&mut tx, &writer).await?;
        }
        let mut released = 0u64;
        for (number, head) in proposals::charged_pulls(&mut tx, &writer).await? {
            // Of those whose refs are gone.
            if head.is_some_and(|head| !wanted.has(&head)) {
                proposals::release_commits(&mut tx, &writer, number).await?;
                released += 1;
            }
        }
        if wanted.dropped > 0 {
            proposals::bound_bytes(&mut tx, &writer, *beside).await?;
        }
        prune::settled(&mut tx, &writer, (*lost, wanted.left > 0)).await?;
        let event = repo_event(context, Action::PacksPrune, access.repo_id(), &access.repo().path)
            .fact("packs", old.len() as u64)
            .fact("objects", wanted.dropped)
            .fact("bytes", wanted.bytes)
            .fact("bytes_after", new.as_ref().map_or(0, |new| new.bytes))
            .fact("released", released);
        crate::crash::point("prune.before");
        Ok(tx.commit(event).await?)
    }
}

/// Is what was dropped worth writing the rest anew?
fn is_due(loss: &Loss, (bytes, dropped): (u64, u64), now: Timestamp) -> bool {
    loss.urgent
        || bytes <= SMALL_BYTES
        || dropped.saturating_mul(SHARE) >= bytes
        || loss.since.plus_seconds(AGE_SECONDS) <= now
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_packs_are_not_written_anew_for_little() {
        let since = Timestamp::from_millis(1_800_000_000_000);
        let loss = |urgent| Loss { commits: 1, since, urgent };
        let large = SMALL_BYTES * SHARE;
        let later = |seconds| since.plus_seconds(seconds);
        assert!(!is_due(&loss(false), (large, large / SHARE - 1), later(0)));
        assert!(is_due(&loss(false), (large, large / SHARE), later(0)));
        assert!(!is_due(&loss(false), (SMALL_BYTES + 1, 1), later(AGE_SECONDS - 1)));
        assert!(is_due(&loss(false), (SMALL_BYTES + 1, 1), later(AGE_SECONDS)));
        assert!(is_due(&loss(false), (SMALL_BYTES, 1), later(0)));
        assert!(is_due(&loss(true), (large, 1), later(0)), "somebody has asked for it");
    }
}
