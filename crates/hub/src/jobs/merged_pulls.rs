//! Pull requests whose commits have come to their branch by another way than their own merge: by a push, with the
//! merge of another, or because the branch was put at a commit that has them. They are merged then.
//!
//! A job for each such move of a branch, enqueued in the transaction of the move. It goes by where everything stands
//! when it runs, so it may run late and twice.

use std::collections::HashMap;
use std::time::Duration;

use bastide_core::{DiscussionEventKind, DiscussionStatus, NamespaceId, Oid, RefName, RepoId, Sha256};
use bastide_git::{GitError, Repo, brought, merge_bases};
use bastide_ledger::{Action, Context, context};
use bastide_store::discussions::{self, Merged, NewDiscussionEvent, Reached};
use bastide_store::jobs::{self, NewJob};
use bastide_store::{WriteTx, git, proposals, refs};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::access::{Access, Write};
use crate::discussions::discussion_event;
use crate::uploads::take_over;
use crate::{Hub, Problem};

pub(crate) const KIND: &str = "merged-pulls";

/// Commits that a move brings and that are looked at: the newest of them.
const MAX_COMMITS: usize = 100_000;
/// How long git may take for one answer: whoever writes the history decides how long it takes.
const LIMIT: Duration = Duration::from_secs(20);

/// A branch that was moved, and by whom.
#[derive(Debug, Serialize, Deserialize)]
struct Moved {
    repo: i64,
    branch: String,
    before: Option<Oid>,
    after: Oid,
    by: Option<i64>,
}

/// A pull request whose commits are all in its branch.
struct Found {
    number: u64,
    head: Oid,
    merged: Merged,
    /// Large files that its commits have brought.
    files: Vec<Sha256>,
}

/// Notes that a branch has moved to commits that were here already or came with it, in that transaction.
pub(crate) async fn enqueue(
    tx: &mut WriteTx,
    context: &Context,
    access: &Access<Write>,
    branch: &RefName,
    (before, after): (Option<Oid>, Oid),
) -> Result<(), Problem> {
    let moves = branch.is_branch() && before != Some(after);
    if !moves || !discussions::any_open_pull(tx, access).await? {
        return Ok(());
    }
    let (repo, now) = (access.repo_id(), context.now());
    let by = context.user_id().map(NamespaceId::as_i64);
    let moved = Moved { repo: repo.as_i64(), branch: branch.to_string(), before, after, by };
    let payload = serde_json::to_string(&moved).map_err(Problem::internal)?;
    let before = before.map(|before| before.to_string()).unwrap_or_default();
    let key = format!("{repo} {branch} {before}..{after}");
    Ok(jobs::enqueue(tx, now, NewJob { kind: KIND, key, payload, run_at: now }).await?)
}

impl Hub {
    pub(crate) async fn find_merged(&self, payload: &str) -> Result<(), Problem> {
        let context = context::system(KIND, &self.clock);
        let moved: Moved = serde_json::from_str(payload).map_err(Problem::internal)?;
        let access = match self.access(&context).repo_by_id::<Write>(RepoId::from_i64(moved.repo)).await {
            // Deleted in the meantime.
            Err(Problem::RepoNotFound { .. }) => return Ok(()),
            other => other?,
        };
        if self.end_merged(&context, &access, &moved).await? {
            return Ok(());
        }
        // The branch moved while its commits were looked at: now nobody here moves it.
        let _turn = self.locks.lock(access.repo_id()).await;
        if self.end_merged(&context, &access, &moved).await? { Ok(()) } else { Err(Problem::Stale) }
    }

