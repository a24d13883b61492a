//! The judge of a push: every commit that is new to the repository is held against the rules of `crate::rules`, each
//! against all of its parents, and every ref against what may be done to it. Rows are made here, and nothing is written.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bastide_core::limits::MAX_REGULAR_FILE_BYTES;
use bastide_core::{EntryPath, Oid, RefName, RepoKind, Sha256};
use bastide_git::{Change, Commit, GitError, Inspector, Mode, NewFile, Pointer, Quarantine, Received, Repo};
use bastide_store::{git, refs, xet};

use super::{Answer, MAX_FAULTS, Pusher, Wish, explain};
use crate::history::replaced_paths;
use crate::ref_rules::Move;
use crate::rules::{self, Fault};
use crate::{Hub, Problem};

/// New commits of one push, and paths that they change: all of it is one transaction.
const MAX_PUSH_COMMITS: usize = 50_000;
const MAX_PUSH_CHANGES: usize = 1_000_000;
/// Commits that are walked to find out which refs of a push go forward. Beyond, one counts as forced.
const MAX_WALK: usize = 500_000;
/// New commits under all refs of a push together.
const MAX_NEEDED: usize = 10_000_000;
/// Tags of tags.
const MAX_TAGS: usize = 4;
/// Faults of one commit that are kept.
const MAX_KEPT_FAULTS: usize = 1000;
/// How long one push is looked at.
const MAX_TIME: Duration = Duration::from_secs(600);
const TOO_LONG: &str = "looking at what the push brings took too long: push older commits first";
const TOO_MUCH: &str = "a push brings at most 50000 commits and 1000000 changed paths: push older commits first, \
    as in: git push origin <an older commit>:refs/heads/main";

/// A new commit that is as it has to be.
pub(super) struct NewCommit {
    pub commit: Commit,
    pub generation: i64,
    pub changes: Vec<Change>,
    pub large: Vec<Sha256>,
    objects: Vec<Oid>,
}

/// What the judge found out.
#[derive(Default)]
pub(super) struct Judged {
    /// New commits, parents before children.
    pub order: Vec<Oid>,
    pub commits: HashMap<Oid, NewCommit>,
    /// Commits of the repository that new ones build upon, or that refs go to.
    pub known: HashSet<Oid>,
    /// For each wish, as far as it is one for a commit.
    pub tips: Vec<Option<Tip>>,
}

/// Where a ref is to go.
#[derive(Debug, Clone)]
pub(super) struct Tip {
    /// What it names, and the commit that this comes to.
    pub target: Oid,
    pub commit: Oid,
    /// The annotated tags on the way.
    tags: Vec<Oid>,
    pub moves: Move,
    /// What changes with a branch that does not go forward: paths of commits that it loses, too.
    pub replaced: Vec<String>,
    /// The new commits that it needs, by their place in the order.
    pub commits: Vec<usize>,
    /// What a branch that moves over commits of the repository has otherwise than before, and than the main branch.
    pub moved: Vec<Change>,
}

impl Judged {
    /// The objects that some wishes need, of those that are new.
    pub fn objects(&self, wishes: &[Wish]) -> HashSet<Oid> {
        let mut objects = HashSet::new();
        for tip in self.granted(wishes) {
            objects.extend(&tip.tags);
            for (id, commit) in self.commits_of(tip) {
                objects.insert(id);
                objects.extend(&commit.objects);
            }
        }
        objects
    }

    /// The commits of the repository that a tip comes from.
    pub fn starts(&self, tip: &Tip) -> Vec<Oid> {
        let parents = self.commits_of(tip).flat_map(|(_, new)| new.commit.parents.iter().copied());
        let starts: HashSet<Oid> = parents.chain([tip.commit]).filter(|id| self.known.contains(id)).collect();
        starts.into_iter().collect()
    }

