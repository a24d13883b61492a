//! What differs within changed files.

use bastide_core::Oid;
use bytes::Bytes;

use super::files::{ChangedFile, FileSide, FileStatus};
use super::lines::{TextDiff, cost, diff_lines, split};
use super::{MAX_DIFF_BYTES, MAX_DIFF_FILE_BYTES, MAX_DIFF_FILE_LINES, MAX_DIFF_FILES, MAX_DIFF_LINES};
use crate::object::{Mode, Pointer};
use crate::{GitError, Repo};

/// Bytes in which git looks for a NUL to tell text from other things.
const BINARY_PROBE: usize = 8000;

/// A file on one side, with the size of its own content: of a large file that is not the pointer's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Side {
    pub path: String,
    pub oid: Oid,
    pub mode: Mode,
    pub size: u64,
    pub pointer: Option<Pointer>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Only its name or its mode has changed.
    Same,
    Text(TextDiff),
    Binary,
    /// A large file, on one side at least: sizes and hashes say what there is to say.
    Large,
    /// A text that is longer than what is compared.
    TooLarge,
    /// Not compared, because the answer was full.
    Omitted,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileDiff {
    pub old: Option<Side>,
    pub new: Option<Side>,
    pub status: FileStatus,
    pub similarity: u8,
    pub content: Content,
}

impl FileDiff {
    pub fn path(&self) -> &str {
        self.new.as_ref().or(self.old.as_ref()).map_or("", |side| side.path.as_str())
    }

    /// Added and removed lines, of a text.
    pub fn counts(&self) -> Option<(u32, u32)> {
        match &self.content {
            Content::Text(text) => Some((text.additions, text.deletions)),
            Content::Same => Some((0, 0)),
            Content::Binary | Content::Large | Content::TooLarge | Content::Omitted => None,
        }
    }
}

/// What an answer may still take.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    pub files: usize,
    pub bytes: u64,
    pub lines: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { files: MAX_DIFF_FILES, bytes: MAX_DIFF_BYTES, lines: MAX_DIFF_LINES }
    }
}

/// Compares the contents of changed files, as far as the budget goes.
pub fn diff_contents(
    repo: &Repo,
    files: &[ChangedFile],
    budget: &mut Budget,
) -> Result<Vec<FileDiff>, GitError> {
    files.iter().map(|file| diff_file(repo, file, budget)).collect()
}

fn diff_file(repo: &Repo, file: &ChangedFile, budget: &mut Budget) -> Result<FileDiff, GitError> {
    let old = file.old.as_ref().map(|old| side(repo, old)).transpose()?;
    let new = file.new.as_ref().map(|new| side(repo, new)).transpose()?;
    let content = content(repo, old.as_ref(), new.as_ref(), budget)?;
    Ok(FileDiff { old, new, status: file.status(), similarity: file.similarity, content })
}

fn side(repo: &Repo, file: &FileSide) -> Result<Side, GitError> {
    let FileSide { path, oid, mode } = file.clone();
    let (size, pointer) = match mode {
        Mode::Submodule | Mode::Tree => (0, None),
        // A link is never a pointer, whatever it says.
        Mode::Symlink => (repo.blob_size(oid)?, None),
        Mode::File | Mode::Executable => {
            let pointer = repo.pointer(oid)?;
            (pointer.map_or_else(|| repo.blob_size(oid), |pointer| Ok(pointer.size))?, pointer)
        }
    };
    Ok(Side { path, oid, mode, size, pointer })
}

fn content(
    repo: &Repo,
    old: Option<&Side>,
    new: Option<&Side>,
    budget: &mut Budget,
) -> Result<Content, GitError> {
    let both = || old.into_iter().chain(new);
    if old.map(|side| side.oid) == new.map(|side| side.oid) {
        return Ok(Content::Same);
    }
    if both().any(|side| side.pointer.is_some()) {
        return Ok(Content::Large);
    }
    let bytes = both().map(|side| side.size).sum::<u64>();
    // What is too large is not read, but for its beginning nothing would tell whether it is text.
    if both().any(|side| side.size > MAX_DIFF_FILE_BYTES) {
        return Ok(Content::TooLarge);
    }
    if budget.files == 0 || budget.bytes < bytes {
        return Ok(Content::Omitted);
    }
    budget.files -= 1;
    budget.bytes -= bytes;
    let (old, new) = (data(repo, old)?, data(repo, new)?);
    if is_binary(&old) || is_binary(&new) {
        return Ok(Content::Binary);
    }
    let (old, new) = (split(&old), split(&new));
    if old.len().max(new.len()) > MAX_DIFF_FILE_LINES {
        return Ok(Content::TooLarge);
    }
    let Some(left) = budget.lines.checked_sub(cost(&old, &new)) else { return Ok(Content::Omitted) };
    budget.lines = left;
    Ok(Content::Text(diff_lines(&old, &new)))
}

fn data(repo: &Repo, side: Option<&Side>) -> Result<Bytes, GitError> {
    match side {
        None => Ok(Bytes::new()),
        Some(side) if side.mode == Mode::Submodule => Ok(format!("Subproject commit {}\n", side.oid).into()),
        Some(side) => repo.blob(side.oid, MAX_DIFF_FILE_BYTES),
    }
}

/// As git tells: there is a NUL near the beginning.
pub(crate) fn is_binary(data: &[u8]) -> bool {
    data.get(..BINARY_PROBE).unwrap_or(data).contains(&0)
}
