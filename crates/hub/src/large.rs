//! The bridge: the plain bytes of a large file, put together from its xorbs while they are read.

use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bastide_blobs::{BlobError, BlobKey, BlobReader};
use bastide_core::{Sha256, XetHash};
use bastide_store::xet;
use bastide_xet::file::{Cut, Term, decode_terms, terms_in};
use bastide_xet::plan::{self, Piece};
use bastide_xet::xorb::{ChunkInfo, XorbIndex, decode_chunk};
use bytes::Bytes;
use futures_util::Stream;
use futures_util::future::try_join_all;
use futures_util::stream::{BoxStream, StreamExt, unfold};

use crate::access::{Access, Read};
use crate::{Hub, Problem};

/// Stored bytes that are read at a time: whole chunks, so a little more.
const READ_BYTES: u64 = 512 * 1024;
/// Largest index of a xorb: 8,192 chunks of 40 bytes and its head.
pub(crate) const MAX_INDEX_BYTES: u64 = 8192 * 40 + 64;
/// Indexes in memory, in bytes, and what one has at least.
const INDEX_BYTES: u64 = 64 * 1024 * 1024;
const SMALL_INDEX_BYTES: u64 = 8 * 1024;
/// Terms of files that are being read, all readers together, and up to how many a reader is not
/// counted. More would be a file that is made to be in many pieces, read many times.
pub(crate) const MAX_TERMS_IN_MEMORY: usize = 4 << 20;
const FREE_TERMS: usize = 4096;
/// Terms that are opened at a time while a file is streamed.
const WINDOW_TERMS: usize = 64;
/// Xorbs that are looked for at the same time: in a bucket, each is a request.
const LOOKS: usize = 8;

/// A xorb that may be read: its place and its index.
#[derive(Clone)]
pub(crate) struct OpenXorb {
    pub key: BlobKey,
    pub index: Arc<XorbIndex>,
}

/// Indexes of xorbs by the blob that holds them: immutable, so never stale.
pub(crate) struct IndexCache(quick_cache::sync::Cache<String, Arc<XorbIndex>, IndexWeight>);

#[derive(Clone)]
pub(crate) struct IndexWeight;

impl quick_cache::Weighter<String, Arc<XorbIndex>> for IndexWeight {
    fn weight(&self, key: &String, index: &Arc<XorbIndex>) -> u64 {
        (key.len() + 64 + index.chunks.len() * size_of::<ChunkInfo>()) as u64
    }
}

impl Default for IndexCache {
    fn default() -> Self {
        let items = usize::try_from(INDEX_BYTES / SMALL_INDEX_BYTES).unwrap_or(1024);
        Self(quick_cache::sync::Cache::with_weighter(items, INDEX_BYTES, IndexWeight))
    }
}