    /// Tips of wishes that nothing is against.
    pub fn granted<'a>(&'a self, wishes: &'a [Wish]) -> impl Iterator<Item = &'a Tip> {
        wishes
            .iter()
            .zip(&self.tips)
            .filter(|(wish, _)| wish.refused.is_none())
            .filter_map(|(_, tip)| tip.as_ref())
    }

    pub fn commits_of<'a>(&'a self, tip: &'a Tip) -> impl Iterator<Item = (Oid, &'a NewCommit)> {
        tip.commits.iter().filter_map(|at| {
            let id = *self.order.get(*at)?;
            self.commits.get(&id).map(|commit| (id, commit))
        })
    }
}

/// The new part of a history.
#[derive(Default)]
struct History {
    commits: HashMap<Oid, Commit>,
    /// The repository's own, with their place in history.
    known: HashMap<Oid, i64>,
}

impl Hub {
    pub(super) async fn judge_push(
        &self,
        pusher: &Pusher,
        wishes: &mut [Wish],
        (quarantine, received): (&Quarantine, Option<&Arc<Received>>),
        answer: &Answer,
    ) -> Result<Judged, Problem> {
        let repo = quarantine.repo()?;
        let came = received.map(Arc::clone);
        let tips = self.find_tips(&repo, wishes).await?;
        let mut history = self.history(pusher, &repo, came.clone(), &tips).await?;
        for (wish, tip) in wishes.iter_mut().zip(&tips) {
            if tip.is_some() && history.commits.len() > MAX_PUSH_COMMITS {
                wish.refuse(TOO_MUCH);
            }
        }
        if history.commits.len() > MAX_PUSH_COMMITS {
            return Ok(Judged { tips, ..Judged::default() });
        }
        let order = topological(&history)?;
        if order.len() > 1000 {
            answer.say(&format!("Checking {} commits", order.len())).await;
        }
        let mut judged =
            Judged { order, tips, known: history.known.keys().copied().collect(), ..Judged::default() };
        let faults = self.look_at_commits(pusher, (&repo, came), &mut history, &mut judged, answer).await?;
        let cards = self.check_cards(pusher, &repo, wishes, &judged).await?;
        let moves = self.find_moves(&repo, wishes, &judged).await?;
        let (mut told, mut told_cards) = (HashSet::new(), HashSet::new());
        let mut room = MAX_NEEDED;
        for (at, wish) in wishes.iter_mut().enumerate() {
            let Some(tip) = judged.tips.get_mut(at).and_then(Option::as_mut) else { continue };
            tip.moves = moves.get(at).copied().unwrap_or(Move::Force);
            if room == 0 {
                wish.refuse("too many refs with too many new commits: push some of them first");
                continue;
            }
            let (commits, all) = needed(tip.commit, &judged.order, &history, &judged.commits);
            tip.commits = commits;
            room = room.saturating_sub(tip.commits.len());
            let mut wrong: Vec<(Oid, &Fault)> = Vec::new();
            let mut fresh = Vec::new();
            for id in tip.commits.iter().filter_map(|at| judged.order.get(*at)) {
                let Some(faults) = faults.get(id) else { continue };
                wrong.extend(faults.iter().map(|fault| (*id, fault)));
                // What is wrong with a commit is told with the first of the refs that need it.
                if told.insert(*id) {
                    fresh.extend(faults.iter().map(|fault| (*id, fault)));
                }
            }
            if let Some(fault) = cards.get(at).and_then(Option::as_ref) {
                wrong.push((tip.commit, fault));
                if told_cards.insert(tip.commit) {
                    fresh.push((tip.commit, fault));
                }
            }
            if let Some((_, first)) = wrong.first() {
                wish.refuse(summary(first, wrong.len()));
                wish.remarks = if fresh.is_empty() { Vec::new() } else { explain(&fresh) };
            }
            if !all {
                wish.refuse("it was not looked at, after too many faults in others: mend those first");
            }
            if wish.refused.is_none()
                && let (Some(old), Move::Force | Move::Rewrite) = (wish.command.old, tip.moves)
                && wish.name.as_ref().is_some_and(RefName::is_branch)
            {
                let (repo, new) = (repo.clone(), tip.commit);
                let find = move || replaced_paths(&repo, old, Some(new));
                tip.replaced = tokio::task::spawn_blocking(find).await??;
            }
        }
        self.find_moved(pusher, &repo, wishes, (&mut judged, &history, answer)).await?;
        Ok(judged)
    }

