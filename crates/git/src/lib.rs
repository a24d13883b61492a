//! Git: trees, commits and packs. A repository's objects are immutable packs that live elsewhere,
//! its refs are rows elsewhere; here is the disposable bare repository that a node makes of them,
//! which stock `git` can read, check and serve.

mod ahead;
mod blame;
mod cache;
mod check;
mod diff;
mod edit;
mod graph;
mod index;
mod merge;
mod names;
mod novelty;
mod object;
mod pack;
pub mod packet;
mod process;
mod prune;
pub mod push;
mod quarantine;
mod repo;
mod rewrite;
mod snapshot;
mod strict;
mod three_way;
mod walk;

pub use ahead::brought;
pub use blame::{Blame, BlameRange, blame, blame_within};
pub use cache::Cache;
pub use check::{Fault, Reached};
pub use diff::{
    Budget, ChangedFile, ChangedFiles, Content, FileDiff, FileSide, FileStatus, Hunk, Line, LineKind,
    MAX_CHANGED_FILES, MAX_DIFF_FILES, Side, TextDiff, changed_files, changed_paths, diff_contents, raw_line,
    unified,
};
pub use edit::{Change, Edit, Edited, Op, edit_tree};
pub use merge::merge_packs;
pub use novelty::{Flaw, Inspector, NewFile, Novelties, Novelty};
pub use object::{Commit, Entry, Mode, NewCommit, Person, Pointer, Tag, Tree};
pub use pack::{NewPack, PackWriter};
pub use process::{Pipes, Running, Version, git_version};
pub use prune::{Pruned, Wanted};
pub use quarantine::{Quarantine, Received};
pub use repo::{KnownPack, Repo};
pub use rewrite::{Renewed, Rewritten};
pub use snapshot::{Protocol, Snapshot, SnapshotRef};
pub use three_way::{Merge, commits_ahead, merge_bases, merge_commits, shares_commit};
pub use walk::{Walked, diff_trees};

use bastide_core::Oid;
use bastide_core::limits::MAX_COMMIT_FOLDERS;

#[derive(Debug, thiserror::Error)]
pub enum GitError {
    #[error("object {0} is missing")]
    Missing(Oid),
    #[error("object {0} is not a {1}")]
    Kind(Oid, &'static str),
    #[error("object {oid} is damaged: {what}")]
    Damaged { oid: Oid, what: &'static str },
    #[error("object {oid} has more than {limit} bytes")]
    TooLarge { oid: Oid, limit: u64 },
    /// A path that is to be removed and is not there.
    #[error("A file with this name doesn't exist: {0}")]
    NotFound(String),
    #[error("'{0}' is a file, so nothing can be put under it")]
    PathConflict(String),
    #[error(
        "'{new}' differs from '{old}' only in case or in how its letters are written: many systems cannot hold both"
    )]
    CaseClash { old: String, new: String },
    #[error("a commit changes at most {MAX_COMMIT_FOLDERS} folders: split it")]
    TooManyFolders,
    /// Commits that are looked at together change more than may be looked at.
    #[error("too many changes at once")]
    TooManyChanges,
    /// Not what git says on the wire.
    #[error("this is not a push of git's: {0}")]
    Protocol(&'static str),
    #[error("git or looking at its objects takes too long")]
    TooSlow,
    #[error("the repository's packs cannot be read: {0}")]
    Odb(String),
    /// More history than is looked at for one answer.
    #[error("{0}")]
    TooFar(&'static str),
    #[error("a pack is damaged: {0}")]
    Pack(&'static str),
    #[error("this is not git's protocol: a packet has no length that can be")]
    Packet,
    #[error("git: {0}")]
    Program(String),
    #[error("git repository: {0}")]
    Io(#[from] std::io::Error),
}

impl GitError {
    /// Can this come from a copy that has been damaged or cleared away, so that a new one helps?
    pub fn blames_the_copy(&self) -> bool {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        match self {
            Self::Missing(_) | Self::Damaged { .. } | Self::Odb(_) | Self::Pack(_) | Self::Program(_) => true,
            Self::Io(error) => !matches!(error.kind(), StorageFull | QuotaExceeded),
            Self::Kind(..)
            | Self::TooLarge { .. }
            | Self::NotFound(_)
            | Self::PathConflict(_)
            | Self::CaseClash { .. }
            | Self::TooFar(_)
            | Self::TooManyFolders
            | Self::TooManyChanges
            | Self::Packet
            | Self::Protocol(_)
            | Self::TooSlow => false,
        }
    }
}
