//! The bridge: the plain bytes of a large file, put together from its xorbs while they are read.

use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bastide_blobs::{BlobKey, BlobReader};
use bastide_core::{Sha256, XetHash};
use bastide_store::xet;
use bastide_xet::file::{Term, decode_terms};
use bastide_xet::plan::{self, Piece};
use bastide_xet::xorb::{XorbIndex, decode_chunk};
use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::{BoxStream, StreamExt, unfold};

use crate::access::{Access, Read};
use crate::{Hub, Problem};

/// Stored bytes that are read at a time: whole chunks, so a little more.
const READ_BYTES: u64 = 512 * 1024;
/// Largest index of a xorb: 8,192 chunks of 40 bytes and its head.
const MAX_INDEX_BYTES: u64 = 8192 * 40 + 64;
/// Indexes in memory.
const INDEXES: usize = 2000;

/// A xorb that may be read: its place and its index.
#[derive(Clone)]
pub(crate) struct OpenXorb {
    pub key: BlobKey,
    pub index: Arc<XorbIndex>,
}

/// Indexes of xorbs by the blob that holds them: immutable, so never stale.
pub(crate) struct IndexCache(quick_cache::sync::Cache<String, Arc<XorbIndex>>);

impl Default for IndexCache {
    fn default() -> Self {
        Self(quick_cache::sync::Cache::new(INDEXES))
    }
}

/// A file and everything that is needed to read it.
#[derive(Clone)]
pub(crate) struct OpenFile {
    pub terms: Arc<Vec<Term>>,
    pub xorbs: Arc<Vec<(XetHash, OpenXorb)>>,
}

impl OpenFile {
    pub fn index(&self, hash: &XetHash) -> Option<&XorbIndex> {
        self.xorb(hash).map(|xorb| &*xorb.index)
    }

    fn xorb(&self, hash: &XetHash) -> Option<&OpenXorb> {
        let at = self.xorbs.binary_search_by_key(hash, |(hash, _)| *hash).ok()?;
        self.xorbs.get(at).map(|(_, xorb)| xorb)
    }
}

impl Hub {
    pub(crate) async fn xorb_index(&self, index_key: &str) -> Result<Arc<XorbIndex>, Problem> {
        if let Some(index) = self.indexes.0.get(index_key) {
            return Ok(index);
        }
        let bytes = self.blobs.get(&index_key.parse()?, MAX_INDEX_BYTES).await?;
        let index = Arc::new(XorbIndex::decode(&bytes)?);
        self.indexes.0.insert(index_key.to_owned(), Arc::clone(&index));
        Ok(index)
    }

    /// A xorb that this repository may use.
    pub(crate) async fn open_xorb(
        &self,
        access: &Access<Read>,
        hash: XetHash,
    ) -> Result<Option<OpenXorb>, Problem> {
        let row = xet::xorb_of(&mut self.db.read().await?, access, hash).await?;
        let Some(row) = row else { return Ok(None) };
        let index = self.xorb_index(&row.index_key).await?;
        Ok(Some(OpenXorb { key: row.blob_key.parse()?, index }))
    }

    pub(crate) async fn open_file(
        &self,
        access: &Access<Read>,
        file: xet::File,
    ) -> Result<OpenFile, Problem> {
        let terms = decode_terms(&file.terms)?;
        let mut hashes: Vec<XetHash> = terms.iter().map(|term| term.xorb).collect();
        hashes.sort();
        hashes.dedup();
        let mut xorbs = Vec::with_capacity(hashes.len());
        for hash in hashes {
            let xorb = self.open_xorb(access, hash).await?;
            let missing = || Problem::internal(format!("xorb {hash} of file {} is missing", file.hash));
            xorbs.push((hash, xorb.ok_or_else(missing)?));
        }
        Ok(OpenFile { terms: Arc::new(terms), xorbs: Arc::new(xorbs) })
    }

    async fn open_sha256(&self, access: &Access<Read>, sha256: Sha256) -> Result<OpenFile, Problem> {
        let file = xet::file_by_sha256(&mut self.db.read().await?, access, sha256).await?;
        let file = file.ok_or_else(|| Problem::entry("the content of this file is not here"))?;
        self.open_file(access, file).await
    }

    /// The bytes `range` of the file with this content, as a stream.
    pub(crate) async fn large_stream(
        &self,
        access: &Access<Read>,
        sha256: Sha256,
        range: Range<u64>,
    ) -> Result<LargeStream, Problem> {
        let file = self.open_sha256(access, sha256).await?;
        self.stream_file(file, range)
    }

