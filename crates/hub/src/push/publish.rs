//! The end of a push: what the judge lets through is stored, and one transaction makes it part of the repository.
//! Whatever changed while it was judged is seen there: refs, rules, the credential, the content of large files.

use std::collections::HashSet;
use std::sync::Arc;

use bastide_core::{Oid, RefName, Sha256};
use bastide_ledger::Action;
use bastide_store::discussions;
use bastide_store::git::{self, ChangeRow, CommitRow};
use bastide_store::proposals::CommitCharge;
use bastide_store::refs::{self, Target};
use bastide_store::{Reader, WriteTx, prune, repos};

use super::judge::{Judged, NewCommit, Tip};
use super::{Answer, Pack, Pusher, Wish, refuse_all_or_none};
use crate::access::{Access, Propose};
use crate::authors::Proof;
use crate::jobs::merged_pulls;
use crate::metadata::Metadata;
use crate::objects::Unpublished;
use crate::pulls::{PullCommit, ROW_BYTES, note_commit, unrelated};
use crate::ref_rules::{Move, RefRules};
use crate::repos::repo_event;
use crate::uploads::{Uploader, keep_file, take_over};
use crate::{Hub, Problem};

/// Commits of one push that a pull request tells of.
const NOTED_COMMITS: usize = 50;
const FETCH_FIRST: &str = "fetch first";
/// What a push leaves out because the repository has it may have been in its packs by chance, needed by nothing.
const PRUNED: &str =
    "the repository was pruned of what nothing needs while this push was looked at: push again";
const NO_RIGHT: &str =
    "you may read this repository, and propose changes in pull requests of your own: nothing else";

impl Hub {
    /// What can be said before the pack is looked at.
    pub(super) async fn check_wishes(&self, pusher: &Pusher, wishes: &mut [Wish]) -> Result<(), Problem> {
        let mut read = self.db.read().await?;
        let rules = RefRules::load(&mut read, &pusher.permit()).await?;
        let mut seen = HashSet::new();
        for wish in wishes {
            if !seen.insert(wish.command.name.clone()) {
                wish.refuse("the ref is named twice");
            }
            if let Err(why) = self.check_wish(&mut read, pusher, &rules, wish, None).await? {
                wish.refuse(why);
            }
        }
        Ok(())
    }

    /// May this be done to the ref, and is it where the client thinks it is? `moves` is how far it goes, once that is
    /// known.
    async fn check_wish(
        &self,
        read: &mut Reader,
        pusher: &Pusher,
        rules: &RefRules,
        wish: &Wish,
        moves: Option<Move>,
    ) -> Result<Result<(), String>, Problem> {
        let Some((name, new)) = wish.open() else { return Ok(Ok(())) };
        let moves = moves.unwrap_or(Move::Forward);
        let refused = match name.pull_request_number() {
            Some(number) => self.check_pull(read, pusher, number, (new, moves)).await?,
            None if matches!(pusher.by, Uploader::Proposer(_)) => Some(NO_RIGHT.to_owned()),
            None => None,
        };
        if let Some(why) = refused {
            return Ok(Err(why));
        }
        let what = match (wish.command.old, new) {
            (_, None) => Move::Delete,
            (None, _) => Move::Create,
            (Some(_), Some(_)) => moves,
        };
        if let Err(problem) = rules.check(name, what) {
            return Ok(Err(problem.to_string()));
        }
        let now = refs::get(read, &pusher.permit(), name).await?.map(|found| found.target);
        if now == wish.command.old {
            return Ok(if now.is_none() && new.is_none() {
                Err("there is no such ref".into())
            } else {
                Ok(())
            });
        }
        Ok(Err(
            if now.is_some() && wish.command.old.is_none() { "already exists" } else { FETCH_FIRST }.into()
        ))
    }

    /// Why a pull request may not be moved, if so. Who may add to it is decided where its other commits are.
    async fn check_pull(
        &self,
        read: &mut Reader,
        pusher: &Pusher,
        number: u64,
        (new, moves): (Option<Oid>, Move),
    ) -> Result<Option<String>, Problem> {
        if new.is_none() {
            return Ok(Some(
                "the ref of a pull request goes with it: close it, and delete its ref there".into(),
            ));
        }
        let pull = match self.pull_for_commits(read, &pusher.context, &pusher.by, number).await {
            Ok(pull) => pull,
            Err(Problem::RevisionNotFound(_)) => {
                return Ok(Some("there is no such pull request: open one first, then push to it".into()));
            }
            Err(Problem::Internal(detail)) => return Err(Problem::Internal(detail)),
            Err(problem) => return Ok(Some(problem.to_string())),
        };
        let own = pull.is_author(pusher.context.user_id());
        let rewrites = matches!(moves, Move::Force | Move::Rewrite);
        Ok((rewrites && !own).then(|| "only its author may force-push a pull request".to_owned()))
    }

