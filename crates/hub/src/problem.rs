//! Everything that an operation can answer instead of a value: the one enum that both
//! presentations (the wire and the pages) know how to show.
//!
//! Texts are for the caller. What only we should know goes to the log, with the request id.

use bastide_core::{Invalid, Oid, RepoKind, RepoPath};

#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// A token that is not one of ours, has ended, or whose owner is gone.
    #[error("Invalid credentials in Authorization header")]
    BadToken,
    /// Nothing was shown where something has to be.
    #[error("Invalid username or password.")]
    SignInNeeded,
    /// There is no such repository, or none that this caller may know of: one answer for both.
    #[error("{}", if *anonymous { "Invalid username or password." } else { "Repository not found" })]
    RepoNotFound { anonymous: bool },
    /// It was at this path once, and somewhere else the caller may know of it.
    #[error("Repository not found: there is none at {} any more. It was moved to {}: use that name.", from.id(), to.id())]
    Moved { from: RepoPath, to: RepoPath },
    #[error("Invalid rev id: {0}")]
    RevisionNotFound(String),
    /// The revision exists, the path in it does not.
    #[error("{message}")]
    EntryNotFound { message: String, commit: Option<Oid> },
    #[error("{}", gated_text(*kind, id, *anonymous))]
    Gated { kind: RepoKind, id: String, anonymous: bool },
    #[error("Access to this resource is disabled.")]
    Disabled,
    /// May be seen, may not be done.
    #[error("{0}")]
    Forbidden(String),
    /// Some other thing that does not exist.
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Invalid(String),
    /// Understood, but not acceptable: paths, too many items.
    #[error("{0}")]
    Unprocessable(String),
    /// It exists already; `url` is where.
    #[error("{message}")]
    Exists { message: String, url: Option<String> },
    /// A collection of that title exists already.
    #[error("You already have a collection with this title: {slug}")]
    CollectionExists { slug: String },
    /// The branch is not where the caller thought.
    #[error("The branch was updated since you opened this page. Please refresh and try again.")]
    Stale,
    #[error("the range lies outside of the {size} bytes")]
    Range { size: u64 },
    #[error("{0}")]
    TooLarge(String),
    /// More than somebody may have: less, or somebody who allows more, will help.
    #[error("{0}")]
    Quota(String),
    /// More than somebody may do in a while: trying again after it will help.
    #[error("{message}")]
    TooMany { message: String, seconds: u32 },
    /// It cannot be done as things are; `paths` are the files that are in the way, if that is why.
    #[error("{message}")]
    Conflict { message: String, paths: Vec<String> },
    /// No space: the old state is intact, trying again at once will not help.
    #[error("this hub has no space left: nothing was changed; tell its operator")]
    Full,
    /// Too much at once: trying again later will help.
    #[error("this hub is busy: try again in {seconds} s")]
    Busy { seconds: u32 },
    #[error("this hub does not serve this yet: {0}")]
    NotServed(&'static str),
    /// Ours to mend. The text is for the log only.
    #[error("internal error")]
    Internal(String),
}

fn gated_text(kind: RepoKind, id: &str, anonymous: bool) -> String {
    if anonymous {
        format!(
            "Access to {kind} {id} is restricted. You must have access to it and be authenticated to access it. \
             Please log in."
        )
    } else {
        format!("Access to {kind} {id} is restricted and you are not in the authorized list.")
    }
}

impl Problem {
    pub fn internal(error: impl std::fmt::Display) -> Self {
        Self::Internal(error.to_string())
    }

    /// All that is known, for the operator: what callers are not shown too.
    pub fn detail(&self) -> String {
        match self {
            Self::Internal(detail) => detail.clone(),
            other => other.to_string(),
        }
    }

    pub fn entry(message: impl Into<String>) -> Self {
        Self::EntryNotFound { message: message.into(), commit: None }
    }
}

impl From<Invalid> for Problem {
    fn from(error: Invalid) -> Self {
        Self::Invalid(error.0)
    }
}

impl From<bastide_store::StoreError> for Problem {
    fn from(error: bastide_store::StoreError) -> Self {
        match error {
            bastide_store::StoreError::Full => Self::Full,
            bastide_store::StoreError::Pool(_) | bastide_store::StoreError::Busy => Self::Busy { seconds: 5 },
            other => Self::internal(other),
        }
    }
}

impl From<tokio::task::JoinError> for Problem {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::internal(error)
    }
}

impl From<bastide_blobs::BlobError> for Problem {
    fn from(error: bastide_blobs::BlobError) -> Self {
        match error {
            bastide_blobs::BlobError::Full => Self::Full,
            other => Self::internal(other),
        }
    }
}

impl From<bastide_git::GitError> for Problem {
    fn from(error: bastide_git::GitError) -> Self {
        use bastide_git::GitError;
        match error {
            GitError::NotFound(_) => Self::entry(error.to_string()),
            GitError::PathConflict(_)
            | GitError::CaseClash { .. }
            | GitError::TooFar(_)
            | GitError::TooManyFolders
            | GitError::TooManyChanges => Self::Unprocessable(error.to_string()),
            GitError::Protocol(_) => Self::Invalid(error.to_string()),
            GitError::TooLarge { .. } => Self::TooLarge(error.to_string()),
            GitError::Packet => Self::Invalid(error.to_string()),
            GitError::Io(io) => bastide_blobs::BlobError::from(io).into(),
            other => Self::internal(other),
        }
    }
}

impl From<bastide_xet::XetError> for Problem {
    fn from(error: bastide_xet::XetError) -> Self {
        use bastide_xet::XetError;
        match error {
            XetError::Range(size) => Self::Range { size },
            XetError::Damaged(_) | XetError::Read(_) => Self::internal(error),
            XetError::Xorb(_)
            | XetError::XorbHash
            | XetError::Shard(_)
            | XetError::UnknownChunks
            | XetError::FileHash => Self::Invalid(error.to_string()),
        }
    }
}
