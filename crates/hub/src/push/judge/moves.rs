//! What a push does to refs: which way they go, and what changes by that besides what new commits change.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use bastide_core::{Oid, RefName};
use bastide_git::{GitError, Inspector, Novelties, Received, Repo};
use bastide_store::refs;

use super::history::History;
use super::{Judged, MAX_PUSH_CHANGES, MAX_TIME, NewCommit, Tip, bounded};
use crate::push::{Answer, Pusher, Wish};
use crate::ref_rules::Move;
use crate::{Hub, Problem};

/// Commits that are walked to find out which refs of a push go forward. Beyond, one counts as forced.
const MAX_WALK: usize = 500_000;

impl Hub {
    /// Of branches that move over commits which were judged before, for other refs: what changes in them by that.
    pub(super) async fn find_moved(
        &self,
        pusher: &Pusher,
        (repo, came): (&Repo, Option<Arc<Received>>),
        wishes: &[Wish],
        (judged, history, answer): (&mut Judged, &History, &Answer),
    ) -> Result<(), Problem> {
        let asked: Vec<(usize, Oid, Oid)> = wishes
            .iter()
            .zip(&judged.tips)
            .enumerate()
            .filter_map(|(at, (wish, tip))| {
                let (old, tip) = (wish.command.old?, tip.as_ref()?);
                // Of one that does not go forward, all that differs is known.
                let is_replaced = matches!(tip.moves, Move::Force | Move::Rewrite);
                let is_open = wish.open().is_some_and(|(name, _)| name.is_branch());
                (is_open && !is_replaced && !is_all_new(old, tip, judged, history))
                    .then_some((at, old, tip.commit))
            })
            .collect();
        if asked.is_empty() {
            return Ok(());
        }
        let main = refs::get(&mut self.db.read().await?, &pusher.permit(), &RefName::main()).await?;
        let (repo, sender, began) = (repo.clone(), answer.sender.clone(), Instant::now());
        let find = move || {
            let given_up = move || sender.is_closed() || began.elapsed() > MAX_TIME;
            let inspector = Inspector::new(&repo).of(came.as_ref())?.unless(given_up);
            let mut novelties = Novelties::new(inspector, MAX_PUSH_CHANGES);
            let mut find = |(at, old, new): (usize, Oid, Oid)| {
                let mut before = vec![repo.commit(old)?.tree];
                before.extend(
                    main.as_ref()
                        .map(|main| Ok::<_, GitError>(repo.commit(main.commit)?.tree))
                        .transpose()?,
                );
                before.dedup();
                Ok((at, novelties.of(&before, repo.commit(new)?.tree)?.changes))
            };
            asked.into_iter().map(&mut find).collect::<Result<Vec<_>, GitError>>()
        };
        for (at, changes) in tokio::task::spawn_blocking(find).await?.map_err(bounded)? {
            if let Some(tip) = judged.tips.get_mut(at).and_then(Option::as_mut) {
                tip.moved = changes;
            }
        }
        Ok(())
    }

    /// What each wish does to its ref.
    pub(super) async fn find_moves(
        &self,
        repo: &Repo,
        wishes: &[Wish],
        judged: &Judged,
    ) -> Result<Vec<Move>, Problem> {
        let asked = wishes
            .iter()
            .zip(&judged.tips)
            .map(|(wish, tip)| (wish.command.old, tip.as_ref().map(|tip| tip.commit)));
        let asked: Vec<_> = asked.collect();
        let new = judged.commits.iter();
        let parents: HashMap<Oid, Vec<Oid>> =
            new.map(|(id, new)| (*id, new.commit.parents.clone())).collect();
        let repo = repo.clone();
        let find = move || {
            let mut budget = MAX_WALK;
            let find = |(old, new): (Option<Oid>, Option<Oid>)| match (old, new) {
                (None, _) => Ok(Move::Create),
                (_, None) => Ok(Move::Delete),
                (Some(old), Some(new)) => match by_new_commits(&parents, new, old) {
                    Some(true) => Ok(Move::Forward),
                    None if leads_to(&repo, new, old, &mut budget)? => Ok(Move::Forward),
                    _ if is_bare_start(&repo, old)? => Ok(Move::Rewrite),
                    _ => Ok(Move::Force),
                },
            };
            asked.into_iter().map(find).collect::<Result<Vec<_>, GitError>>()
        };
        Ok(tokio::task::spawn_blocking(find).await??)
    }
}

/// Does the history of `new` have `old` in it, as far as new commits and their parents say? `None` when it may be
/// further back.
fn by_new_commits(parents: &HashMap<Oid, Vec<Oid>>, new: Oid, old: Oid) -> Option<bool> {
    let (mut seen, mut open) = (HashSet::from([new]), vec![new]);
    let mut whole = true;
    while let Some(id) = open.pop() {
        match parents.get(&id) {
            _ if id == old => return Some(true),
            Some(parents) => open.extend(parents.iter().filter(|parent| seen.insert(**parent))),
            None => whole = false,
        }
    }
    whole.then_some(false)
}

/// Are all changes between the two those of new commits?
fn is_all_new(old: Oid, tip: &Tip, judged: &Judged, history: &History) -> bool {
    let parents = |(_, new): (Oid, &NewCommit)| new.commit.parents.clone();
    let mut known = judged.commits_of(tip).flat_map(parents).filter(|id| history.known.contains_key(id));
    tip.commit == old || (!tip.commits.is_empty() && tip.moves == Move::Forward && known.all(|id| id == old))
}

/// Does the history of `new` have `old` in it?
fn leads_to(repo: &Repo, new: Oid, old: Oid, budget: &mut usize) -> Result<bool, GitError> {
    // A tag of a tag goes nowhere forward, and is free to go anywhere.
    if repo.commit(old).is_err() {
        return Ok(false);
    }
    let mut found = false;
    repo.walk_history(new, |id| {
        found = id == old;
        *budget = budget.saturating_sub(1);
        !found && *budget > 0
    })?;
    Ok(found)
}

/// Is this the commit that a new repository begins with, and nothing else? A history that was made elsewhere may take
/// its place: nobody loses anything.
fn is_bare_start(repo: &Repo, id: Oid) -> Result<bool, GitError> {
    let Ok(commit) = repo.commit(id) else { return Ok(false) };
    let tree = repo.tree(commit.tree)?;
    Ok(commit.parents.is_empty() && tree.entries.iter().all(|entry| entry.name == ".gitattributes"))
}
