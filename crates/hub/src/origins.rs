//! The commits of a path, and the last commit of each of many paths: from the rows of what each
//! commit changed, among those that a commit comes from.

use std::collections::{HashMap, HashSet};

use bastide_core::{EntryPath, Oid};
use bastide_git::{GitError, Repo};
use bastide_store::Reader;
use bastide_store::history::{self, PathChange, Place};

use crate::access::{Access, Includes, See};
use crate::ancestry::Ancestry;
use crate::history::CommitItem;
use crate::trees::{LastCommit, TreeItem};
use crate::{Hub, Problem};

/// Changes of a path that are read at a time.
const BATCH: u64 = 500;
/// Before all of them.
const START: Place = (i64::MAX, Oid::from_bytes([0xff; 20]));

/// A merge, and a path that it has changed.
type Merge = (Oid, String, Option<Oid>);

impl Hub {
    /// A page of the commits before `start` that changed a file or something in a folder, the latest
    /// first, and whether there are more. Merges that have only brought what a parent had are none.
    pub async fn list_path_commits<L: Includes<See>>(
        &self,
        access: &Access<L>,
        start: Oid,
        path: &EntryPath,
        (skip, limit): (usize, usize),
    ) -> Result<(Vec<CommitItem>, bool), Problem> {
        let mut read = self.db.read().await?;
        let mut ancestry = Ancestry::of(&mut read, access, start).await?;
        let wanted = skip.saturating_add(limit).saturating_add(1);
        let (mut place, mut passed, mut found) = (START, 0, Vec::new());
        while passed < wanted {
            let batch = history::changes_of_path(&mut read, access, path.as_str(), place, BATCH).await?;
            let Some(last) = batch.last() else { break };
            place = (last.generation, last.commit);
            let merges = batch.iter().filter(|change| change.is_merge);
            let merges = merges.map(|change| (change.commit, path.as_str().to_owned(), change.object));
            let mere = self.mere_merges(access, merges.collect()).await?;
            for change in batch {
                let counts = !mere.contains(&(change.commit, path.as_str().to_owned()))
                    && ancestry.has(&mut read, access, change.commit, change.generation).await?;
                if counts {
                    passed += 1;
                    found.extend((passed > skip && passed < wanted).then_some(change.commit));
                }
            }
        }
        drop(read);
        if passed == 0 {
            return Err(Problem::EntryNotFound { message: "Entry not found".into(), commit: Some(start) });
        }
        let items = self.objects_blocking(access, move |repo| {
            found
                .iter()
                .map(|id| Ok(CommitItem::new(*id, repo.commit(*id)?.as_ref())))
                .collect::<Result<Vec<_>, _>>()
        });
        let mut items = items.await?;
        self.name_authors(access, &mut items).await?;
        Ok((items, passed >= wanted))
    }

    /// Adds to each item the latest commit, `commit` or before it, that brought what stands there.
    pub(crate) async fn add_last_commits<L: Includes<See>>(
        &self,
        read: &mut Reader,
        access: &Access<L>,
        commit: Oid,
        items: &mut [TreeItem],
    ) -> Result<(), Problem> {
        let mut ancestry = Ancestry::of(read, access, commit).await?;
        let wanted: Vec<(&str, Oid)> = items.iter().map(|item| (item.path.as_str(), item.oid)).collect();
        let mut candidates: HashMap<String, Vec<PathChange>> = HashMap::new();
        for bringer in history::bringers(read, access, ancestry.generation, &wanted).await? {
            candidates.entry(bringer.path).or_default().push(bringer.change);
        }
        let merges =
            candidates.iter().filter(|(_, changes)| changes.len() > 1).flat_map(|(path, changes)| {
                let merges = changes.iter().filter(|change| change.is_merge);
                merges.map(|change| (change.commit, path.clone(), change.object))
            });
        let mere = self.mere_merges(access, merges.collect()).await?;
        let mut last: HashMap<&str, Oid> = HashMap::new();
        for (path, object) in &wanted {
            let Some(changes) = candidates.remove(*path) else { continue };
            let found = match changes.as_slice() {
                [only] => Some(only.commit),
                _ => self.latest(read, access, &mut ancestry, ((*path, *object), changes), &mere).await?,
            };
            last.extend(found.map(|found| (*path, found)));
        }
        let ids: HashSet<Oid> = last.values().copied().collect();
        let ids: Vec<Oid> = ids.into_iter().collect();
        let facts = history::headlines(read, access, &ids).await?;
        let facts: HashMap<Oid, LastCommit> = facts
            .into_iter()
            .map(|fact| (fact.commit, LastCommit { id: fact.commit, title: fact.title, time: fact.time }))
            .collect();
        let found: Vec<Option<LastCommit>> =
            wanted.iter().map(|(path, _)| facts.get(last.get(path)?).cloned()).collect();
        for (item, found) in items.iter_mut().zip(found) {
            item.last_commit = found;
        }
        Ok(())
    }

    /// The first of several candidates that is an ancestor; after the first few, all that there are.
    async fn latest<L: Includes<See>>(
        &self,
        read: &mut Reader,
        access: &Access<L>,
        ancestry: &mut Ancestry,
        (wanted, mut changes): ((&str, Oid), Vec<PathChange>),
        mere: &HashSet<(Oid, String)>,
    ) -> Result<Option<Oid>, Problem> {
        let mut first_ancestor = None;
        loop {
            for change in &changes {
                if !ancestry.has(read, access, change.commit, change.generation).await? {
                    continue;
                }
                if !mere.contains(&(change.commit, wanted.0.to_owned())) {
                    return Ok(Some(change.commit));
                }
                first_ancestor = first_ancestor.or(Some(change.commit));
            }
            let Some(last) = changes.last() else { return Ok(first_ancestor) };
            let place = (last.generation, last.commit);
            if changes.len() < history::MOST_BRINGERS {
                return Ok(first_ancestor);
            }
            changes = history::bringers_of(read, access, wanted, place, BATCH).await?;
        }
    }

    /// Merges whose content at a path is that of one of their parents.
    async fn mere_merges<L: Includes<See>>(
        &self,
        access: &Access<L>,
        merges: Vec<Merge>,
    ) -> Result<HashSet<(Oid, String)>, Problem> {
        if merges.is_empty() {
            return Ok(HashSet::new());
        }
        self.objects_blocking(access, move |repo| {
            let mut mere = HashSet::new();
            for (commit, path, object) in &merges {
                if is_mere(repo, *commit, path, *object)? {
                    mere.insert((*commit, path.clone()));
                }
            }
            Ok(mere)
        })
        .await
    }
}

fn is_mere(repo: &Repo, commit: Oid, path: &str, object: Option<Oid>) -> Result<bool, GitError> {
    let Ok(path) = path.parse::<EntryPath>() else { return Ok(false) };
    for parent in &repo.commit(commit)?.parents {
        let there = repo.find(repo.commit(*parent)?.tree, &path)?.map(|entry| entry.oid);
        if there == object {
            return Ok(true);
        }
    }
    Ok(false)
}
