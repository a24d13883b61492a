//! Changing a tree: a list of edits becomes new tree objects, and a list of what changed.

use std::collections::{BTreeMap, HashSet};

use bastide_core::limits::MAX_COMMIT_FOLDERS;
use bastide_core::{EntryPath, Oid};

use crate::names::clash;
use crate::object::{Entry, Mode, Tree};
use crate::{GitError, PackWriter, Repo};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    Put {
        oid: Oid,
        mode: Mode,
    },
    /// Removes a file, or a folder with all that is in it.
    Remove,
}

#[derive(Debug, Clone)]
pub struct Edit {
    pub path: EntryPath,
    pub op: Op,
}

/// A path that is not what it was: files, and the folders above them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub path: String,
    pub old: Option<Oid>,
    pub new: Option<Oid>,
    pub is_tree: bool,
}

#[derive(Debug)]
pub struct Edited {
    pub tree: Oid,
    pub changes: Vec<Change>,
}

/// Edits as a tree of their own: each folder is visited once, however many files change in it.
#[derive(Default)]
struct Plan {
    remove: bool,
    put: Option<(Oid, Mode)>,
    below: BTreeMap<String, Plan>,
}

impl Plan {
    fn add(&mut self, edit: &Edit) {
        let mut plan = self;
        for segment in edit.path.segments() {
            plan = plan.below.entry(segment.to_owned()).or_default();
        }
        match edit.op {
            // A later removal takes back what was put before, here and below.
            Op::Remove => *plan = Self { remove: true, ..Self::default() },
            Op::Put { oid, mode } => plan.put = Some((oid, mode)),
        }
    }
}

/// Applies edits, in order, to the tree `base`. New trees go into `pack`.
pub fn edit_tree(
    repo: &Repo,
    base: Option<Oid>,
    edits: &[Edit],
    pack: &mut PackWriter,
) -> Result<Edited, GitError> {
    refuse_many_folders(edits)?;
    let mut plan = Plan::default();
    edits.iter().for_each(|edit| plan.add(edit));
    let mut editor = Editor { repo, pack, changes: Vec::new() };
    let tree = editor.folder(base, &plan, "")?;
    let tree = match tree {
        Some(tree) => tree,
        None => editor.pack.tree(Tree::default())?,
    };
    Ok(Edited { tree, changes: editor.changes })
}

/// Each folder above a change becomes a new tree and a row: their number is bounded before any of
/// them is made.
fn refuse_many_folders(edits: &[Edit]) -> Result<(), GitError> {
    let mut folders: HashSet<&str> = HashSet::new();
    for edit in edits {
        let mut path = edit.path.as_str();
        // Above a folder that is known, all are.
        while let Some((folder, _)) = path.rsplit_once('/')
            && folders.insert(folder)
        {
            path = folder;
        }
        if folders.len() > MAX_COMMIT_FOLDERS {
            return Err(GitError::TooManyFolders);
        }
    }
    Ok(())
}

struct Editor<'a> {
    repo: &'a Repo,
    pack: &'a mut PackWriter,
    changes: Vec<Change>,
}

impl Editor<'_> {
    fn load(&self, oid: Oid) -> Result<Tree, GitError> {
        match self.pack.written_tree(oid) {
            Some(tree) => Ok(tree.clone()),
            None => Ok(self.repo.tree(oid)?.as_ref().clone()),
        }
    }

    /// The new tree of a folder; `None` when nothing is left in it.
    fn folder(&mut self, base: Option<Oid>, plan: &Plan, prefix: &str) -> Result<Option<Oid>, GitError> {
        let old = base.map(|oid| self.load(oid)).transpose()?.unwrap_or_default();
        let before = old.entries.len();
        let mut entries: BTreeMap<String, Entry> =
            old.entries.into_iter().map(|entry| (entry.name.clone(), entry)).collect();
        // Two entries of one name cannot be in a tree of ours; pushed ones are judged at the door.
        debug_assert_eq!(before, entries.len());
        let mut added = Vec::new();
        for (name, below) in &plan.below {
            let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}/{name}") };
            let old = entries.remove(name);
            let new = self.entry(name, old.as_ref(), below, &path)?;
            if let Some(new) = new {
                if old.is_none() {
                    added.push(name.as_str());
                }
                entries.insert(name.clone(), new);
            }
        }
        refuse_case_clash(&entries, &added, prefix)?;
        if entries.is_empty() {
            return Ok(None);
        }
        let mut entries: Vec<Entry> = entries.into_values().collect();
        entries.sort_by(|a, b| git_order(a).cmp(git_order(b)));
        Ok(Some(self.pack.tree(Tree { entries })?))
    }

    /// What stands at one name afterwards.
    fn entry(
        &mut self,
        name: &str,
        old: Option<&Entry>,
        plan: &Plan,
        path: &str,
    ) -> Result<Option<Entry>, GitError> {
        if plan.remove && old.is_none() {
            return Err(GitError::NotFound(path.to_owned()));
        }
        let base = old.filter(|_| !plan.remove);
        let new = match (plan.put, plan.below.is_empty()) {
            (Some(_), false) => return Err(GitError::PathConflict(path.to_owned())),
            (Some((oid, mode)), true) => {
                if base.is_some_and(Entry::is_tree) {
                    return Err(GitError::PathConflict(path.to_owned()));
                }
                Some(Entry { name: name.to_owned(), mode, oid })
            }
            (None, true) => base.cloned(),
            (None, false) => {
                if base.is_some_and(|entry| !entry.is_tree()) {
                    return Err(GitError::PathConflict(path.to_owned()));
                }
                let tree = self.folder(base.map(|entry| entry.oid), plan, path)?;
                tree.map(|oid| Entry { name: name.to_owned(), mode: Mode::Tree, oid })
            }
        };
        self.note(path, old, new.as_ref());
        Ok(new)
    }

    fn note(&mut self, path: &str, old: Option<&Entry>, new: Option<&Entry>) {
        if old != new {
            self.changes.push(Change {
                path: path.to_owned(),
                old: old.map(|entry| entry.oid),
                new: new.map(|entry| entry.oid),
                is_tree: new.or(old).is_some_and(Entry::is_tree),
            });
        }
    }
}

/// Folders sort as if their names ended in '/'.
fn git_order(entry: &Entry) -> impl Iterator<Item = u8> + '_ {
    entry.name.bytes().chain(entry.is_tree().then_some(b'/'))
}

/// A new name must not differ from another only in case or composition. What clashes already stays as it is.
fn refuse_case_clash(
    entries: &BTreeMap<String, Entry>,
    added: &[&str],
    prefix: &str,
) -> Result<(), GitError> {
    let Some((old, new)) = clash(entries.keys().map(String::as_str), added) else { return Ok(()) };
    let full = |name: &str| if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
    Err(GitError::CaseClash { old: full(old), new: full(new) })
}