    /// A branch does not go with what others have locked in it.
    pub(super) async fn refuse_lost_branches(
        &self,
        pusher: &Pusher,
        wishes: &mut [Wish],
    ) -> Result<(), Problem> {
        let access = &pusher.permit();
        for wish in wishes {
            let Some((name, None)) = wish.open() else { continue };
            // Where a branch is said to be that is not there, the transaction finds it elsewhere.
            let head = refs::get(&mut self.db.read().await?, access, name).await?;
            let Some(head) = head.filter(|head| name.is_branch() && Some(head.target) == wish.command.old)
            else {
                continue;
            };
            match self.refuse_lost(&pusher.context, access, head.commit).await {
                Ok(()) => {}
                Err(Problem::Internal(detail)) => return Err(Problem::Internal(detail)),
                Err(problem) => wish.refuse(problem.to_string()),
            }
        }
        Ok(())
    }

    /// A pull request stays one that shares a commit with its base: who reviews it could not see what it changes.
    pub(super) async fn refuse_unrelated(
        &self,
        pusher: &Pusher,
        wishes: &mut [Wish],
        judged: &Judged,
    ) -> Result<(), Problem> {
        let access = &pusher.permit();
        for (wish, tip) in wishes.iter_mut().zip(&judged.tips) {
            let number = wish.open().and_then(|(name, _)| name.pull_request_number());
            let (Some(number), Some(tip)) = (number, tip) else { continue };
            let found = discussions::get(&mut self.db.read().await?, access, number).await?;
            let Some(pull) = found else { continue };
            if !self.shares_base(access, &pull, judged.starts(tip)).await? {
                wish.refuse(unrelated(&pull).to_string());
            }
        }
        Ok(())
    }

    /// Stores what was granted and moves the refs. What turns out to be impossible only now is refused, and the rest
    /// is tried again.
    pub(super) async fn publish_push(
        &self,
        pusher: &Pusher,
        wishes: &mut [Wish],
        pack: &Pack,
        judged: &Judged,
        (atomic, answer): (bool, &Answer),
    ) -> Result<(), Problem> {
        let _turn = self.locks.lock(pusher.by.repo_id()).await;
        loop {
            refuse_all_or_none(wishes, atomic);
            if answer.is_pointless() || wishes.iter().all(|wish| wish.refused.is_some()) {
                return Ok(());
            }
            let access = &pusher.permit();
            let stored = self.store(access, wishes, pack, judged).await?;
            let unpublished = stored.as_ref().map(|stored| self.unpublished(access.repo_id(), stored));
            let done = match self.metadata_of(pusher, wishes, judged).await {
                Ok(metadata) => self.try_publish(pusher, wishes, judged, (stored.as_ref(), metadata)).await,
                Err(problem) => Err(problem),
            };
            let done = match (done, &stored) {
                (Ok(true), _) => {
                    unpublished.into_iter().for_each(Unpublished::publish);
                    return Ok(());
                }
                (done, Some(stored)) => self.keep_if(done.and(Err(Problem::Stale)), stored).await,
                (Ok(false), None) => Ok(()),
                (Err(problem), None) => Err(problem),
            };
            match done {
                Ok(()) | Err(Problem::Stale) => {}
                Err(problem) => return Err(problem),
            }
        }
    }

    async fn store(
        &self,
        access: &Access<Propose>,
        wishes: &[Wish],
        pack: &Pack,
        judged: &Judged,
    ) -> Result<Option<git::Pack>, Problem> {
        let Pack::Received(quarantine, Some(received)) = pack else { return Ok(None) };
        let (objects, scratch) = (judged.objects(wishes), self.scratch()?);
        let copy = self.git.repo(access.repo_id())?;
        let (quarantine, received) = (Arc::clone(quarantine), Arc::clone(received));
        let beside = copy.clone();
        let keep = move || quarantine.keep(&received, &objects, &beside, &scratch);
        let new = tokio::task::spawn_blocking(keep).await??;
        let Some(new) = new else { return Ok(None) };
        let stored = self.store_pack(&copy, &new).await?;
        crate::crash::point("push.stored");
        Ok(Some(stored))
    }

