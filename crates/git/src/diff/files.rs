//! Which files differ between two trees. Equal folders are not entered.

use std::collections::BTreeMap;

use bastide_core::Oid;
use bastide_core::limits::MAX_PATH_SEGMENTS;

use super::MAX_CHANGED_FILES;
use super::renames::pair_renames;
use crate::object::{Entry, Mode};
use crate::{GitError, Repo};

/// A file as one of the two trees has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSide {
    pub path: String,
    pub oid: Oid,
    pub mode: Mode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileStatus {
    Added,
    Deleted,
    /// Other content, or another mode.
    Modified,
    Renamed,
}

impl FileStatus {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Deleted => "deleted",
            Self::Modified => "modified",
            Self::Renamed => "renamed",
        }
    }

    /// The letter that git has for it.
    pub const fn letter(self) -> char {
        match self {
            Self::Added => 'A',
            Self::Deleted => 'D',
            Self::Modified => 'M',
            Self::Renamed => 'R',
        }
    }
}

/// A file that is not what it was. What becomes another kind of thing (a link, say) is a deletion
/// and an addition, as in git's patches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedFile {
    pub old: Option<FileSide>,
    pub new: Option<FileSide>,
    /// In hundredths, of a file under another name.
    pub similarity: u8,
}

impl ChangedFile {
    pub fn status(&self) -> FileStatus {
        match (&self.old, &self.new) {
            (None, _) => FileStatus::Added,
            (_, None) => FileStatus::Deleted,
            (Some(old), Some(new)) if old.path != new.path => FileStatus::Renamed,
            (Some(_), Some(_)) => FileStatus::Modified,
        }
    }

    /// Where it is now, or was before it was deleted.
    pub fn path(&self) -> &str {
        self.new.as_ref().or(self.old.as_ref()).map_or("", |side| side.path.as_str())
    }

    fn one(old: Option<FileSide>, new: Option<FileSide>) -> Self {
        Self { old, new, similarity: 0 }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChangedFiles {
    /// In the order of their paths.
    pub files: Vec<ChangedFile>,
    /// False when there are more than were looked for.
    pub complete: bool,
}

/// The files that differ between two trees, with renames. `None` is the empty tree.
pub fn changed_files(repo: &Repo, old: Option<Oid>, new: Option<Oid>) -> Result<ChangedFiles, GitError> {
    let mut changed = changed_paths(repo, old, new, MAX_CHANGED_FILES)?;
    // Of a cut list nobody knows what else would pair.
    if changed.complete {
        pair_renames(repo, &mut changed.files)?;
        sort(&mut changed.files);
    }
    Ok(changed)
}

/// The same, path by path: without renames. Up to `limit` files and folders are looked at.
pub fn changed_paths(
    repo: &Repo,
    old: Option<Oid>,
    new: Option<Oid>,
    limit: usize,
) -> Result<ChangedFiles, GitError> {
    let mut finder = Finder { repo, files: Vec::new(), left: limit };
    let complete = finder.folder(old, new, "", 0)?;
    let mut files = finder.files;
    sort(&mut files);
    Ok(ChangedFiles { files, complete })
}

/// By path, a deletion before an addition in its place.
fn sort(files: &mut [ChangedFile]) {
    files.sort_by(|one, two| one.path().cmp(two.path()).then(one.new.is_some().cmp(&two.new.is_some())));
}

struct Finder<'a> {
    repo: &'a Repo,
    files: Vec<ChangedFile>,
    /// Files and folders that may still be looked at: trees can be made that unfold without end.
    left: usize,
}

impl Finder<'_> {
    /// False when the limit was reached.
    fn folder(
        &mut self,
        old: Option<Oid>,
        new: Option<Oid>,
        prefix: &str,
        depth: usize,
    ) -> Result<bool, GitError> {
        if old == new {
            return Ok(true);
        }
        if let Some(oid) = new.or(old).filter(|_| depth > MAX_PATH_SEGMENTS) {
            return Err(GitError::Damaged { oid, what: "folders nested too deep" });
        }
        let old = old.map(|oid| self.repo.tree(oid)).transpose()?;
        let new = new.map(|oid| self.repo.tree(oid)).transpose()?;
        let mut names: BTreeMap<&str, (Option<&Entry>, Option<&Entry>)> = BTreeMap::new();
        for entry in old.iter().flat_map(|tree| &tree.entries) {
            names.entry(&entry.name).or_default().0 = Some(entry);
        }
        for entry in new.iter().flat_map(|tree| &tree.entries) {
            names.entry(&entry.name).or_default().1 = Some(entry);
        }
        for (name, (old, new)) in names.into_iter().filter(|(_, (old, new))| old != new) {
            let path = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
            if !self.entry(old, new, &path, depth)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn entry(
        &mut self,
        old: Option<&Entry>,
        new: Option<&Entry>,
        path: &str,
        depth: usize,
    ) -> Result<bool, GitError> {
        if self.left == 0 {
            return Ok(false);
        }
        self.left -= 1;
        let side = |entry: Option<&Entry>| {
            let entry = entry.filter(|entry| !entry.is_tree())?;
            Some(FileSide { path: path.to_owned(), oid: entry.oid, mode: entry.mode })
        };
        match (side(old), side(new)) {
            (None, None) => {}
            (Some(old), Some(new)) if kind(old.mode) != kind(new.mode) => {
                self.files.push(ChangedFile::one(Some(old), None));
                self.files.push(ChangedFile::one(None, Some(new)));
            }
            (old, new) => self.files.push(ChangedFile::one(old, new)),
        }
        let tree = |entry: Option<&Entry>| entry.filter(|entry| entry.is_tree()).map(|entry| entry.oid);
        self.folder(tree(old), tree(new), path, depth + 1)
    }
}

/// Files and programs are one kind of thing, all else is something of its own.
const fn kind(mode: Mode) -> Mode {
    match mode {
        Mode::Executable => Mode::File,
        other => other,
    }
}