    /// False when the branch has moved meanwhile.
    async fn end_merged(
        &self,
        context: &Context,
        access: &Access<Write>,
        moved: &Moved,
    ) -> Result<bool, Problem> {
        let branch: RefName = moved.branch.parse().map_err(|_| Problem::internal("a job for no branch"))?;
        let stands = refs::get(&mut self.db.read().await?, access, &branch).await?;
        let Some(stands) = stands.map(|stands| stands.commit) else { return Ok(true) };
        for found in self.reached_pulls(access, &branch, (moved, stands)).await? {
            if !self.publish_reached(context, access, (&branch, stands), (&found, moved.by)).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The open pull requests whose commits a branch has got by a move and still has.
    async fn reached_pulls(
        &self,
        access: &Access<Write>,
        branch: &RefName,
        (moved, stands): (&Moved, Oid),
    ) -> Result<Vec<Found>, Problem> {
        self.materialise(access).await?;
        // Ids from before a history was written anew may lead nowhere.
        let mut read = self.db.read().await?;
        let before = match moved.before {
            Some(before) if git::has_commit(&mut read, access, before).await? => Some(before),
            _ => None,
        };
        let after = git::has_commit(&mut read, access, moved.after).await?.then_some(moved.after);
        drop(read);
        let Some(brought) = self.brought(access, before, (after, stands)).await? else {
            tracing::warn!(repo = %access.repo_id(), %branch, "too long a history to find what a move has merged");
            return Ok(Vec::new());
        };
        let ids: Vec<Oid> = brought.keys().copied().collect();
        let mut read = self.db.read().await?;
        let heads = refs::pull_requests_at(&mut read, access, &ids).await?;
        let reached = discussions::open_for(&mut read, access, branch, &heads).await?;
        drop(read);
        let mut found = Vec::new();
        for pull in reached {
            let Some(merge_commit) = brought.get(&pull.head).copied() else { continue };
            if self.was_contained(access, before, &pull).await? {
                continue;
            }
            let base_commit = before.or(pull.base_seen);
            let files = self.files_ahead(access, base_commit, pull.head).await?;
            let merged = Merged { base_commit, merge_commit };
            found.push(Found { number: pull.num, head: pull.head, merged, files });
        }
        Ok(found)
    }

    /// What a move has brought: as far as where it went to, if the branch still has that, else as far as where it
    /// stands. `None` when that took too long.
    async fn brought(
        &self,
        access: &Access<Write>,
        before: Option<Oid>,
        (after, stands): (Option<Oid>, Oid),
    ) -> Result<Option<HashMap<Oid, Oid>>, Problem> {
        let look = move |repo: &Repo| {
            let still = |after: &Oid| {
                Ok::<_, GitError>(
                    *after == stands || merge_bases(repo, *after, stands, LIMIT)?.contains(after),
                )
            };
            let to = match after {
                Some(after) if still(&after)? => after,
                _ => stands,
            };
            brought(repo, (before, to), MAX_COMMITS, LIMIT)
        };
        let found = self.objects_blocking(access, move |repo| match look(repo) {
            Err(GitError::TooSlow) => Ok(None),
            found => found.map(Some),
        });
        found.await
    }

    /// Were the commits of a pull request in its branch already when they were put there? Then it brings nothing
    /// (it is still empty, say), and no push merges it.
    async fn was_contained(
        &self,
        access: &Access<Write>,
        before: Option<Oid>,
        pull: &Reached,
    ) -> Result<bool, Problem> {
        let Some(seen) = pull.base_seen.filter(|seen| Some(*seen) != before) else { return Ok(false) };
        if !git::has_commit(&mut self.db.read().await?, access, seen).await? {
            return Ok(false);
        }
        let head = pull.head;
        let look = move |repo: &Repo| match merge_bases(repo, seen, head, LIMIT) {
            // Nobody knows: it stays open, which can be mended by hand.
            Err(GitError::TooSlow) => Ok(true),
            bases => Ok(bases?.contains(&head)),
        };
        self.objects_blocking(access, look).await
    }

    /// The transaction: false when the branch has moved. A pull request that was closed, merged or moved itself
    /// meanwhile stays as it is.
    async fn publish_reached(
        &self,
        context: &Context,
        access: &Access<Write>,
        (branch, stands): (&RefName, Oid),
        (found, by): (&Found, Option<i64>),
    ) -> Result<bool, Problem> {
        let Found { number, head, merged, files } = found;
        let now = context.now();
        let mut tx = self.write_to(context, access).await?;
        let is_at = |found: Option<refs::Ref>, commit| found.is_some_and(|found| found.commit == commit);
        if !is_at(refs::get(&mut tx, access, branch).await?, stands) {
            return Ok(false);
        }
        let here = is_at(refs::get(&mut tx, access, &RefName::pull_request(*number)).await?, *head);
        let pull = discussions::get(&mut tx, access, *number).await?;
        let Some(mut pull) = pull.filter(|pull| here && pull.status.is_open()) else { return Ok(true) };
        discussions::set_merged(&mut tx, access, &pull, *merged, now).await?;
        pull.status = DiscussionStatus::Merged;
        // What is in the branch is the owner's, who has let it in.
        take_over(&mut tx, access, files.iter().copied()).await?;
        proposals::release_commits(&mut tx, access, *number).await?;
        let data = json!({ "status": "merged" }).to_string();
        let (kind, author) = (DiscussionEventKind::StatusChange, by.map(NamespaceId::from_i64));
        let told = NewDiscussionEvent { kind, author, data: &data, now };
        discussions::add_event(&mut tx, access, pull.id, &told).await?;
        let event = discussion_event(context, Action::PullMerge, access, &pull)
            .fact("base", branch.as_str())
            .fact("before", merged.base_commit.map(|before| before.to_string()).unwrap_or_default())
            .fact("head", head.to_string())
            .fact("commit", merged.merge_commit.to_string())
            .fact("squash", false)
            .fact("by_id", by.unwrap_or_default());
        crate::crash::point("pull.reached");
        tx.commit(event).await?;
        crate::crash::point("pull.ended");
        Ok(true)
    }
}