    /// What the repository is found by, when its main branch moves.
    async fn metadata_of(
        &self,
        pusher: &Pusher,
        wishes: &[Wish],
        judged: &Judged,
    ) -> Result<Option<Metadata>, Problem> {
        let Uploader::Writer(access) = &pusher.by else { return Ok(None) };
        let main = RefName::main();
        let granted = wishes.iter().zip(&judged.tips).filter(|(wish, _)| wish.refused.is_none());
        let tip = granted
            .into_iter()
            .find(|(wish, _)| wish.name.as_ref() == Some(&main))
            .and_then(|(_, tip)| tip.as_ref());
        match tip {
            Some(tip) => self.read_metadata(access, tip.commit).await.map(Some),
            None => Ok(None),
        }
    }

    /// The transaction. False when a wish had to be refused after all, and nothing was done.
    async fn try_publish(
        &self,
        pusher: &Pusher,
        wishes: &mut [Wish],
        judged: &Judged,
        (pack, metadata): (Option<&git::Pack>, Option<Metadata>),
    ) -> Result<bool, Problem> {
        let (now, access) = (pusher.context.now(), &pusher.permit());
        let mut tx = self.write_by(&pusher.context, &pusher.by).await?;
        let granted: Vec<&Tip> = judged.granted(wishes).collect();
        let commits = rows(&granted, judged);
        still_known(&mut tx, access, &granted, judged).await?;
        if !granted.is_empty() && prune::prunings(&mut tx, access).await? != pusher.prunings {
            return Err(Problem::Invalid(PRUNED.into()));
        }
        self.keep_contents(&mut tx, pusher, &commits, judged).await?;
        let mut added = false;
        if let Some(pack) = pack {
            added = self.add_pack(&mut tx, access, pack, now).await?;
            self.upload_quota_in(&mut tx, &pusher.by, 0).await?;
        }
        let proof = Proof::of(&mut tx, &pusher.context).await?;
        add_rows(&mut tx, access, &commits, (judged, &proof)).await?;
        if !self.move_refs(&mut tx, pusher, wishes, judged).await? {
            return Ok(false);
        }
        self.note_pulls(&mut tx, pusher, wishes, judged, (pack, added)).await?;
        if let Uploader::Writer(access) = &pusher.by {
            repos::touch(&mut tx, access, now).await?;
            for (wish, tip) in wishes.iter().zip(&judged.tips) {
                if let (Some((name, Some(_))), Some(tip)) = (wish.open(), tip) {
                    let moves = (wish.command.old, tip.commit);
                    merged_pulls::enqueue(&mut tx, &pusher.context, access, name, moves).await?;
                }
            }
            if let Some(metadata) = &metadata {
                self.store_metadata(&mut tx, access, metadata).await?;
            }
        }
        let mut events = events(pusher, wishes, judged);
        let Some(last) = events.pop() else { return Ok(true) };
        let last = match pack {
            Some(pack) => last.fact("objects", pack.objects).fact("bytes", pack.bytes),
            None => last,
        };
        events.into_iter().for_each(|event| tx.record(event));
        crate::crash::point("push.before");
        tx.commit(last.fact("new_commits", commits.len() as u64)).await?;
        crate::crash::point("push.after");
        Ok(true)
    }

    /// Moves the refs, those that go first: a name can be free for another then. Pull requests come before the
    /// branches that get their commits with the same push.
    async fn move_refs(
        &self,
        tx: &mut WriteTx,
        pusher: &Pusher,
        wishes: &mut [Wish],
        judged: &Judged,
    ) -> Result<bool, Problem> {
        let rules = RefRules::load(tx, &pusher.permit()).await?;
        let mut all = true;
        let mut order: Vec<usize> = (0..wishes.len()).collect();
        order.sort_by_key(|at| {
            wishes.get(*at).map(|wish| (wish.command.new.is_some(), !is_pull_request(wish)))
        });
        for at in order {
            let Some(wish) = wishes.get_mut(at) else { continue };
            let tip = judged.tips.get(at).and_then(Option::as_ref);
            let checked = self.check_wish(tx, pusher, &rules, wish, tip.map(|tip| tip.moves)).await?;
            let Some((name, new)) = wish.open().map(|(name, new)| (name.clone(), new)) else { continue };
            let moved = match checked {
                Ok(()) => match self.refuse_locks(tx, pusher, &name, tip, judged).await? {
                    Ok(()) => move_ref(tx, pusher, (&name, wish.command.old), new.and(tip)).await?,
                    Err(why) => Err(why),
                },
                Err(why) => Err(why),
            };
            if let Err(why) = moved {
                wish.refuse(why);
                all = false;
            }
        }
        Ok(all)
    }

