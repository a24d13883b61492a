//! Collection. What nothing points at is marked; what was marked a grace ago, and still is pointed at
//! by nothing, goes: commits first, then files, then the rights to xorbs that nothing needs. Xorbs
//! that nobody may use are condemned, and removed after another grace, for those who are reading.
//!
//! A mark is taken off by whoever wants the thing again. Every transaction looks whether a ref has
//! moved since the walk that it rests on began: if one has, the walk is worth nothing.

mod settle;

use std::collections::HashSet;

use bastide_blobs::Class;
use bastide_core::limits::UPLOAD_LINK_SECONDS;
use bastide_core::{Oid, Sha256, Timestamp};
use bastide_ledger::Context;
use bastide_ledger::{Action, NewEvent};
use bastide_store::collect::{self, Step};
use bastide_store::{git, jobs, prune, refs};

use crate::access::{Access, Admin};
use crate::accounts::require_operator;
use crate::repos::repo_event;
use crate::{Hub, Problem};

/// Blobs are stored before the rows that name them: one that is younger than this may be on its way,
/// however short the grace.
const MIN_ORPHAN_SECONDS: i64 = UPLOAD_LINK_SECONDS;
/// Steps of one transaction: others write in between.
const STEPS: usize = 500;
/// Xorbs that are condemned in one transaction.
const CONDEMNED: u32 = 2000;
/// Walks over one repository whose refs keep moving.
const WALKS: usize = 3;

/// What a collection did.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Collected {
    pub repos: u64,
    /// Files, commits and rights that were found unused and will go after the grace.
    pub marked: u64,
    /// Files, commits and rights that repositories lost.
    pub dropped: u64,
    /// Uploads in parts that were never finished.
    pub uploads: u64,
    pub condemned: u64,
    pub removed_xorbs: u64,
    /// Repositories whose packs hold what nothing needs: a job looks at them.
    pub unpruned: u64,
    pub removed_blobs: u64,
    pub freed_bytes: u64,
    /// Repositories that are left for the next time, because their refs kept moving.
    pub busy: u64,
    /// Repositories that were left alone, and why.
    pub problems: Vec<String>,
}

/// What the refs of a repository reach, and how often they had moved before that was found out.
struct Walk {
    ref_moves: i64,
    commits: HashSet<Oid>,
    content: HashSet<Sha256>,
}

/// The moment of a collection, and the moment a grace before it.
#[derive(Clone, Copy)]
struct Times {
    now: Timestamp,
    before: Timestamp,
}

impl Hub {
    /// Collects once. Says where it is through `progress`: (done, of so many repositories).
    /// A repository that cannot be walked keeps all that it has, and is named.
    pub async fn collect(
        &self,
        context: &Context,
        progress: impl Fn(usize, usize),
    ) -> Result<Collected, Problem> {
        require_operator(context)?;
        let mut done = Collected::default();
        // Needs no room in the database: a full disk can be freed.
        self.remove_orphans(&mut done).await?;
        let repos = collect::repo_ids(&mut self.db.read().await?).await?;
        for (at, id) in repos.iter().enumerate() {
            progress(at, repos.len());
            let name = match self.access(context).repo_by_id::<Admin>(*id).await {
                // Deleted since the list was made.
                Err(Problem::RepoNotFound { .. }) => continue,
                Err(problem) => (format!("repository {id}"), Err(problem)),
                Ok(access) => {
                    (access.repo().path.to_string(), self.collect_repo(context, &access, &mut done).await)
                }
            };
            match name {
                (_, Ok(finished)) => {
                    done.repos += 1;
                    done.busy += u64::from(!finished);
                }
                // Deleted while it was looked at.
                (_, Err(Problem::RepoNotFound { .. })) => {}
                (_, Err(Problem::Full)) => return Err(Problem::Full),
                (name, Err(problem)) => done.problems.push(format!("{name}: {}", problem.detail())),
            }
        }
        self.drop_uploads(context, &mut done).await?;
        self.condemn(context, &mut done).await?;
        self.remove_condemned(context, &mut done).await?;
        Ok(done)
    }

    fn times(&self, context: &Context) -> Times {
        let now = context.now();
        Times { now, before: now.plus_seconds(-self.config.gc_grace_seconds.max(0)) }
    }