    /// The commit that each wish comes to. Branches name commits, tags may be annotated.
    async fn find_tips(&self, repo: &Repo, wishes: &mut [Wish]) -> Result<Vec<Option<Tip>>, Problem> {
        let asked: Vec<Option<(RefName, Oid)>> = wishes
            .iter()
            .map(|wish| wish.open().and_then(|(name, new)| Some((name.clone(), new?))))
            .collect();
        let repo = repo.clone();
        let found = tokio::task::spawn_blocking(move || {
            let inspector = Inspector::new(&repo, 0);
            let tip = |asked: Option<(RefName, Oid)>| {
                asked.map(|(name, new)| tip(&inspector, &name, new)).transpose()
            };
            asked.into_iter().map(tip).collect::<Result<Vec<_>, GitError>>()
        });
        let found = found.await??;
        let tips = wishes.iter_mut().zip(found).map(|(wish, tip)| match tip? {
            Ok(tip) => Some(tip),
            Err(why) => {
                wish.refuse(why);
                None
            }
        });
        Ok(tips.collect())
    }

    /// Reads the commits that are new: from the tips back to what the repository knows. A commit is known when it has
    /// a row, wherever its bytes are.
    async fn history(
        &self,
        pusher: &Pusher,
        repo: &Repo,
        came: Option<Arc<Received>>,
        tips: &[Option<Tip>],
    ) -> Result<History, Problem> {
        let mut history = History::default();
        let mut open: Vec<Oid> = tips.iter().flatten().map(|tip| tip.commit).collect();
        while !open.is_empty() && history.commits.len() <= MAX_PUSH_COMMITS {
            let known = git::generations(&mut self.db.read().await?, &pusher.permit(), &open).await?;
            open.retain(|id| !known.contains_key(id));
            history.known.extend(known);
            let (work, roots, came) = (repo.clone(), std::mem::take(&mut open), came.clone());
            let mut commits = std::mem::take(&mut history.commits);
            let walk = move || walk(&work, roots, came.as_deref(), &mut commits).map(|left| (commits, left));
            (history.commits, open) = tokio::task::spawn_blocking(walk).await??;
            open.retain(|id| !history.known.contains_key(id));
        }
        // Some that came are the repository's own already: sent again, or built upon by deltas.
        let ids: Vec<Oid> = history.commits.keys().copied().collect();
        let known = git::generations(&mut self.db.read().await?, &pusher.permit(), &ids).await?;
        history.commits.retain(|id, _| !known.contains_key(id));
        history.known.extend(known);
        let wanted: HashSet<Oid> = reachable(tips, &history);
        history.commits.retain(|id, _| wanted.contains(id));
        Ok(history)
    }

