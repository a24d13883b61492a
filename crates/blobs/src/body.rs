//! A range of a blob as the body of an answer.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::{BoxStream, StreamExt, unfold};
use http_body::{Body, Frame, SizeHint};

use crate::reader::READ_BYTES;
use crate::{BlobError, BlobReader};

/// Streams `[start, end)` in large reads, with an exact size.
pub struct RangeBody {
    parts: BoxStream<'static, Result<Bytes, BlobError>>,
    remaining: u64,
}

impl RangeBody {
    pub fn new(reader: BlobReader, start: u64, end: u64) -> Self {
        let parts = unfold(start, move |at| {
            let reader = reader.clone();
            async move {
                if at >= end {
                    return None;
                }
                let len = usize::try_from(end - at).unwrap_or(READ_BYTES).min(READ_BYTES);
                let part = reader.read_at(at, len).await;
                // After an error the body ends, short of its length: the client sees a cut.
                let next = if part.is_ok() { at + len as u64 } else { end };
                Some((part, next))
            }
        });
        Self { parts: parts.boxed(), remaining: end.saturating_sub(start) }
    }
}

impl Body for RangeBody {
    type Data = Bytes;
    type Error = BlobError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BlobError>>> {
        let part = std::task::ready!(self.parts.poll_next_unpin(cx));
        if let Some(Ok(bytes)) = &part {
            self.remaining = self.remaining.saturating_sub(bytes.len() as u64);
        }
        Poll::Ready(part.map(|part| part.map(Frame::data)))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}

impl Stream for RangeBody {
    type Item = Result<Bytes, BlobError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.parts.poll_next_unpin(cx)
    }
}
