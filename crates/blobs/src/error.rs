//! What can go wrong with bytes.

use crate::BlobKey;

#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    #[error("there is no blob {0}")]
    NotFound(BlobKey),
    #[error("the blob {0} exists already")]
    Exists(BlobKey),
    /// The disk, the quota or the bucket is full.
    #[error("no space is left for blobs")]
    Full,
    /// The blob is shorter than it was when it was stored.
    #[error("the blob {0} is damaged: it ends too early")]
    Truncated(BlobKey),
    #[error("the blob {key} has more than {limit} bytes")]
    TooLarge { key: BlobKey, limit: u64 },
    #[error("'{0}' is not the key of a blob")]
    BadKey(String),
    #[error("{0}")]
    Config(String),
    #[error("blobs: {0}")]
    Io(std::io::Error),
    #[error("object store: {0}")]
    Object(object_store::Error),
    #[error("the store of blobs is closing")]
    Closed,
}

impl From<std::io::Error> for BlobError {
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind;
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => Self::Full,
            _ => Self::Io(error),
        }
    }
}
