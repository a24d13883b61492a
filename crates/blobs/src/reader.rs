//! An open blob: ranges of it, and bodies made from ranges. On disk it holds the file, so that a
//! deletion does not cut off a delivery that has begun.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::body::RangeBody;
use crate::disk::Disk;
use crate::error::{BlobError, Result};
use crate::remote::RemoteBlob;

#[derive(Debug, Clone)]
pub struct BlobReader(pub(crate) Source);

#[derive(Debug, Clone)]
pub(crate) enum Source {
    Disk(Arc<Disk>),
    Remote(Arc<RemoteBlob>),
}

impl BlobReader {
    pub fn len(&self) -> u64 {
        match &self.0 {
            Source::Disk(disk) => disk.len(),
            Source::Remote(blob) => blob.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Exactly these bytes, in one piece. For more than a few MiB use `body`.
    pub async fn read_at(&self, offset: u64, len: usize) -> Result<Bytes> {
        let range = self.check(offset, len as u64)?;
        match &self.0 {
            _ if range.is_empty() => Ok(Bytes::new()),
            Source::Disk(disk) => disk.read(offset, len).await,
            Source::Remote(blob) => blob.read(range).await,
        }
    }

    /// A stream of exactly these bytes, which is also an HTTP body.
    pub fn body(&self, range: Range<u64>) -> Result<RangeBody> {
        let len = range.end.checked_sub(range.start);
        let len = len.ok_or(BlobError::OutOfRange { offset: range.start, len: 0, size: self.len() })?;
        Ok(RangeBody::new(self, self.check(range.start, len)?))
    }

    pub fn whole(&self) -> RangeBody {
        RangeBody::new(self, 0..self.len())
    }

    fn check(&self, offset: u64, len: u64) -> Result<Range<u64>> {
        let size = self.len();
        match offset.checked_add(len) {
            Some(end) if end <= size => Ok(offset..end),
            _ => Err(BlobError::OutOfRange { offset, len, size }),
        }
    }
}
