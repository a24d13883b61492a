//! What new commits bring: the paths that each has changed against all of its parents, read from bytes that anybody
//! may have written. Nothing is read leniently here: what is not to the letter as git writes it is a flaw.

mod delta;
mod inspector;
mod memory;
mod packed;
mod raw_tree;

use bastide_core::Oid;
use bastide_core::limits::MAX_PATH_SEGMENTS;

use crate::GitError;
use crate::edit::Change;
use crate::names::clash;
use crate::object::Mode;
pub use inspector::Inspector;
use raw_tree::{Entry, RawTree, Step, Steps};

/// A new file in a commit, for the rules to judge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewFile {
    pub path: String,
    pub mode: Mode,
    pub oid: Oid,
}

/// Something in a tree that no rule has to be asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flaw {
    /// A name that is not text; shown as well as it can be.
    NotText {
        path: String,
    },
    Mode {
        path: String,
        mode: String,
    },
    Clash {
        old: String,
        new: String,
    },
    TooDeep {
        path: String,
    },
    /// A tree that git would not have written.
    Malformed {
        path: String,
    },
}

/// What one commit brings.
#[derive(Debug, Default)]
pub struct Novelty {
    /// Paths, as rows have them.
    pub changes: Vec<Change>,
    pub files: Vec<NewFile>,
    pub flaws: Vec<Flaw>,
    /// Every tree and file that differs from what all parents have in its place.
    pub objects: Vec<Oid>,
}

/// Finds out what commits bring, one after the other.
pub struct Novelties {
    inspector: Inspector,
    /// Changes that may still be found before it is too much.
    room: usize,
}

impl Novelties {
    /// `room`: how many changes there may be over all commits.
    pub fn new(inspector: Inspector, room: usize) -> Self {
        Self { inspector, room }
    }

    /// What a tree brings that none of its parents' trees has.
    pub fn of(&mut self, parents: &[Oid], tree: Oid) -> Result<Novelty, GitError> {
        let mut found = Novelty::default();
        let parents: Vec<Option<Oid>> = parents.iter().copied().map(Some).collect();
        if !parents.contains(&Some(tree)) {
            found.objects.push(tree);
            self.folder(&parents, tree, "", &mut found)?;
        }
        merge_changes(&mut found.changes);
        Ok(found)
    }

    fn folder(
        &mut self,
        parents: &[Option<Oid>],
        tree: Oid,
        prefix: &str,
        found: &mut Novelty,
    ) -> Result<(), GitError> {
        if prefix.split('/').count() > MAX_PATH_SEGMENTS {
            found.flaws.push(Flaw::TooDeep { path: prefix.to_owned() });
            return Ok(());
        }
        let tree = self.inspector.tree(tree)?;
        if tree.malformed {
            found.flaws.push(Flaw::Malformed { path: prefix.to_owned() });
            return Ok(());
        }
        let mut old = Vec::with_capacity(parents.len());
        for parent in parents {
            old.push(parent.map(|oid| self.inspector.tree(oid)).transpose()?.unwrap_or_default());
        }
        let mut added = Vec::new();
        for step in Steps::new(&tree, &old) {
            // What a merge takes from its other parents comes together with the first one's names here.
            if let (Some(new), None) = (step.new, step.old.first().copied().flatten()) {
                added.push(new);
            }
            if step.old.contains(&step.new) {
                continue;
            }
            self.step(&step, prefix, found)?;
        }
        note_clash(&tree, &added, prefix, found);
        Ok(())
    }

    fn step(&mut self, step: &Step<'_>, prefix: &str, found: &mut Novelty) -> Result<(), GitError> {
        let Some(one) = step.new.or_else(|| step.old.iter().flatten().next().copied()) else { return Ok(()) };
        let shown = String::from_utf8_lossy(one.name);
        let path = if prefix.is_empty() { shown.into_owned() } else { format!("{prefix}/{shown}") };
        // Long paths count for more: all of them are in memory at the end.
        self.room = self.room.checked_sub(1 + path.len() / 128).ok_or(GitError::TooManyChanges)?;
        let is_tree = one.is_tree();
        let old = step.old.first().copied().flatten().map(|entry| entry.oid);
        found.changes.push(Change { path: path.clone(), old, new: step.new.map(|new| new.oid), is_tree });
        // What was in a folder that has gone went with it.
        let Some(new) = step.new else { return Ok(()) };
        if std::str::from_utf8(new.name).is_err() {
            found.flaws.push(Flaw::NotText { path });
            return Ok(());
        }
        let Some(mode) = Mode::exact(new.mode) else {
            let mode = String::from_utf8_lossy(new.mode).into_owned();
            found.flaws.push(Flaw::Mode { path, mode });
            return Ok(());
        };
        if mode != Mode::Submodule {
            found.objects.push(new.oid);
        }
        if mode != Mode::Tree {
            found.files.push(NewFile { path, mode, oid: new.oid });
            return Ok(());
        }
        let below: Vec<Option<Oid>> = step.old.iter().map(|old| old.map(|old| old.oid)).collect();
        self.folder(&below, new.oid, &path, found)
    }
}

/// A path that was a folder and is a file, or the other way round, is one change.
fn merge_changes(changes: &mut Vec<Change>) {
    changes.sort_by(|one, two| one.path.cmp(&two.path));
    changes.dedup_by(|later, kept| {
        let same = later.path == kept.path;
        if same && later.new.is_some() {
            std::mem::swap(later, kept);
        }
        same
    });
}

fn note_clash(tree: &RawTree, added: &[Entry<'_>], prefix: &str, found: &mut Novelty) {
    let added: Vec<&str> = added.iter().filter_map(|entry| std::str::from_utf8(entry.name).ok()).collect();
    if added.is_empty() {
        return;
    }
    let names = tree.entries().filter_map(|entry| std::str::from_utf8(entry.name).ok());
    if let Some((old, new)) = clash(names, &added) {
        let full = |name: &str| if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
        found.flaws.push(Flaw::Clash { old: full(old), new: full(new) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_path_is_one_change() {
        let change = |path: &str, new: u8, is_tree| {
            let new = (new > 0).then(|| Oid::from_bytes([new; 20]));
            Change { path: path.into(), old: None, new, is_tree }
        };
        let mut changes = vec![change("a", 0, false), change("b", 1, false), change("a", 2, true)];
        merge_changes(&mut changes);
        assert_eq!(changes, [change("a", 2, true), change("b", 1, false)]);
        let mut changes = vec![change("a", 2, false), change("a", 0, true)];
        merge_changes(&mut changes);
        assert_eq!(changes, [change("a", 2, false)]);
    }
}