    /// Files that somebody else has locked change in no branch.
    async fn refuse_locks(
        &self,
        tx: &mut WriteTx,
        pusher: &Pusher,
        name: &RefName,
        tip: Option<&Tip>,
        judged: &Judged,
    ) -> Result<Result<(), String>, Problem> {
        let Some(tip) = tip.filter(|_| name.is_branch()) else { return Ok(Ok(())) };
        let changes = judged.commits_of(tip).flat_map(|(_, new)| &new.changes);
        let paths = changes
            .chain(&tip.moved)
            .filter(|change| !change.is_tree || change.new.is_none())
            .map(|change| change.path.as_str())
            .chain(tip.replaced.iter().map(String::as_str));
        match self.refuse_locked(tx, &pusher.context, &pusher.permit(), paths).await {
            Ok(()) => Ok(Ok(())),
            Err(Problem::Internal(detail)) => Err(Problem::Internal(detail)),
            Err(problem) => Ok(Err(problem.to_string())),
        }
    }

    /// Keeps collection away from the content of new large files; says when it came first.
    async fn keep_contents(
        &self,
        tx: &mut WriteTx,
        pusher: &Pusher,
        commits: &[Oid],
        judged: &Judged,
    ) -> Result<(), Problem> {
        let new = commits.iter().filter_map(|id| judged.commits.get(id));
        let contents: HashSet<Sha256> = new.flat_map(|new| &new.large).copied().collect();
        for sha256 in &contents {
            if !keep_file(tx, &pusher.by, *sha256, pusher.context.now()).await? {
                return Err(Problem::Invalid(format!("the content {sha256} was collected: upload it again")));
            }
        }
        if let Uploader::Writer(access) = &pusher.by {
            take_over(tx, access, contents).await?;
        }
        Ok(())
    }

    /// Pull requests say which commits they got, and those of proposers are counted.
    async fn note_pulls(
        &self,
        tx: &mut WriteTx,
        pusher: &Pusher,
        wishes: &[Wish],
        judged: &Judged,
        (pack, added): (Option<&git::Pack>, bool),
    ) -> Result<(), Problem> {
        let access = &pusher.permit();
        // Counted once: with the first of the pull requests that the pack came for.
        let mut bytes = pack.map_or(0, |pack| pack.bytes);
        for (wish, tip) in wishes.iter().zip(&judged.tips) {
            let number = wish.open().and_then(|(name, _)| name.pull_request_number());
            let (Some(number), Some(tip)) = (number, tip) else { continue };
            let pull = self.pull_for_commits(tx, &pusher.context, &pusher.by, number).await?;
            for (id, new) in latest(judged, tip) {
                let commit = PullCommit { id, title: new.commit.title() };
                note_commit(tx, &pusher.context, access, &pull, commit).await?;
            }
            if let Uploader::Proposer(access) = &pusher.by {
                let changes = judged.commits_of(tip).flat_map(|(_, new)| &new.changes);
                let rows: u64 = changes.map(|change| change.path.len() as u64 + ROW_BYTES).sum();
                let packed = std::mem::take(&mut bytes);
                let pack_bytes = if added { packed } else { 0 };
                let charge = CommitCharge { price: packed + rows, pack_bytes };
                self.put_proposal(tx, &pusher.context, access, number, charge).await?;
            }
        }
        Ok(())
    }
}

fn is_pull_request(wish: &Wish) -> bool {
    wish.name.as_ref().is_some_and(RefName::is_pull_request)
}

/// The last few of the commits that a tip needs.
fn latest<'a>(judged: &'a Judged, tip: &'a Tip) -> impl Iterator<Item = (Oid, &'a NewCommit)> {
    judged.commits_of(tip).skip(tip.commits.len().saturating_sub(NOTED_COMMITS))
}

