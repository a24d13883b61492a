//! The words of Bastide as types: ids, names, paths, hashes, roles, limits, and who acts.
//!
//! No I/O and no async. Everything that comes from outside is parsed here, at the border, into
//! a type that cannot be wrong; inner code has no "if valid".

pub mod context;
pub mod discussion;
pub mod hash;
pub mod id;
pub mod limits;
pub mod name;
pub mod network;
pub mod path;
pub mod refs;
pub mod role;
pub mod time;

pub use context::{Actor, Clock, Credential};
pub use discussion::{DiscussionEventKind, DiscussionStatus};
pub use hash::{Oid, Sha256, XetHash};
pub use id::{CollectionId, NamespaceId, RepoId, TokenId};
pub use name::{Name, RepoKind, RepoName, RepoPath};
pub use path::EntryPath;
pub use refs::{RefName, Revision};
pub use role::{Role, TokenRole, Visibility};
pub use time::Timestamp;

/// A value from outside that is not what it has to be. The text is for the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub String);

impl Invalid {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}
