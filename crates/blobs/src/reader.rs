//! Reading a blob at any place: in place when its pages are in memory, on the blocking pool when
//! the disk has to be asked.

use std::fs::File;
use std::io::IoSliceMut;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use object_store::ObjectStoreExt;
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use crate::faults::{Faults, Point};
use crate::{BlobError, BlobKey, blocking};

/// One read: large enough that system calls do not matter, small enough to stay in cache.
pub const READ_BYTES: usize = 512 * 1024;

/// An open blob. Cheap to clone.
#[derive(Clone)]
pub struct BlobReader(Arc<Inner>);

struct Inner {
    key: BlobKey,
    len: u64,
    source: Source,
    faults: Faults,
}

enum Source {
    File(File),
    Object { store: Arc<dyn object_store::ObjectStore>, path: object_store::path::Path },
}

impl BlobReader {
    pub(crate) fn file(key: BlobKey, file: File, len: u64, faults: Faults) -> Self {
        Self(Arc::new(Inner { key, len, source: Source::File(file), faults }))
    }

    pub(crate) fn object(
        key: BlobKey,
        store: Arc<dyn object_store::ObjectStore>,
        path: object_store::path::Path,
        len: u64,
        faults: Faults,
    ) -> Self {
        Self(Arc::new(Inner { key, len, source: Source::Object { store, path }, faults }))
    }

    pub fn len(&self) -> u64 {
        self.0.len
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The size of the next read from `at`.
    pub(crate) fn part(&self, at: u64) -> usize {
        usize::try_from(self.len().saturating_sub(at)).unwrap_or(READ_BYTES).min(READ_BYTES)
    }

    /// Exactly `len` bytes from `offset`, or an error: never fewer.
    pub async fn read_at(&self, offset: u64, len: usize) -> Result<Bytes, BlobError> {
        self.0.faults.check(Point::Read)?;
        let inside = offset.checked_add(len as u64).is_some_and(|end| end <= self.len());
        if !inside || self.0.faults.check(Point::ShortRead).is_err() {
            return Err(BlobError::Truncated(self.0.key.clone()));
        }
        if len == 0 {
            return Ok(Bytes::new());
        }
        match &self.0.source {
            Source::File(file) => match read_cached(file, offset, len) {
                Some(bytes) => Ok(bytes),
                None => self.read_from_disk(offset, len).await,
            },
            Source::Object { store, path } => {
                let range = offset..offset + len as u64;
                let bytes = store.get_range(path, range).await.map_err(|error| self.object_error(error))?;
                if bytes.len() == len { Ok(bytes) } else { Err(BlobError::Truncated(self.0.key.clone())) }
            }
        }
    }

    fn object_error(&self, error: object_store::Error) -> BlobError {
        match error {
            object_store::Error::NotFound { .. } => BlobError::NotFound(self.0.key.clone()),
            other => BlobError::Object(other),
        }
    }

    async fn read_from_disk(&self, offset: u64, len: usize) -> Result<Bytes, BlobError> {
        let inner = Arc::clone(&self.0);
        blocking(move || {
            let Source::File(file) = &inner.source else { return Err(BlobError::Closed) };
            let mut buffer = vec![0; len];
            match file.read_exact_at(&mut buffer, offset) {
                Ok(()) => Ok(buffer.into()),
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                    Err(BlobError::Truncated(inner.key.clone()))
                }
                Err(error) => Err(error.into()),
            }
        })
        .await
    }
}

/// All of it from the page cache, or nothing.
fn read_cached(file: &File, offset: u64, len: usize) -> Option<Bytes> {
    let mut buffer = vec![0; len];
    let mut done = 0;
    while done < len {
        let rest = buffer.get_mut(done..)?;
        let at = offset + done as u64;
        match preadv2(file, &mut [IoSliceMut::new(rest)], at, ReadWriteFlags::NOWAIT) {
            Ok(0) => return None,
            Ok(read) => done += read,
            Err(Errno::INTR) => {}
            // Not in memory, or a file system that cannot say.
            Err(_) => return None,
        }
    }
    Some(buffer.into())
}
