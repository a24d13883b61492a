//! Listing trees, and comparing them.

use std::collections::BTreeMap;

use bastide_core::Oid;

use crate::edit::Change;
use crate::object::Entry;
use crate::{GitError, Repo};

/// Folders within folders that are followed; deeper ones are an attack.
const MAX_DEPTH: usize = 256;

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
        let mut lister = Lister { repo: self, recursive, after, limit, found: Vec::new() };
        lister.folder(tree, prefix, 0)?;
        let mut found = lister.found;
        // Trees sort "a.b" before "a/x" but after "a": full paths are compared as bytes instead.
        found.sort_by(|one, two| one.path.as_bytes().cmp(two.path.as_bytes()));
        found.truncate(limit);
        Ok(found)
    }
}

struct Lister<'a> {
    repo: &'a Repo,
    recursive: bool,
    after: Option<&'a str>,
    limit: usize,
    found: Vec<Walked>,
}

impl Lister<'_> {
    fn folder(&mut self, tree: Oid, prefix: &str, depth: usize) -> Result<(), GitError> {
        if depth > MAX_DEPTH {
            return Err(GitError::Damaged { oid: tree, what: "folders nested too deep" });
        }
        for entry in &self.repo.tree(tree)?.entries {
            let path =
                if prefix.is_empty() { entry.name.clone() } else { format!("{prefix}/{}", entry.name) };
            // Git's own order can be ahead of ours by the entries of one folder only, so a full
            // page plus one whole folder is always enough.
            if self.found.len() > self.limit && self.is_past(&path) {
                return Ok(());
            }
            let wanted = self.after.is_none_or(|after| path.as_bytes() > after.as_bytes());
            if wanted {
                self.found.push(Walked { path: path.clone(), entry: entry.clone() });
            }
            if self.recursive && entry.is_tree() && self.may_hold(&path) {
                self.folder(entry.oid, &path, depth + 1)?;
            }
        }
        Ok(())
    }

    /// Can there be something after the cursor below this folder?
    fn may_hold(&self, folder: &str) -> bool {
        self.after.is_none_or(|after| {
            folder.as_bytes() >= after.as_bytes() || after.starts_with(folder) || {
                // A sibling like "a.b" sorts between "a" and "a/": compare the folder's contents.
                format!("{folder}/\u{10ffff}").as_bytes() > after.as_bytes()
            }
        })
    }

    /// True when this path and all that follow in git's order sort after the page's last entry.
    fn is_past(&self, path: &str) -> bool {
        let mut paths: Vec<&[u8]> = self.found.iter().map(|walked| walked.path.as_bytes()).collect();
        paths.sort_unstable();
        let last = paths.get(self.limit.saturating_sub(1)).copied().unwrap_or_default();
        let stem = path.split('/').next().unwrap_or(path);
        stem.as_bytes() > last && !last.starts_with(stem.as_bytes())
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
