//! The judge of a push: every commit that is new to the repository is held against the rules of `crate::rules`, each
//! against all of its parents, and every ref against what may be done to it. Rows are made here, and nothing is written.

mod content;
mod history;
mod look;
mod moves;

pub(crate) use content::card_fault;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bastide_core::{Oid, Sha256};
use bastide_git::{Change, Commit, GitError, Quarantine, Received, Repo};

use self::history::{History, needed, topological};
use super::{Answer, Pusher, Wish, explain};
use crate::history::replaced_paths;
use crate::ref_rules::Move;
use crate::rules::Fault;
use crate::{Hub, Problem};

/// New commits of one push, and paths that they change: all of it is one transaction.
const MAX_PUSH_COMMITS: usize = 50_000;
const MAX_PUSH_CHANGES: usize = 1_000_000;
/// Bytes of the messages, names and parents of new commits together: all of them are in memory, and packed they are next to nothing.
const MAX_PUSH_TEXT: usize = 128 * 1024 * 1024;
/// New commits under all refs of a push together.
const MAX_NEEDED: usize = 10_000_000;
/// How long one push is looked at.
const MAX_TIME: Duration = Duration::from_secs(600);
const TOO_LONG: &str = "looking at what the push brings took too long: push older commits first";
const TOO_MUCH: &str = "a push brings at most 50000 commits, 1000000 changed paths and 128 MiB of messages: push older commits first, \
    as in: git push origin <an older commit>:refs/heads/main";

/// A new commit that is as it has to be.
pub(super) struct NewCommit {
    pub commit: Commit,
    pub generation: i64,
    pub changes: Vec<Change>,
    pub large: Vec<Sha256>,
    /// The objects that point at those.
    pub pointers: HashSet<Oid>,
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

/// What is wrong with what a push brings.
struct Faults {
    commits: HashMap<Oid, Vec<Fault>>,
    /// Of each wish.
    cards: Vec<Option<Fault>>,
    /// Commits whose faults, and whose card's, were told: they are with the first of the refs that need them.
    told: HashSet<Oid>,
    told_cards: HashSet<Oid>,
}

impl Faults {
    /// Refuses a wish for what is wrong with the commits that it needs.
    fn tell(&mut self, at: usize, wish: &mut Wish, tip: &Tip, order: &[Oid]) {
        let mut wrong: Vec<(Oid, &Fault)> = Vec::new();
        let mut fresh = Vec::new();
        for id in tip.commits.iter().filter_map(|at| order.get(*at)) {
            let Some(faults) = self.commits.get(id) else { continue };
            wrong.extend(faults.iter().map(|fault| (*id, fault)));
            if self.told.insert(*id) {
                fresh.extend(faults.iter().map(|fault| (*id, fault)));
            }
        }
        if let Some(fault) = self.cards.get(at).and_then(Option::as_ref) {
            wrong.push((tip.commit, fault));
            if self.told_cards.insert(tip.commit) {
                fresh.push((tip.commit, fault));
            }
        }
        if let Some((_, first)) = wrong.first() {
            wish.refuse(summary(first, wrong.len()));
            wish.remarks = if fresh.is_empty() { Vec::new() } else { explain(&fresh) };
        }
    }
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
        if let Some(came) = came.clone() {
            tokio::task::spawn_blocking(move || came.write_ahead());
        }
        let tips = self.find_tips(&repo, wishes).await?;
        let history = self.history(pusher, &repo, came.clone(), &tips).await?;
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
        let commits =
            self.look_at_commits(pusher, (&repo, came.clone()), &history, &mut judged, answer).await?;
        let cards = self.check_cards(pusher, &repo, wishes, &judged).await?;
        let moves = self.find_moves(&repo, wishes, &judged).await?;
        let faults = Faults { commits, cards, told: HashSet::new(), told_cards: HashSet::new() };
        self.judge_wishes(&repo, wishes, (&mut judged, &history), (faults, moves)).await?;
        self.find_moved(pusher, (&repo, came), wishes, (&mut judged, &history, answer)).await?;
        Ok(judged)
    }

    /// Refuses the wishes that something is against, and notes what the others need.
    async fn judge_wishes(
        &self,
        repo: &Repo,
        wishes: &mut [Wish],
        (judged, history): (&mut Judged, &History),
        (mut faults, moves): (Faults, Vec<Move>),
    ) -> Result<(), Problem> {
        let mut room = MAX_NEEDED;
        for (at, wish) in wishes.iter_mut().enumerate() {
            let Some(tip) = judged.tips.get_mut(at).and_then(Option::as_mut) else { continue };
            tip.moves = moves.get(at).copied().unwrap_or(Move::Force);
            if room == 0 {
                wish.refuse("too many refs with too many new commits: push some of them first");
                continue;
            }
            let (commits, all) = needed(tip.commit, &judged.order, history, &judged.commits);
            tip.commits = commits;
            room = room.saturating_sub(tip.commits.len());
            faults.tell(at, wish, tip, &judged.order);
            if !all {
                wish.refuse("it was not looked at, after too many faults in others: mend those first");
            }
            tip.replaced = find_replaced(repo, wish, tip).await?;
        }
        Ok(())
    }
}

/// Paths of commits that a branch loses.
async fn find_replaced(repo: &Repo, wish: &Wish, tip: &Tip) -> Result<Vec<String>, Problem> {
    let is_branch = wish.open().is_some_and(|(name, _)| name.is_branch());
    let (Some(old), Move::Force | Move::Rewrite, true) = (wish.command.old, tip.moves, is_branch) else {
        return Ok(Vec::new());
    };
    let (repo, new) = (repo.clone(), tip.commit);
    Ok(tokio::task::spawn_blocking(move || replaced_paths(&repo, old, Some(new))).await??)
}

/// What it means when looking at objects comes to a bound, or to something that was not sent.
fn bounded(error: GitError) -> Problem {
    match error {
        GitError::Missing(id) => Problem::Unprocessable(format!(
            "the push does not have all that it needs: the object {id} is missing. Look for what is wrong with your \
            repository (git fsck), and push again"
        )),
        GitError::Kind(id, what) => Problem::Unprocessable(format!(
            "the object {id} is used as a {what}, and is something else: look for what is wrong with your repository \
            (git fsck)"
        )),
        GitError::Damaged { oid, what } => Problem::Unprocessable(format!(
            "the object {oid} is not as git makes them: {what}. Look for what is wrong with your repository (git fsck)"
        )),
        GitError::TooManyChanges => Problem::Unprocessable(TOO_MUCH.into()),
        GitError::TooSlow => Problem::Unprocessable(TOO_LONG.into()),
        other => other.into(),
    }
}

/// One line for the report.
fn summary(first: &Fault, count: usize) -> String {
    let first = first.to_string().replace('\n', " ");
    if count > 1 { format!("{first} (and {} more)", count - 1) } else { first }
}