async fn move_ref(
    tx: &mut WriteTx,
    pusher: &Pusher,
    (name, old): (&RefName, Option<Oid>),
    tip: Option<&Tip>,
) -> Result<Result<(), String>, Problem> {
    let (permit, now) = (pusher.permit(), pusher.context.now());
    let new = tip.map(|tip| Target { target: tip.target, commit: tip.commit });
    if old == new.map(|new| new.target) {
        return Ok(Ok(()));
    }
    if old.is_none()
        && let Some(other) = refs::conflicting(tx, &permit, name).await?
    {
        return Ok(Err(format!("{name} conflicts with {other}")));
    }
    let moved = match (name.pull_request_number(), &pusher.by) {
        (Some(number), _) => refs::swap_pull_request(tx, &permit, number, old, new, now).await?,
        (None, Uploader::Writer(access)) => refs::swap(tx, access, name, old, new, now).await?,
        (None, Uploader::Proposer(_)) => return Ok(Err(NO_RIGHT.to_owned())),
    };
    Ok(if moved { Ok(()) } else { Err(FETCH_FIRST.to_owned()) })
}

/// The new commits that some tips need, parents before children.
fn rows(granted: &[&Tip], judged: &Judged) -> Vec<Oid> {
    let places: std::collections::BTreeSet<usize> =
        granted.iter().flat_map(|tip| &tip.commits).copied().collect();
    places.into_iter().filter_map(|at| judged.order.get(at).copied()).collect()
}

/// Collection may have taken commits that new ones build upon, since they were looked up.
async fn still_known(
    tx: &mut WriteTx,
    access: &Access<Propose>,
    granted: &[&Tip],
    judged: &Judged,
) -> Result<(), Problem> {
    let mut needed: HashSet<Oid> = granted.iter().map(|tip| tip.commit).collect();
    needed.extend(
        granted.iter().flat_map(|tip| judged.commits_of(tip)).flat_map(|(_, new)| new.commit.parents.iter()),
    );
    needed.retain(|id| judged.known.contains(id));
    let needed: Vec<Oid> = needed.into_iter().collect();
    let found = git::generations(tx, access, &needed).await?;
    if found.len() == needed.len() {
        return Ok(());
    }
    Err(Problem::Invalid("commits that this push builds upon were collected meanwhile: push again".into()))
}

async fn add_rows(
    tx: &mut WriteTx,
    access: &Access<Propose>,
    commits: &[Oid],
    (judged, proof): (&Judged, &Proof),
) -> Result<(), Problem> {
    let row = |id: &Oid| {
        let new = judged.commits.get(id)?;
        let changes = new.changes.iter().map(|change| ChangeRow { path: &change.path, object: change.new });
        let row = CommitRow {
            id: *id,
            tree: new.commit.tree,
            parents: &new.commit.parents,
            time: new.commit.time,
            author: &new.commit.author.name,
            author_id: proof.author(&new.commit.author),
            pusher_id: proof.user(),
            title: new.commit.title(),
            message: &new.commit.message,
        };
        Some(git::NewCommit {
            row,
            generation: new.generation,
            changes: changes.collect(),
            pointers: &new.pointers,
        })
    };
    let rows: Vec<git::NewCommit<'_>> = commits.iter().filter_map(row).collect();
    Ok(git::add_commits(tx, access, &rows).await?)
}

/// One event for each ref that moves.
fn events(pusher: &Pusher, wishes: &[Wish], judged: &Judged) -> Vec<bastide_ledger::NewEvent> {
    let text = |id: Option<Oid>| id.map(|id| id.to_string()).unwrap_or_default();
    let granted = wishes.iter().zip(judged.tips.iter().chain(std::iter::repeat(&None)));
    let granted = granted.filter(|(wish, _)| wish.refused.is_none());
    let event = |(wish, tip): (&Wish, &Option<Tip>)| {
        let tip = tip.as_ref();
        repo_event(&pusher.context, Action::GitPush, pusher.by.repo_id(), &pusher.by.repo().path)
            .fact("ref", wish.command.name.as_str())
            .fact("before", text(wish.command.old))
            .fact("after", text(tip.map(|tip| tip.commit)))
            .fact("target", text(wish.command.new))
            .fact("forced", tip.is_some_and(|tip| tip.moves == Move::Force))
            .fact("commits", tip.map_or(0, |tip| tip.commits.len()) as u64)
    };
    granted.map(event).collect()
}