/// Room for the terms of a file while it is read.
pub(crate) type HeldTerms = Option<tokio::sync::OwnedSemaphorePermit>;

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

    /// Is a xorb's stored copy here, at its full length? A look, not a proof.
    pub(crate) async fn is_here(&self, xorb: &xet::Xorb) -> Result<bool, Problem> {
        if xorb.damaged {
            return Ok(false);
        }
        match self.blobs.open(&xorb.blob_key.parse()?).await {
            Ok(reader) if reader.len() == xorb.stored_bytes => {}
            Ok(_) | Err(BlobError::NotFound(_)) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        if self.indexes.0.get(&xorb.index_key).is_some() {
            return Ok(true);
        }
        match self.blobs.get(&xorb.index_key.parse()?, MAX_INDEX_BYTES).await {
            Ok(bytes) => Ok(XorbIndex::decode(&bytes).is_ok_and(|index| index.hash == xorb.hash)),
            Err(BlobError::NotFound(_) | BlobError::Truncated(_) | BlobError::TooLarge { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Can a file be put together, as far as a look at its xorbs can tell?
    pub(crate) async fn is_whole(&self, access: &Access<Read>, terms: &[u8]) -> Result<bool, Problem> {
        for hashes in xorbs_of_terms(&decode_terms(terms)?).chunks(LOOKS) {
            let looks = hashes.iter().map(|hash| self.has_here(access, *hash));
            if !try_join_all(looks).await?.iter().all(|here| *here) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A xorb that this repository may use and whose bytes are here. One whose bytes are lost is as
    /// good as none: its chunks have to be sent again.
    pub(crate) async fn open_here(
        &self,
        access: &Access<Read>,
        hash: XetHash,
    ) -> Result<Option<OpenXorb>, Problem> {
        let here = self.has_here(access, hash).await?;
        if here { self.open_xorb(access, hash).await } else { Ok(None) }
    }

    async fn has_here(&self, access: &Access<Read>, hash: XetHash) -> Result<bool, Problem> {
        match xet::xorb_of(&mut self.db.read().await?, access, hash).await? {
            None => Ok(false),
            Some(xorb) => self.is_here(&xorb).await,
        }
    }

    pub(crate) async fn open_terms(
        &self,
        access: &Access<Read>,
        terms: Vec<Term>,
    ) -> Result<OpenFile, Problem> {
        let hashes = xorbs_of_terms(&terms);
        let mut xorbs = Vec::with_capacity(hashes.len());
        for hash in hashes {
            let xorb = self.open_xorb(access, hash).await?;
            let missing = || Problem::internal(format!("its xorb {hash} is missing"));
            xorbs.push((hash, xorb.ok_or_else(missing)?));
        }
        Ok(OpenFile { terms: Arc::new(terms), xorbs: Arc::new(xorbs) })
    }

    /// Room for the terms of a reader, when there is any.
    pub(crate) fn hold_terms(&self, terms: usize) -> Result<HeldTerms, Problem> {
        if terms <= FREE_TERMS {
            return Ok(None);
        }
        let count = u32::try_from(terms.min(MAX_TERMS_IN_MEMORY)).unwrap_or(u32::MAX);
        let held = Arc::clone(&self.terms).try_acquire_many_owned(count);
        held.map(Some).map_err(|_| Problem::Busy { seconds: 10 })
    }

    /// The bytes `range` of the file with this content, as a stream.
    pub(crate) async fn large_stream(
        &self,
        access: &Access<Read>,
        sha256: Sha256,
        range: Range<u64>,
    ) -> Result<LargeStream, Problem> {
        let file = xet::file_by_sha256(&mut self.db.read().await?, access, sha256).await?;
        let file = file.ok_or_else(|| Problem::entry("the content of this file is not here"))?;
        let cut = terms_in(&file.terms, &range, usize::MAX)?;
        let cut = cut.ok_or_else(|| Problem::internal("a file has too many terms"))?;
        drop(file);
        self.stream_terms(access, cut, range).await
    }

    /// The bytes `range` of a file, of whose terms `cut` has those that the range needs. The first
    /// part is read before the answer: what is missing is told, not cut off.
    pub(crate) async fn stream_terms(
        &self,
        access: &Access<Read>,
        cut: Cut,
        range: Range<u64>,
    ) -> Result<LargeStream, Problem> {
        let remaining = range.end.saturating_sub(range.start);
        let held = self.hold_terms(cut.terms.len())?;
        let (hub, access) = (self.clone(), access.clone());
        let mut windows =
            Windows { hub, access, at: cut.start, terms: cut.terms, next: 0, range, _held: held };
        let mut open = windows.open_next().await?;
        let first = match &mut open {
            Some(stream) => stream.next().await.transpose()?,
            None => None,
        };
        let rest = unfold((windows, open), |(mut windows, mut open)| async move {
            loop {
                if let Some(part) = match &mut open {
                    Some(stream) => stream.next().await,
                    None => None,
                } {
                    return Some((part, (windows, open)));
                }
                match windows.open_next().await {
                    Ok(None) => return None,
                    Ok(next) => open = next,
                    Err(problem) => return Some((Err(problem), (windows, None))),
                }
            }
        });
        let parts = futures_util::stream::iter(first.map(Ok)).chain(rest);
        Ok(LargeStream { parts: parts.boxed(), remaining })
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

/// A file that is opened a few terms at a time, so that memory does not grow with it.
struct Windows {
    hub: Hub,
    access: Access<Read>,
    terms: Vec<Term>,
    /// The first term that was not opened yet, and where in the file it starts.
    next: usize,
    at: u64,
    range: Range<u64>,
    _held: HeldTerms,
}

impl Windows {
    async fn open_next(&mut self) -> Result<Option<LargeStream>, Problem> {
        let terms: Vec<Term> = self.terms.iter().skip(self.next).take(WINDOW_TERMS).cloned().collect();
        if terms.is_empty() {
            return Ok(None);
        }
        let start = self.at;
        let size = plan::size(&terms);
        self.next += terms.len();
        self.at += size;
        let wanted = self.range.start.saturating_sub(start)..self.range.end.saturating_sub(start).min(size);
        let file = self.hub.open_terms(&self.access, terms).await?;
        self.hub.stream_file(file, wanted).map(Some)
    }
}

/// The xorbs that terms name, each once, in order.
pub(crate) fn xorbs_of_terms(terms: &[Term]) -> Vec<XetHash> {
    let mut hashes: Vec<XetHash> = terms.iter().map(|term| term.xorb).collect();
    hashes.sort();
    hashes.dedup();
    hashes
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
