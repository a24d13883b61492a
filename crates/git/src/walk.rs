//! Listing trees, and comparing them.

use std::collections::{BTreeMap, HashSet};

use bastide_core::Oid;
use bastide_core::limits::MAX_PATH_SEGMENTS;

use crate::edit::Change;
use crate::object::Entry;
use crate::{GitError, Repo};

/// Folders within folders that are followed: as many as a path can name.
const MAX_DEPTH: usize = MAX_PATH_SEGMENTS;

/// An entry and its full path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walked {
    pub path: String,
    pub entry: Entry,
}

impl Repo {
    /// What is below `tree`, sorted by the bytes of the full path, folders included: up to `limit`
    /// entries whose path comes after `after`. `prefix` is the path of `tree` itself.
    pub fn list(
        &self,
        tree: Oid,
        prefix: &str,
        recursive: bool,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Walked>, GitError> {
        let mut lister =
            Lister { repo: self, recursive, after: after.unwrap_or_default(), limit, found: Vec::new() };
        lister.folder(tree, prefix, 0)?;
        Ok(lister.found)
    }
}

impl Repo {
    /// The commits that `head` has and none of `others` has. `None` when they are more than `most`, or when more
    /// than `history` commits would have to be looked at to say.
    pub fn only_from(
        &self,
        head: Oid,
        others: &[Oid],
        (most, history): (usize, usize),
    ) -> Result<Option<Vec<Oid>>, GitError> {
        let mut shared: HashSet<Oid> = HashSet::new();
        let mut open: Vec<Oid> = others.to_vec();
        while let Some(oid) = open.pop() {
            if shared.insert(oid) {
                if shared.len() > history {
                    return Ok(None);
                }
                open.extend(&self.commit(oid)?.parents);
            }
        }
        let (mut own, mut open) = (Vec::new(), vec![head]);
        while let Some(oid) = open.pop() {
            if shared.insert(oid) {
                own.push(oid);
                if own.len() > most {
                    return Ok(None);
                }
                open.extend(&self.commit(oid)?.parents);
            }
        }
        Ok(Some(own))
    }
}

struct Lister<'a> {
    repo: &'a Repo,
    recursive: bool,
    /// Paths up to this one are left out; no path is empty.
    after: &'a str,
    limit: usize,
    found: Vec<Walked>,
}

/// What a folder has in the order of full paths: "a", then "a.b", then all of "a/".
enum Step<'a> {
    Show(&'a Entry),
    Enter(&'a Entry),
}

impl Step<'_> {
    fn key(&self) -> impl Iterator<Item = u8> {
        let (entry, slash) = match self {
            Step::Show(entry) => (entry, None),
            Step::Enter(entry) => (entry, Some(b'/')),
        };
        entry.name.bytes().chain(slash)
    }
}

impl Lister<'_> {
    fn folder(&mut self, tree: Oid, prefix: &str, depth: usize) -> Result<(), GitError> {
        if depth > MAX_DEPTH {
            return Err(GitError::Damaged { oid: tree, what: "folders nested too deep" });
        }
        let tree = self.repo.tree(tree)?;
        let mut steps: Vec<Step<'_>> = tree.entries.iter().map(Step::Show).collect();
        if self.recursive {
            steps.extend(tree.entries.iter().filter(|entry| entry.is_tree()).map(Step::Enter));
        }
        steps.sort_by(|one, two| one.key().cmp(two.key()));
        let path = |name: &str| if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
        for step in steps {
            if self.found.len() >= self.limit {
                return Ok(());
            }
            match step {
                Step::Show(entry) => self.show(path(&entry.name), entry),
                Step::Enter(entry) => self.enter(&path(&entry.name), entry.oid, depth)?,
            }
        }
        Ok(())
    }

    fn show(&mut self, path: String, entry: &Entry) {
        if path.as_str() > self.after {
            self.found.push(Walked { path, entry: entry.clone() });
        }
    }

    /// Lists a folder, unless all of it comes before the page.
    fn enter(&mut self, path: &str, tree: Oid, depth: usize) -> Result<(), GitError> {
        let below = format!("{path}/");
        if below.as_str() > self.after || self.after.starts_with(&below) {
            self.folder(tree, path, depth + 1)?;
        }
        Ok(())
    }
}

/// Files that differ between two trees, by path. Equal folders are not entered.
pub fn diff_trees(repo: &Repo, old: Option<Oid>, new: Option<Oid>) -> Result<Vec<Change>, GitError> {
    let mut changes = Vec::new();
    diff_folder(repo, old, new, "", &mut changes)?;
    changes.sort_by(|one, two| one.path.cmp(&two.path));
    Ok(changes)
}

fn diff_folder(
    repo: &Repo,
    old: Option<Oid>,
    new: Option<Oid>,
    prefix: &str,
    changes: &mut Vec<Change>,
) -> Result<(), GitError> {
    if old == new {
        return Ok(());
    }
    if let Some(oid) = new.or(old).filter(|_| prefix.split('/').count() > MAX_DEPTH) {
        return Err(GitError::Damaged { oid, what: "folders nested too deep" });
    }
    let mut names: BTreeMap<String, (Option<Entry>, Option<Entry>)> = BTreeMap::new();
    if let Some(old) = old {
        for entry in &repo.tree(old)?.entries {
            names.entry(entry.name.clone()).or_default().0 = Some(entry.clone());
        }
    }
    if let Some(new) = new {
        for entry in &repo.tree(new)?.entries {
            names.entry(entry.name.clone()).or_default().1 = Some(entry.clone());
        }
    }
    for (name, (old, new)) in names {
        if old == new {
            continue;
        }
        let path = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        let tree =
            |entry: &Option<Entry>| entry.as_ref().filter(|entry| entry.is_tree()).map(|entry| entry.oid);
        let file =
            |entry: &Option<Entry>| entry.as_ref().filter(|entry| !entry.is_tree()).map(|entry| entry.oid);
        let (old_file, new_file) = (file(&old), file(&new));
        if old_file.is_some() || new_file.is_some() {
            changes.push(Change { path: path.clone(), old: old_file, new: new_file, is_tree: false });
        }
        let (old_tree, new_tree) = (tree(&old), tree(&new));
        if old_tree.is_some() || new_tree.is_some() {
            let change = Change { path: path.clone(), old: old_tree, new: new_tree, is_tree: true };
            changes.push(change);
            diff_folder(repo, old_tree, new_tree, &path, changes)?;
        }
    }
    Ok(())
}
