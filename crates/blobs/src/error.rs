//! What can go wrong with stored bytes. `Full` is apart so that a caller can answer 507.

use std::io;
use std::path::PathBuf;

pub type Result<T> = std::result::Result<T, BlobError>;

#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    #[error("no blob under this key")]
    NotFound,
    #[error("the storage is full: free space or raise the quota, then try again")]
    Full,
    #[error("another blob is already stored under this key")]
    Exists,
    #[error("a stored blob is damaged: it has {found} bytes and should have {expected}, restore it from a backup")]
    Truncated { expected: u64, found: u64 },
    #[error("bytes {offset}+{len} were asked of a blob of {size} bytes")]
    OutOfRange { offset: u64, len: u64, size: u64 },
    #[error("an earlier write of this upload did not finish: start the upload again")]
    Unfinished,
    #[error("cannot write to {path}: check its owner, its mode and that the disk is mounted: {source}")]
    NotWritable { path: PathBuf, source: io::Error },
    #[error("reading or writing a blob failed: {0}")]
    Io(#[source] io::Error),
    #[error("the object store failed: {0}")]
    Remote(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A missing file stays `Io`: only the code that looks for a key knows that it means `NotFound`.
impl From<io::Error> for BlobError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            _ => Self::Io(error),
        }
    }
}

impl From<rustix::io::Errno> for BlobError {
    fn from(error: rustix::io::Errno) -> Self {
        io::Error::from(error).into()
    }
}

impl From<object_store::Error> for BlobError {
    fn from(error: object_store::Error) -> Self {
        use object_store::Error;
        match error {
            Error::NotFound { .. } => Self::NotFound,
            Error::AlreadyExists { .. } | Error::Precondition { .. } => Self::Exists,
            other if says_full(&other) => Self::Full,
            other => Self::Remote(Box::new(other)),
        }
    }
}

/// S3 itself has no "full"; the stores that people run themselves say it in the error's code.
const FULL_CODES: [&str; 4] =
    ["XMinioStorageFull", "QuotaExceeded", "InsufficientCapacity", "507 Insufficient Storage"];

fn says_full(error: &object_store::Error) -> bool {
    let text = error.to_string();
    FULL_CODES.iter().any(|code| text.contains(code))
}

/// For an operation on the file of a key: a missing file is a missing blob.
pub(crate) fn missing(error: io::Error) -> BlobError {
    match error.kind() {
        io::ErrorKind::NotFound => BlobError::NotFound,
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_and_a_spent_quota_are_told_apart_from_other_errors() {
        for errno in [rustix::io::Errno::NOSPC, rustix::io::Errno::DQUOT] {
            assert!(matches!(BlobError::from(errno), BlobError::Full));
        }
        assert!(matches!(BlobError::from(rustix::io::Errno::IO), BlobError::Io(_)));
    }

    #[test]
    fn a_full_bucket_is_recognised_by_its_code() {
        let error = |text: &str| object_store::Error::Generic { store: "S3", source: text.to_owned().into() };
        let full = error("<Error><Code>XMinioStorageFull</Code></Error>");
        assert!(matches!(BlobError::from(full), BlobError::Full));
        assert!(matches!(BlobError::from(error("connection reset")), BlobError::Remote(_)));
    }
}
