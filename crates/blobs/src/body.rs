//! A range of a blob as a stream and as an HTTP body: every byte of the range, or an error.
//!
//! On disk: 512 KiB at a time, read inline while the page cache has them. Thread hops cost more
//! than the copy, so there is one only when a disk has to be waited for, and then the next read
//! is started while the last one is being sent.

use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use http_body::{Body, Frame, SizeHint};
use tokio::task::JoinHandle;

use crate::buffer::{CHUNK_BYTES, Filling};
use crate::disk::{Disk, Fetched};
use crate::error::{BlobError, Result};
use crate::reader::{BlobReader, Source};

pub struct RangeBody {
    feed: Feed,
    /// Bytes that have still to come out.
    remaining: u64,
    failed: bool,
}

enum Feed {
    Disk {
        disk: Arc<Disk>,
        /// Where the next read begins.
        next: u64,
        end: u64,
        /// A read on the blocking pool: the one that is waited for, or the one ahead.
        ahead: Option<JoinHandle<Result<Fetched>>>,
    },
    Remote(BoxStream<'static, Result<Bytes>>),
}

impl RangeBody {
    pub(crate) fn new(reader: &BlobReader, range: Range<u64>) -> Self {
        let remaining = range.end.saturating_sub(range.start);
        let feed = match &reader.0 {
            Source::Disk(disk) => {
                Feed::Disk { disk: Arc::clone(disk), next: range.start, end: range.end, ahead: None }
            }
            Source::Remote(blob) => Feed::Remote(Arc::clone(blob).stream(range)),
        };
        Self { feed, remaining, failed: false }
    }

    /// Bytes that have still to come.
    pub const fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Books a piece; a source that gives too little or too much is damaged.
    fn count(&mut self, piece: Option<Result<Bytes>>) -> Option<Result<Bytes>> {
        let wanted = self.remaining;
        let damaged = |found| BlobError::Truncated { expected: wanted, found };
        let counted = match piece {
            None => Err(damaged(0)),
            Some(Ok(bytes)) if bytes.len() as u64 > wanted => Err(damaged(bytes.len() as u64)),
            Some(other) => other,
        };
        match &counted {
            Ok(bytes) => self.remaining -= bytes.len() as u64,
            Err(_) => self.failed = true,
        }
        Some(counted)
    }
}

impl Feed {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        match self {
            Self::Remote(stream) => stream.poll_next_unpin(context),
            Self::Disk { disk, next, end, ahead } => {
                if ahead.is_none() {
                    let (offset, mut filling) = begin(next, *end);
                    disk.fill_cached(&mut filling, offset);
                    if filling.is_full() {
                        return Poll::Ready(Some(disk.finish(filling, offset)));
                    }
                    *ahead = Some(spawn(disk, filling, offset));
                }
                let fetched = match ahead {
                    Some(task) => ready!(Pin::new(task).poll(context)),
                    None => return Poll::Ready(None),
                };
                *ahead = None;
                let fetched = fetched.map_err(crate::task_died).flatten();
                if matches!(fetched, Ok(Fetched { cold: true, .. })) && *next < *end {
                    let (offset, filling) = begin(next, *end);
                    *ahead = Some(spawn(disk, filling, offset));
                }
                Poll::Ready(Some(fetched.map(|fetched| fetched.bytes)))
            }
        }
    }
}

/// The next piece of a range: where it begins, and a buffer of its length.
fn begin(next: &mut u64, end: u64) -> (u64, Filling) {
    let offset = *next;
    let len = usize::try_from(end.saturating_sub(offset)).map_or(CHUNK_BYTES, |rest| rest.min(CHUNK_BYTES));
    *next += len as u64;
    (offset, Filling::new(len))
}

fn spawn(disk: &Arc<Disk>, filling: Filling, offset: u64) -> JoinHandle<Result<Fetched>> {
    let disk = Arc::clone(disk);
    tokio::task::spawn_blocking(move || disk.fetch(filling, offset))
}

impl Stream for RangeBody {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.failed || self.remaining == 0 {
            return Poll::Ready(None);
        }
        let piece = ready!(self.feed.poll(context));
        Poll::Ready(self.count(piece))
    }
}

impl Body for RangeBody {
    type Data = Bytes;
    type Error = BlobError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, BlobError>>> {
        self.poll_next(context).map(|piece| piece.map(|bytes| bytes.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}