    pub(crate) fn stream_file(&self, file: OpenFile, range: Range<u64>) -> Result<LargeStream, Problem> {
        let pieces = plan::pieces(&file.terms, &range, |hash| file.index(hash))?;
        let source = Source {
            hub: self.clone(),
            file,
            pieces: pieces.into_iter(),
            piece: None,
            reader: None,
            chunks: Bytes::new(),
        };
        let parts = unfold(source, |mut source| async move {
            let part = source.next().await.transpose()?;
            Some((part, source))
        });
        Ok(LargeStream { parts: parts.boxed(), remaining: range.end.saturating_sub(range.start) })
    }

    /// A short range of a file, whole: for headers.
    pub(crate) async fn large_range(
        &self,
        access: &Access<Read>,
        sha256: Sha256,
        range: Range<u64>,
    ) -> Result<Bytes, Problem> {
        let mut stream = self.large_stream(access, sha256, range).await?;
        let mut bytes = Vec::new();
        while let Some(part) = stream.next().await {
            bytes.extend_from_slice(&part?);
        }
        Ok(bytes.into())
    }
}

/// Where a stream is in its file.
struct Source {
    hub: Hub,
    file: OpenFile,
    pieces: std::vec::IntoIter<Piece>,
    piece: Option<Piece>,
    reader: Option<(XetHash, BlobReader)>,
    /// Stored chunks that were read and not yet decoded.
    chunks: Bytes,
}

impl Source {
    async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        loop {
            if !self.chunks.is_empty() {
                let raw = decode_chunk(&mut self.chunks)?;
                if let Some(part) = self.cut(raw) {
                    return Ok(Some(part));
                }
                continue;
            }
            if self.piece.as_ref().is_none_or(|piece| piece.take == 0) {
                self.piece = self.pieces.next();
                if self.piece.is_none() {
                    return Ok(None);
                }
            }
            self.read().await?;
        }
    }

    /// What of a chunk belongs to the range.
    fn cut(&mut self, raw: Bytes) -> Option<Bytes> {
        let piece = self.piece.as_mut()?;
        let len = raw.len() as u64;
        let skip = piece.skip.min(len);
        let take = piece.take.min(len - skip);
        piece.skip -= skip;
        piece.take -= take;
        let (start, end) = (usize::try_from(skip).ok()?, usize::try_from(skip + take).ok()?);
        (take > 0).then(|| raw.slice(start..end))
    }

    /// Reads the next whole chunks of the piece, about `READ_BYTES`.
    async fn read(&mut self) -> Result<(), Problem> {
        let damaged = || Problem::internal("a file's pieces do not fit its xorbs");
        let piece = self.piece.as_mut().ok_or_else(damaged)?;
        let xorb = self.file.xorb(&piece.xorb).ok_or_else(damaged)?;
        let chunks = xorb.index.chunks(&piece.chunks).ok_or_else(damaged)?;
        let upto = piece.stored.start + READ_BYTES;
        let count = chunks.partition_point(|chunk| u64::from(chunk.end) <= upto).clamp(1, chunks.len());
        let end = chunks.get(count - 1).map(|chunk| u64::from(chunk.end)).ok_or_else(damaged)?;
        let reader = match &self.reader {
            Some((hash, reader)) if *hash == piece.xorb => reader.clone(),
            _ => {
                let reader = self.hub.blobs.open(&xorb.key).await?;
                self.reader = Some((piece.xorb, reader.clone()));
                reader
            }
        };
        let len = usize::try_from(end - piece.stored.start).map_err(|_| damaged())?;
        self.chunks = reader.read_at(piece.stored.start, len).await?;
        piece.stored.start = end;
        piece.chunks.start += u32::try_from(count).map_err(|_| damaged())?;
        Ok(())
    }
}

/// Bytes of a large file, with their exact number.
pub struct LargeStream {
    parts: BoxStream<'static, Result<Bytes, Problem>>,
    remaining: u64,
}

impl LargeStream {
    pub const fn remaining(&self) -> u64 {
        self.remaining
    }
}

impl Stream for LargeStream {
    type Item = Result<Bytes, Problem>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let part = std::task::ready!(self.parts.poll_next_unpin(cx));
        if let Some(Ok(bytes)) = &part {
            self.remaining = self.remaining.saturating_sub(bytes.len() as u64);
        }
        Poll::Ready(part)
    }
}