    /// Holds every new commit against the rules. Answers the faults of those that have some.
    async fn look_at_commits(
        &self,
        pusher: &Pusher,
        (repo, came): (&Repo, Option<Arc<Received>>),
        history: &mut History,
        judged: &mut Judged,
        answer: &Answer,
    ) -> Result<HashMap<Oid, Vec<Fault>>, Problem> {
        let trees = self.trees_of_known(repo, history).await?;
        let commits: Vec<(Oid, Commit)> = judged
            .order
            .iter()
            .filter_map(|id| history.commits.get(id).map(|commit| (*id, commit.clone())))
            .collect();
        let (repo, sender) = (repo.clone(), answer.sender.clone());
        let generations = history.known.clone();
        let began = Instant::now();
        let look = move || {
            let waits = sender.clone();
            let given_up = move || waits.is_closed() || began.elapsed() > MAX_TIME;
            let mut look = Look {
                inspector: Inspector::new(&repo, MAX_PUSH_CHANGES).of(came).unless(given_up),
                trees,
                generations,
                faults: HashMap::new(),
            };
            let mut found = HashMap::new();
            for (id, commit) in commits {
                // The client has gone: nobody waits for this.
                if sender.is_closed() {
                    return Err(Problem::Invalid("the client has gone".into()));
                }
                let new = look.commit(id, commit).map_err(bounded)?;
                found.insert(id, new);
                if look.faults.values().map(Vec::len).sum::<usize>() > MAX_FAULTS {
                    break;
                }
            }
            Ok((found, look.faults))
        };
        let (found, mut faults) = tokio::task::spawn_blocking(look).await??;
        let mut commits = HashMap::new();
        let mut pointers = Vec::new();
        for (id, (new, points)) in found {
            pointers.extend(points.into_iter().map(|(path, pointer)| (id, path, pointer)));
            commits.insert(id, new);
        }
        judged.commits = commits;
        self.check_pushed_pointers(pusher, pointers, &mut faults).await?;
        Ok(faults)
    }

    /// Every pointer names content that this very repository has.
    async fn check_pushed_pointers(
        &self,
        pusher: &Pusher,
        pointers: Vec<(Oid, EntryPath, Pointer)>,
        faults: &mut HashMap<Oid, Vec<Fault>>,
    ) -> Result<(), Problem> {
        let contents: HashSet<Sha256> = pointers.iter().map(|(_, _, pointer)| pointer.sha256).collect();
        let contents: Vec<Sha256> = contents.into_iter().collect();
        let sizes = xet::file_sizes(&mut self.db.read().await?, &pusher.permit(), &contents).await?;
        for (commit, path, Pointer { sha256, size }) in pointers {
            if let Err(fault) = rules::check_large(&path, sha256, Some(size), sizes.get(&sha256).copied()) {
                faults.entry(commit).or_default().push(fault);
            }
        }
        Ok(())
    }

    /// The trees of the repository's commits that new ones have as parents.
    async fn trees_of_known(&self, repo: &Repo, history: &History) -> Result<HashMap<Oid, Oid>, Problem> {
        let parents: HashSet<Oid> = history
            .commits
            .values()
            .flat_map(|commit| &commit.parents)
            .filter(|parent| history.known.contains_key(parent))
            .copied()
            .collect();
        let repo = repo.clone();
        let read = move || {
            parents.into_iter().map(|id| Ok((id, repo.commit(id)?.tree))).collect::<Result<_, GitError>>()
        };
        Ok(tokio::task::spawn_blocking(read).await??)
    }

    /// The card of every branch and pull request that is to be somewhere new. Older commits may have had another.
    async fn check_cards(
        &self,
        pusher: &Pusher,
        repo: &Repo,
        wishes: &[Wish],
        judged: &Judged,
    ) -> Result<Vec<Option<Fault>>, Problem> {
        let kind = pusher.by.repo().path.kind;
        // Commits of the repository as well: as long as only a tag led to them, nobody asked for their card.
        let commit = |(wish, tip): (&Wish, &Option<Tip>)| {
            let (name, commit) = (wish.open()?.0, tip.as_ref()?.commit);
            let seen = judged.commits.contains_key(&commit) || judged.known.contains(&commit);
            (!name.is_tag() && seen).then_some(commit)
        };
        let commits: Vec<Option<Oid>> = wishes.iter().zip(&judged.tips).map(commit).collect();
        let repo = repo.clone();
        let check = move || {
            let mut found: HashMap<Oid, Option<Fault>> = HashMap::new();
            let check = |commit: Option<Oid>| {
                let Some(commit) = commit else { return Ok(None) };
                if let Some(fault) = found.get(&commit) {
                    return Ok(fault.clone());
                }
                let fault = card_fault(&repo, kind, repo.commit(commit)?.tree)?.map(Fault::brief);
                found.insert(commit, fault.clone());
                Ok(fault)
            };
            commits.into_iter().map(check).collect::<Result<Vec<_>, GitError>>()
        };
        Ok(tokio::task::spawn_blocking(check).await??)
    }

