//! The new part of a history: from what refs are to name back to what the repository knows.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use bastide_core::{Oid, RefName};
use bastide_git::{Commit, GitError, Inspector, Received, Repo};
use bastide_store::git;

use super::{MAX_PUSH_COMMITS, MAX_PUSH_TEXT, MAX_TIME, NewCommit, Tip, bounded};
use crate::push::{Pusher, Wish};
use crate::ref_rules::Move;
use crate::{Hub, Problem, rules};

/// Tags of tags.
const MAX_TAGS: usize = 4;

/// The new part of a history.
#[derive(Default)]
pub(super) struct History {
    pub commits: HashMap<Oid, Commit>,
    /// The repository's own, with their place in history.
    pub known: HashMap<Oid, i64>,
}

impl History {
    /// The place in history of new commits, given parents first.
    pub fn generations(&self, order: &[Oid]) -> HashMap<Oid, i64> {
        let mut all = self.known.clone();
        for (id, commit) in order.iter().filter_map(|id| Some((id, self.commits.get(id)?))) {
            let above = commit.parents.iter().filter_map(|parent| all.get(parent)).max();
            let generation = above.map_or(0, |above| above + 1);
            all.insert(*id, generation);
        }
        all
    }
}

impl Hub {
    /// The commit that each wish comes to. Branches name commits, tags may be annotated.
    pub(super) async fn find_tips(
        &self,
        repo: &Repo,
        wishes: &mut [Wish],
    ) -> Result<Vec<Option<Tip>>, Problem> {
        let asked: Vec<Option<(RefName, Oid)>> = wishes
            .iter()
            .map(|wish| wish.open().and_then(|(name, new)| Some((name.clone(), new?))))
            .collect();
        let repo = repo.clone();
        let found = tokio::task::spawn_blocking(move || {
            let mut inspector = Inspector::new(&repo);
            let mut tip = |asked: Option<(RefName, Oid)>| {
                asked.map(|(name, new)| tip(&mut inspector, &name, new)).transpose()
            };
            asked.into_iter().map(&mut tip).collect::<Result<Vec<_>, GitError>>()
        });
        let found = found.await?.map_err(bounded)?;
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
    pub(super) async fn history(
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
            let walk = move || walk(&work, roots, came.as_ref(), &mut commits).map(|left| (commits, left));
            (history.commits, open) = tokio::task::spawn_blocking(walk).await?.map_err(bounded)?;
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
}

/// Reads commits that came, from `roots` back; answers the others that these lead to.
fn walk(
    repo: &Repo,
    roots: Vec<Oid>,
    came: Option<&Arc<Received>>,
    commits: &mut HashMap<Oid, Commit>,
) -> Result<Vec<Oid>, GitError> {
    let began = Instant::now();
    let mut inspector = Inspector::new(repo).of(came)?.unless(move || began.elapsed() > MAX_TIME);
    let mut left = HashSet::new();
    let mut open = roots;
    let mut text: usize = commits.values().map(text_bytes).sum();
    while let Some(id) = open.pop() {
        if commits.contains_key(&id) || commits.len() > MAX_PUSH_COMMITS {
            continue;
        }
        let commit = inspector.commit(id)?;
        text += text_bytes(&commit);
        if text > MAX_PUSH_TEXT {
            return Err(GitError::TooManyChanges);
        }
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

/// What a commit takes in memory.
fn text_bytes(commit: &Commit) -> usize {
    let Commit { parents, author, message, .. } = commit;
    message.len() + author.name.len() + author.email.len() + parents.len() * size_of::<Oid>()
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
pub(super) fn topological(history: &History) -> Result<Vec<Oid>, GitError> {
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
pub(super) fn needed(
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
fn tip(inspector: &mut Inspector, name: &RefName, new: Oid) -> Result<Result<Tip, String>, GitError> {
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