    /// False when refs moved under every walk.
    async fn collect_repo(
        &self,
        context: &Context,
        access: &Access<Admin>,
        done: &mut Collected,
    ) -> Result<bool, Problem> {
        for _ in 0..WALKS {
            let times = self.times(context);
            let walk = self.walk(access).await?;
            let steps = self.steps(access, &walk, times).await?;
            if !self.take_steps(context, access, &walk, (&steps, times), done).await?
                || !self.settle_proposals(context, access, &walk).await?
            {
                continue;
            }
            let mut read = self.db.read().await?;
            let rights = collect::unneeded_rights(&mut read, access, (times.now, times.before)).await?;
            drop(read);
            let rights: Vec<Step> = rights.into_iter().map(Step::DropRight).collect();
            if self.take_steps(context, access, &walk, (&rights, times), done).await? {
                self.ask_for_pruning(context, access, done).await?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn walk(&self, access: &Access<Admin>) -> Result<Walk, Problem> {
        let mut read = self.db.read().await?;
        // Before the refs: a move after this is seen.
        let ref_moves = collect::ref_moves(&mut read, access).await?;
        let ref_moves = ref_moves.ok_or(Problem::RepoNotFound { anonymous: false })?;
        let roots: Vec<_> = refs::list(&mut read, access).await?.iter().map(|found| found.target).collect();
        drop(read);
        self.materialise(access).await?;
        let reached = self.objects_blocking(access, move |repo| Ok(repo.reach(&roots))).await?;
        // With a hole in the walk nothing can be said to be unused.
        if let Some(fault) = reached.faults.first() {
            let (oid, what) = (fault.oid, &fault.what);
            return Err(Problem::Internal(format!(
                "nothing of it is collected: object {oid}: {what}: run `bastide fsck`"
            )));
        }
        let content = reached.pointers.iter().map(|pointer| pointer.sha256).collect();
        Ok(Walk { ref_moves, commits: reached.commits, content })
    }

    /// What there is to do. What is wanted again comes first, then commits, children before parents,
    /// then files: so that a file is here as long as a commit that has it.
    async fn steps(
        &self,
        access: &Access<Admin>,
        walk: &Walk,
        Times { before, .. }: Times,
    ) -> Result<Vec<Step>, Problem> {
        let (mut keep, mut rest) = (Vec::new(), Vec::new());
        let mut read = self.db.read().await?;
        let commits = collect::commit_marks(&mut read, access).await?;
        for file in collect::file_marks(&mut read, access).await? {
            let used = file.sha256.is_some_and(|sha256| walk.content.contains(&sha256));
            let old = file.touched_at < before;
            match (used, file.unused_since) {
                (true, None) => {}
                (true, Some(_)) => keep.push(Step::KeepFile(file.id)),
                (false, None) if old => rest.push(Step::MarkFile(file.id)),
                (false, Some(since)) if old && since < before => rest.push(Step::DropFile(file.id)),
                (false, _) => {}
            }
        }
        let mut middle = Vec::new();
        for (id, unused_since) in commits {
            match (walk.commits.contains(&id), unused_since) {
                (true, None) => {}
                (true, Some(_)) => keep.push(Step::KeepCommit(id)),
                (false, None) => middle.push(Step::MarkCommit(id)),
                (false, Some(since)) if since < before => middle.push(Step::DropCommit(id)),
                (false, Some(_)) => {}
            }
        }
        Ok(keep.into_iter().chain(middle).chain(rest).collect())
    }

    /// Takes steps in transactions of bounded size. False when a ref has moved since the walk.
    async fn take_steps(
        &self,
        context: &Context,
        access: &Access<Admin>,
        walk: &Walk,
        (steps, times): (&[Step], Times),
        done: &mut Collected,
    ) -> Result<bool, Problem> {
        let mut commits = 0u64;
        for batch in steps.chunks(STEPS) {
            let mut tx = self.write_to(context, access).await?;
            if collect::ref_moves(&mut tx, access).await? != Some(walk.ref_moves) {
                return Ok(false);
            }
            let (mut marked, mut dropped, mut lost) = (0u64, 0u64, 0u64);
            for step in batch {
                let took = collect::take(&mut tx, access, *step, (times.now, times.before)).await?;
                match step {
                    Step::MarkCommit(_) | Step::MarkFile(_) => marked += u64::from(took),
                    Step::KeepCommit(_) | Step::KeepFile(_) => {}
                    Step::DropCommit(_) | Step::DropFile(_) | Step::DropRight(_) => {
                        dropped += u64::from(took)
                    }
                }
                lost += u64::from(took && matches!(step, Step::DropCommit(_)));
            }
            if lost > 0 {
                // Their bytes are in packs still.
                prune::lost(&mut tx, access, lost, times.now).await?;
                commits += lost;
            }
            if dropped > 0 {
                collect::next_epoch(&mut tx, access).await?;
            }
            let event = repo_event(context, Action::GcCollect, access.repo_id(), &access.repo().path);
            tx.commit(event.fact("marked", marked).fact("dropped", dropped)).await?;
            done.marked += marked;
            done.dropped += dropped;
        }
        if commits > 0 {
            let mut tx = self.write_to(context, access).await?;
            let paths = collect::drop_changes(&mut tx, access).await?;
            let event = repo_event(context, Action::GcCollect, access.repo_id(), &access.repo().path);
            tx.commit(event.fact("paths", paths)).await?;
        }
        Ok(true)
    }

    /// Has packs looked at that hold what nothing needs.
    async fn ask_for_pruning(
        &self,
        context: &Context,
        access: &Access<Admin>,
        done: &mut Collected,
    ) -> Result<(), Problem> {
        let loss = prune::loss(&mut self.db.read().await?, access).await?;
        if loss.is_none_or(|loss| loss.commits == 0) {
            return Ok(());
        }
        let (mut tx, now) = (self.write_to(context, access).await?, context.now());
        jobs::enqueue(&mut tx, now, crate::jobs::prune_packs::new(access, now)).await?;
        let event = repo_event(context, Action::GcCollect, access.repo_id(), &access.repo().path);
        tx.commit(event.fact("prune", true)).await?;
        done.unpruned += 1;
        Ok(())
    }

    async fn drop_uploads(&self, context: &Context, done: &mut Collected) -> Result<(), Problem> {
        let mut tx = self.write(context).await?;
        done.uploads = collect::drop_uploads(&mut tx, context.now()).await?;
        if done.uploads > 0 {
            let event = NewEvent::new(context, Action::GcCollect).subject("uploads", None, "");
            tx.commit(event.fact("count", done.uploads)).await?;
        }
        Ok(())
    }

    async fn condemn(&self, context: &Context, done: &mut Collected) -> Result<(), Problem> {
        loop {
            let mut tx = self.write(context).await?;
            let condemned = collect::condemn(&mut tx, context.now(), CONDEMNED).await?;
            if condemned == 0 {
                return Ok(());
            }
            let event =
                NewEvent::new(context, Action::GcCondemn).subject("xorbs", None, "").fact("count", condemned);
            tx.commit(event).await?;
            done.condemned += condemned;
        }
    }

    async fn remove_condemned(&self, context: &Context, done: &mut Collected) -> Result<(), Problem> {
        let before = self.times(context).before;
        for xorb in collect::condemned(&mut self.db.read().await?, before).await? {
            let mut tx = self.write(context).await?;
            let Some(unused) = collect::remove_xorb(&mut tx, xorb.id).await? else { continue };
            let event = NewEvent::new(context, Action::GcCollect)
                .subject("xorb", Some(xorb.id.as_i64()), &xorb.hash.to_string())
                .fact("bytes", xorb.stored_bytes);
            tx.commit(event).await?;
            crate::crash::point("gc.removed");
            done.removed_xorbs += 1;
            if !unused.is_empty() {
                done.freed_bytes += xorb.stored_bytes;
            }
            self.delete_blobs(&unused).await?;
        }
        Ok(())
    }

    /// Removes blobs that no row names any more.
    pub(crate) async fn delete_blobs(&self, keys: &[String]) -> Result<(), Problem> {
        for key in keys {
            self.blobs.delete(&key.parse()?).await?;
        }
        Ok(())
    }

    /// Removes blobs that no row names: left by crashes, lost races, shared xorbs and deleted
    /// repositories.
    async fn remove_orphans(&self, done: &mut Collected) -> Result<(), Problem> {
        let age = self.config.gc_grace_seconds.max(MIN_ORPHAN_SECONDS);
        let oldest = self.clock.now().plus_seconds(-age).as_millis();
        for blob in self.orphans().await? {
            if blob.modified_ms < oldest {
                self.blobs.delete(&blob.key).await?;
                done.removed_blobs += 1;
                done.freed_bytes += blob.size;
            }
        }
        Ok(())
    }

    /// Blobs that no row names, or not yet.
    pub(crate) async fn orphans(&self) -> Result<Vec<bastide_blobs::Listed>, Problem> {
        let mut orphans = Vec::new();
        for class in Class::ALL {
            // Listed first, so that everything listed that has a row now is kept.
            let listed = self.blobs.list(class).await?;
            let kept = self.kept_keys().await?;
            orphans.extend(listed.into_iter().filter(|blob| !kept.contains(&blob.key.to_string())));
        }
        Ok(orphans)
    }

    async fn kept_keys(&self) -> Result<HashSet<String>, Problem> {
        let mut read = self.db.read().await?;
        let mut kept: HashSet<String> = git::all_pack_keys(&mut read).await?.into_iter().collect();
        for xorb in collect::xorbs(&mut read).await? {
            kept.insert(xorb.blob_key);
            kept.insert(xorb.index_key);
        }
        Ok(kept)
    }
}