    /// Of branches that move over commits which were judged before, for other refs: what changes in them by that.
    async fn find_moved(
        &self,
        pusher: &Pusher,
        repo: &Repo,
        wishes: &[Wish],
        (judged, history, answer): (&mut Judged, &History, &Answer),
    ) -> Result<(), Problem> {
        let asked: Vec<(usize, Oid, Oid)> = wishes
            .iter()
            .zip(&judged.tips)
            .enumerate()
            .filter_map(|(at, (wish, tip))| {
                let (old, tip) = (wish.command.old?, tip.as_ref()?);
                let is_open = wish.open().is_some_and(|(name, _)| name.is_branch());
                (is_open && !is_all_new(old, tip, judged, history)).then_some((at, old, tip.commit))
            })
            .collect();
        if asked.is_empty() {
            return Ok(());
        }
        let main = refs::get(&mut self.db.read().await?, &pusher.permit(), &RefName::main()).await?;
        let (repo, sender, began) = (repo.clone(), answer.sender.clone(), Instant::now());
        let find = move || {
            let given_up = move || sender.is_closed() || began.elapsed() > MAX_TIME;
            let mut inspector = Inspector::new(&repo, MAX_PUSH_CHANGES).unless(given_up);
            let mut find = |(at, old, new): (usize, Oid, Oid)| {
                let mut before = vec![inspector.commit(old)?.tree];
                if let Some(main) = &main {
                    before.push(inspector.commit(main.commit)?.tree);
                }
                let tree = inspector.commit(new)?.tree;
                Ok((at, inspector.novelty(&before, tree)?.changes))
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
    async fn find_moves(&self, repo: &Repo, wishes: &[Wish], judged: &Judged) -> Result<Vec<Move>, Problem> {
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

/// What it means when looking at objects comes to a bound.
fn bounded(error: GitError) -> Problem {
    match error {
        GitError::TooManyChanges => Problem::Unprocessable(TOO_MUCH.into()),
        GitError::TooSlow => Problem::Unprocessable(TOO_LONG.into()),
        other => other.into(),
    }
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

/// Reads commits that came, from `roots` back; answers the others that these lead to.
fn walk(
    repo: &Repo,
    roots: Vec<Oid>,
    came: Option<&Received>,
    commits: &mut HashMap<Oid, Commit>,
) -> Result<Vec<Oid>, GitError> {
    let inspector = Inspector::new(repo, 0);
    let mut left = HashSet::new();
    let mut open = roots;
    while let Some(id) = open.pop() {
        if commits.contains_key(&id) || commits.len() > MAX_PUSH_COMMITS {
            continue;
        }
        let commit = inspector.commit(id)?;
        for parent in &commit.parents {
            if came.is_some_and(|came| came.objects.contains(parent)) {
                open.push(*parent)
            } else {
                left.insert(*parent);
            }
        }
        commits.insert(id, commit);
    }
    left.retain(|id| !commits.contains_key(id));
    Ok(left.into_iter().collect())
}

/// New commits that lead to the tips, without going through what is known.
fn reachable(tips: &[Option<Tip>], history: &History) -> HashSet<Oid> {
    let mut seen = HashSet::new();
    let mut open: Vec<Oid> = tips.iter().flatten().map(|tip| tip.commit).collect();
    while let Some(id) = open.pop() {
        if let Some(commit) = history.commits.get(&id)
            && seen.insert(id)
        {
            open.extend(&commit.parents);
        }
    }
    seen
}

/// Parents before children.
fn topological(history: &History) -> Result<Vec<Oid>, GitError> {
    let mut waiting: HashMap<Oid, usize> = HashMap::new();
    let mut children: HashMap<Oid, Vec<Oid>> = HashMap::new();
    for (id, commit) in &history.commits {
        let parents: HashSet<&Oid> =
            commit.parents.iter().filter(|id| history.commits.contains_key(id)).collect();
        waiting.insert(*id, parents.len());
        parents.into_iter().for_each(|parent| children.entry(*parent).or_default().push(*id));
    }
    let mut ready: Vec<Oid> = waiting.iter().filter(|(_, count)| **count == 0).map(|(id, _)| *id).collect();
    let mut order = Vec::with_capacity(history.commits.len());
    while let Some(id) = ready.pop() {
        order.push(id);
        for child in children.get(&id).into_iter().flatten() {
            let Some(count) = waiting.get_mut(child) else { continue };
            *count -= 1;
            if *count == 0 {
                ready.push(*child);
            }
        }
    }
    if order.len() == history.commits.len() { Ok(order) } else { Err(GitError::Pack("commits in a circle")) }
}

/// Where in the order the new commits are that a tip needs, and whether all of them were looked at.
fn needed(
    tip: Oid,
    order: &[Oid],
    history: &History,
    judged: &HashMap<Oid, NewCommit>,
) -> (Vec<usize>, bool) {
    let mut wanted = HashSet::new();
    let mut open = vec![tip];
    while let Some(id) = open.pop() {
        let Some(commit) = history.commits.get(&id) else { continue };
        if wanted.insert(id) {
            open.extend(&commit.parents);
        }
    }
    let all = wanted.iter().all(|id| judged.contains_key(id));
    (order.iter().enumerate().filter(|(_, id)| wanted.contains(id)).map(|(at, _)| at).collect(), all)
}

/// What a new ref comes to, or why it may not go there.
fn tip(inspector: &Inspector, name: &RefName, new: Oid) -> Result<Result<Tip, String>, GitError> {
    let mut tags = Vec::new();
    let mut at = new;
    loop {
        match inspector.tag(at) {
            Ok(None) => break,
            Ok(Some(_)) if !name.is_tag() => {
                return Ok(Err(
                    "branches and pull requests name commits, and this is an annotated tag".into()
                ));
            }
            Ok(Some((target, text))) => {
                if let Err(fault) = rules::check_text("an annotated tag", &rules::lines(&text)) {
                    return Ok(Err(fault.to_string()));
                }
                tags.push(at);
                at = target;
            }
            Err(GitError::Missing(_)) => {
                return Ok(Err("the pack does not have all that the ref needs".into()));
            }
            Err(GitError::TooLarge { limit, .. }) => {
                return Ok(Err(format!("a tag has at most {limit} bytes")));
            }
            Err(other) => return Err(other),
        }
        if tags.len() > MAX_TAGS {
            return Ok(Err(format!("there are more than {MAX_TAGS} tags of tags")));
        }
    }
    match inspector.commit(at) {
        Ok(_) => Ok(Ok(Tip {
            target: new,
            commit: at,
            tags,
            moves: Move::Force,
            replaced: Vec::new(),
            commits: Vec::new(),
            moved: Vec::new(),
        })),
        Err(GitError::Kind(..)) => {
            Ok(Err("every ref here comes to a commit, and this one to something else".into()))
        }
        Err(GitError::TooLarge { limit, .. }) => Ok(Err(format!("a commit has at most {limit} bytes"))),
        Err(other) => Err(other),
    }
}

fn card_fault(repo: &Repo, kind: RepoKind, tree: Oid) -> Result<Option<Fault>, GitError> {
    let Some(entry) = repo.tree(tree)?.find("README.md").cloned() else { return Ok(None) };
    let is_file = matches!(entry.mode, Mode::File | Mode::Executable);
    // A larger one is no regular file: that is a fault of its own.
    if !is_file || repo.blob_size(entry.oid)? > MAX_REGULAR_FILE_BYTES {
        return Ok(None);
    }
    let readme = repo.blob(entry.oid, MAX_REGULAR_FILE_BYTES)?;
    Ok(rules::check_card(kind, &readme).err())
}

/// One line for the report.
fn summary(first: &Fault, count: usize) -> String {
    let first = first.to_string().replace('\n', " ");
    if count > 1 { format!("{first} (and {} more)", count - 1) } else { first }
}

/// Looks at commits, parents before children.
struct Look {
    inspector: Inspector,
    /// The trees of all commits that may be parents.
    trees: HashMap<Oid, Oid>,
    generations: HashMap<Oid, i64>,
    faults: HashMap<Oid, Vec<Fault>>,
}

type Pointers = Vec<(EntryPath, Pointer)>;

impl Look {
    fn commit(&mut self, id: Oid, commit: Commit) -> Result<(NewCommit, Pointers), GitError> {
        let mut faults = Vec::new();
        faults.extend(rules::check_commit(&commit).err());
        let mut parents = Vec::with_capacity(commit.parents.len());
        for parent in &commit.parents {
            parents.push(*self.trees.get(parent).ok_or(GitError::Missing(*parent))?);
        }
        let novelty = self.inspector.novelty(&parents, commit.tree)?;
        faults.extend(novelty.flaws.into_iter().take(MAX_KEPT_FAULTS).map(rules::flaw));
        let mut pointers = Vec::new();
        for file in novelty.files {
            match self.file(&file)? {
                Ok(Some(pointer)) => pointers.push(pointer),
                Ok(None) => {}
                Err(fault) => faults.push(fault.brief()),
            }
            if faults.len() > MAX_KEPT_FAULTS {
                break;
            }
        }
        // Folders as well: those above a file were judged with it, but an empty one has none below.
        for change in novelty.changes.iter().filter(|change| change.is_tree && change.new.is_some()) {
            if let Err(error) = change.path.parse::<EntryPath>() {
                faults.push(Fault::Content(error.to_string()).brief());
            }
            if faults.len() > MAX_KEPT_FAULTS {
                break;
            }
        }
        if !faults.is_empty() {
            self.faults.insert(id, faults);
        }
        let above = commit.parents.iter().filter_map(|parent| self.generations.get(parent)).max();
        let generation = above.map_or(0, |above| above + 1);
        self.generations.insert(id, generation);
        self.trees.insert(id, commit.tree);
        let large = pointers.iter().map(|(_, pointer)| pointer.sha256).collect();
        let objects = novelty.objects;
        Ok((NewCommit { commit, generation, changes: novelty.changes, large, objects }, pointers))
    }

    /// A file against the rules; the pointer that it is, if it is one.
    fn file(&self, file: &NewFile) -> Result<Result<Option<(EntryPath, Pointer)>, Fault>, GitError> {
        let path = match file.path.parse::<EntryPath>() {
            Ok(path) => path,
            Err(error) => return Ok(Err(Fault::Content(error.to_string()))),
        };
        if file.mode == Mode::Submodule {
            let text =
                format!("{path} is a submodule, which this hub does not have: add the files themselves");
            return Ok(Err(Fault::Content(text)));
        }
        let size = self.inspector.file_size(file.oid)?;
        if file.mode == Mode::Symlink {
            if size > rules::MAX_LINK_BYTES {
                return Ok(Err(Fault::Content(format!("{path} is a symbolic link with too long a target"))));
            }
            return Ok(rules::check_link(&path, &self.inspector.file(file.oid, size)?).map(|()| None));
        }
        if let Err(fault) = rules::check_size(&path, size) {
            return Ok(Err(fault));
        }
        if size > Pointer::MAX_BYTES && !rules::is_git_file(&path) {
            return Ok(Ok(None));
        }
        let content = self.inspector.file(file.oid, MAX_REGULAR_FILE_BYTES)?;
        Ok(judge_content(path, &content))
    }
}

fn judge_content(path: EntryPath, content: &[u8]) -> Result<Option<(EntryPath, Pointer)>, Fault> {
    rules::check_content(&path, content)?;
    let Some(pointer) = Pointer::parse(content) else { return Ok(None) };
    rules::check_pointer(&path, pointer)?;
    Ok(Some((path, pointer)))
}
