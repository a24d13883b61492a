//! The end of a push: what the judge lets through is stored, and one transaction makes it part of the repository.
//! Whatever changed while it was judged is seen there: refs, rules, the credential, the content of large files.

use std::collections::HashSet;
use std::sync::Arc;

use bastide_core::{Oid, RefName, Sha256};
use bastide_ledger::Action;
use bastide_store::git::{self, ChangeRow, CommitRow};
use bastide_store::refs::{self, Target};
use bastide_store::{Reader, WriteTx, repos, xet};

use super::judge::{Judged, Tip};
use super::{Answer, Pack, Pusher, Wish, refuse_all_or_none};
use crate::access::{Access, Write};
use crate::metadata::Metadata;
use crate::ref_rules::{Move, RefRules};
use crate::repos::repo_event;
use crate::{Hub, Problem};

const FETCH_FIRST: &str = "fetch first";
const NO_RIGHT: &str =
    "you may read this repository, and propose changes in pull requests of your own: nothing else";

impl Hub {
    /// What can be said before the pack is looked at.
    pub(super) async fn check_wishes(&self, pusher: &Pusher, wishes: &mut [Wish]) -> Result<(), Problem> {
        let mut read = self.db.read().await?;
        let rules = RefRules::load(&mut read, &pusher.propose).await?;
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
        if name.is_pull_request() {
            return Ok(Err("pull requests are not pushed to yet: commit to them over the wire".into()));
        }
        if pusher.write.is_none() {
            return Ok(Err(NO_RIGHT.into()));
        }
        let what = match (wish.command.old, new) {
            (_, None) => Move::Delete,
            (None, _) => Move::Create,
            (Some(_), Some(_)) => moves.unwrap_or(Move::Forward),
        };
        if let Err(problem) = rules.check(name, what) {
            return Ok(Err(problem.to_string()));
        }
        let now = refs::get(read, &pusher.propose, name).await?.map(|found| found.target);
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
        let _turn = self.locks.lock(pusher.propose.repo_id()).await;
        loop {
            refuse_all_or_none(wishes, atomic);
            if answer.is_pointless() || wishes.iter().all(|wish| wish.refused.is_some()) {
                return Ok(());
            }
            let Some(access) = &pusher.write else { return Ok(()) };
            let stored = self.store(access, wishes, pack, judged).await?;
            let metadata = self.metadata_of(access, wishes, judged).await;
            let done = match metadata {
                Ok(metadata) => {
                    self.try_publish(pusher, access, wishes, judged, (stored.as_ref(), metadata)).await
                }
                Err(problem) => Err(problem),
            };
            let done = match (done, &stored) {
                (Ok(true), _) => return Ok(()),
                (done, Some(stored)) => {
                    let done = done.and(Err(Problem::Stale));
                    let done: Result<(), Problem> = self.keep_if(done, stored).await;
                    self.forget_pack(access, stored).await?;
                    done
                }
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
        access: &Access<Write>,
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

    /// A pack that became no part of the repository is not left in the node's copy, where it could be read by id.
    async fn forget_pack(&self, access: &Access<Write>, pack: &git::Pack) -> Result<(), Problem> {
        let packs = git::packs(&mut self.db.read().await?, access).await?;
        if packs.iter().all(|known| known.name != pack.name) {
            self.git.repo(access.repo_id())?.remove_packs(std::slice::from_ref(&pack.name))?;
            self.git.reopen(access.repo_id())?;
        }
        Ok(())
    }

    /// What the repository is found by, when its main branch moves.
    async fn metadata_of(
        &self,
        access: &Access<Write>,
        wishes: &[Wish],
        judged: &Judged,
    ) -> Result<Option<Metadata>, Problem> {
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
        access: &Access<Write>,
        wishes: &mut [Wish],
        judged: &Judged,
        (pack, metadata): (Option<&git::Pack>, Option<Metadata>),
    ) -> Result<bool, Problem> {
        let now = pusher.context.now();
        let mut tx = self.write_to(&pusher.context, access).await?;
        let granted: Vec<&Tip> = judged.granted(wishes).collect();
        let commits = rows(&granted, judged);
        still_known(&mut tx, access, &granted, judged).await?;
        self.touch_contents(&mut tx, access, &commits, judged).await?;
        if let Some(pack) = pack {
            self.add_pack(&mut tx, access, pack, now).await?;
        }
        add_rows(&mut tx, access, &commits, judged).await?;
        if !self.move_refs(&mut tx, (pusher, access), wishes, judged).await? {
            return Ok(false);
        }
        repos::touch(&mut tx, access, now).await?;
        if let Some(metadata) = &metadata {
            self.store_metadata(&mut tx, access, metadata).await?;
        }
        let mut events = events(pusher, access, wishes, judged);
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

    /// Moves the refs, those that go first: a name can be free for another then.
    async fn move_refs(
        &self,
        tx: &mut WriteTx,
        (pusher, access): (&Pusher, &Access<Write>),
        wishes: &mut [Wish],
        judged: &Judged,
    ) -> Result<bool, Problem> {
        let rules = RefRules::load(tx, access).await?;
        let mut all = true;
        let mut order: Vec<usize> = (0..wishes.len()).collect();
        order.sort_by_key(|at| wishes.get(*at).is_some_and(|wish| wish.command.new.is_some()));
        for at in order {
            let Some(wish) = wishes.get_mut(at) else { continue };
            let tip = judged.tips.get(at).and_then(Option::as_ref);
            let checked = self.check_wish(tx, pusher, &rules, wish, tip.map(|tip| tip.moves)).await?;
            let Some((name, new)) = wish.open().map(|(name, new)| (name.clone(), new)) else { continue };
            let moved = match checked {
                Ok(()) => move_ref(tx, access, (&name, wish.command.old), new.and(tip), pusher).await?,
                Err(why) => Err(why),
            };
            if let Err(why) = moved {
                wish.refuse(why);
                all = false;
            }
        }
        Ok(all)
    }

    /// Keeps collection away from the content of new large files; says when it came first.
    async fn touch_contents(
        &self,
        tx: &mut WriteTx,
        access: &Access<Write>,
        commits: &[Oid],
        judged: &Judged,
    ) -> Result<(), Problem> {
        let contents: HashSet<Sha256> = commits
            .iter()
            .filter_map(|id| judged.commits.get(id))
            .flat_map(|new| &new.large)
            .copied()
            .collect();
        let now = self.clock.now();
        for sha256 in contents {
            if !xet::touch_file(tx, access, sha256, now).await? {
                return Err(Problem::Invalid(format!("the content {sha256} was collected: upload it again")));
            }
        }
        Ok(())
    }
}

async fn move_ref(
    tx: &mut WriteTx,
    access: &Access<Write>,
    (name, old): (&RefName, Option<Oid>),
    tip: Option<&Tip>,
    pusher: &Pusher,
) -> Result<Result<(), String>, Problem> {
    if old.is_none()
        && let Some(other) = refs::conflicting(tx, access, name).await?
    {
        return Ok(Err(format!("{name} conflicts with {other}")));
    }
    let new = tip.map(|tip| Target { target: tip.target, commit: tip.commit });
    let moved = old == new.map(|new| new.target)
        || refs::swap(tx, access, name, old, new, pusher.context.now()).await?;
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
    access: &Access<Write>,
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
    access: &Access<Write>,
    commits: &[Oid],
    judged: &Judged,
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
            // Whoever a commit says it is from, nobody has proved it.
            author_id: None,
            title: new.commit.title(),
            message: &new.commit.message,
        };
        Some(git::NewCommit { row, generation: new.generation, changes: changes.collect() })
    };
    let rows: Vec<git::NewCommit<'_>> = commits.iter().filter_map(row).collect();
    Ok(git::add_commits(tx, access, &rows).await?)
}

/// One event for each ref that moves.
fn events(
    pusher: &Pusher,
    access: &Access<Write>,
    wishes: &[Wish],
    judged: &Judged,
) -> Vec<bastide_ledger::NewEvent> {
    let text = |id: Option<Oid>| id.map(|id| id.to_string()).unwrap_or_default();
    let granted = wishes.iter().zip(judged.tips.iter().chain(std::iter::repeat(&None)));
    let granted = granted.filter(|(wish, _)| wish.refused.is_none());
    let event = |(wish, tip): (&Wish, &Option<Tip>)| {
        let tip = tip.as_ref();
        repo_event(&pusher.context, Action::GitPush, access.repo_id(), &access.repo().path)
            .fact("ref", wish.command.name.as_str())
            .fact("before", text(wish.command.old))
            .fact("after", text(tip.map(|tip| tip.commit)))
            .fact("target", text(wish.command.new))
            .fact("forced", tip.is_some_and(|tip| tip.moves == Move::Force))
            .fact("commits", tip.map_or(0, |tip| tip.commits.len()) as u64)
    };
    granted.map(event).collect()
}
