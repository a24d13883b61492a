//! Files as lists of terms: checking what a shard claims, and the form in which a file is kept.

use std::ops::Range;

use bastide_core::XetHash;
use bastide_core::limits::MAX_FILE_BYTES;

use crate::XetError;
use crate::chunk::MIN_CHUNK_BYTES;
use crate::hash::FileHasher;
use crate::shard::{Segment, ShardFile};
use crate::xorb::XorbIndex;

const TERM_BYTES: usize = 44;
/// Chunks that the files of one shard may have together, repeated ones counted each time: 1 TiB of
/// chunks of the usual size. Without it, a small shard could ask for hours of hashing.
pub const MAX_SHARD_CHUNKS: u64 = 1 << 24;
/// Segments of one file of a shard. Clients keep segments long (half a MiB and more): this is room
/// for 64 GiB that are changed everywhere, and for terabytes that are not.
pub const MAX_FILE_SEGMENTS: usize = 1 << 17;
/// Segments that a file may have whatever its size. Beyond these, each has to be as long as the
/// smallest chunk that clients cut: a list of terms costs memory at every download.
const FREE_SEGMENTS: u64 = 1024;

/// Chunks of one xorb that follow each other in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    pub xorb: XetHash,
    pub chunks: Range<u32>,
    pub raw_bytes: u32,
}

/// A file whose chunks are known to be there and to have its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedFile {
    pub hash: XetHash,
    pub size: u64,
    pub terms: Vec<Term>,
}

/// Checks a file of a shard against the xorbs that the caller may use. `index` answers nothing for
/// a xorb that is missing or not the caller's to use: the two cannot be told apart.
/// `budget` is what is left of `MAX_SHARD_CHUNKS` for the shard.
pub fn check<'a>(
    file: &ShardFile,
    budget: &mut u64,
    mut index: impl FnMut(&XetHash) -> Option<&'a XorbIndex>,
) -> Result<CheckedFile, XetError> {
    let mut check = FileCheck::new(file)?;
    for segment in &file.segments {
        let xorb = index(&segment.xorb).ok_or(XetError::UnknownChunks)?;
        check.segment(segment, xorb, budget)?;
    }
    check.finish()
}

/// The same, segment by segment: a file may name more xorbs than should be in memory at a time.
pub struct FileCheck {
    hash: XetHash,
    hasher: FileHasher,
    size: u64,
    terms: Vec<Term>,
}

impl FileCheck {
    pub fn new(file: &ShardFile) -> Result<Self, XetError> {
        if file.segments.len() > MAX_FILE_SEGMENTS {
            return Err(XetError::Shard("a file of more than 131072 segments"));
        }
        let terms = Vec::with_capacity(file.segments.len());
        Ok(Self { hash: file.hash, hasher: FileHasher::default(), size: 0, terms })
    }

    /// Takes the next segment, whose chunks are in `xorb`.
    pub fn segment(&mut self, segment: &Segment, xorb: &XorbIndex, budget: &mut u64) -> Result<(), XetError> {
        let chunks = xorb.chunks(&segment.chunks).ok_or(XetError::UnknownChunks)?;
        let left = budget.checked_sub(chunks.len() as u64);
        *budget = left.ok_or(XetError::Shard("its files have too many chunks"))?;
        if xorb.proof(&segment.chunks) != Some(segment.proof) {
            return Err(XetError::UnknownChunks);
        }
        let raw = xorb.raw_range(&segment.chunks).ok_or(XetError::UnknownChunks)?;
        if raw.end - raw.start != u64::from(segment.raw_bytes) {
            return Err(XetError::Shard("a segment whose length is not that of its chunks"));
        }
        let mut before = raw.start;
        for chunk in chunks {
            self.hasher.push(chunk.hash, u64::from(chunk.raw_end) - before);
            before = chunk.raw_end.into();
        }
        self.size += u64::from(segment.raw_bytes);
        if self.size > MAX_FILE_BYTES {
            return Err(XetError::Shard("a file of more than 5 TiB"));
        }
        let Segment { xorb, chunks, raw_bytes, .. } = segment.clone();
        self.terms.push(Term { xorb, chunks, raw_bytes });
        Ok(())
    }

    /// The file, when its hash is that of its chunks, and it has no more segments than chunks of
    /// the usual size would need.
    pub fn finish(self) -> Result<CheckedFile, XetError> {
        let Self { hash, hasher, size, terms } = self;
        if terms.len() as u64 > size / MIN_CHUNK_BYTES as u64 + FREE_SEGMENTS {
            return Err(XetError::Shard("a file in more segments than its size needs"));
        }
        if hasher.finish() != hash {
            return Err(XetError::FileHash);
        }
        Ok(CheckedFile { hash, size, terms })
    }
}

/// Adds chunks to a list of terms, joining them to the last term where they follow it.
pub fn push_term(terms: &mut Vec<Term>, xorb: XetHash, chunk: u32, raw_bytes: u32) {
    if let Some(last) = terms.last_mut()
        && last.xorb == xorb
        && last.chunks.end == chunk
        && let Some(sum) = last.raw_bytes.checked_add(raw_bytes)
    {
        last.chunks.end += 1;
        last.raw_bytes = sum;
        return;
    }
    terms.push(Term { xorb, chunks: chunk..chunk + 1, raw_bytes });
}

pub fn encode_terms(terms: &[Term]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(terms.len() * TERM_BYTES);
    for term in terms {
        bytes.extend_from_slice(term.xorb.as_bytes());
        for number in [term.chunks.start, term.chunks.end, term.raw_bytes] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
    }
    bytes
}

pub fn decode_terms(bytes: &[u8]) -> Result<Vec<Term>, XetError> {
    terms_of(bytes)?.collect()
}

/// The terms that hold the bytes `range` of a file, and where in the file the first one starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    pub terms: Vec<Term>,
    pub start: u64,
}

/// Decodes only what a range needs; `None` when that is more than `most` terms.
pub fn terms_in(bytes: &[u8], range: &Range<u64>, most: usize) -> Result<Option<Cut>, XetError> {
    let mut cut = Cut { terms: Vec::new(), start: 0 };
    let mut at = 0;
    for term in terms_of(bytes)? {
        let term = term?;
        let (start, end) = (at, at + u64::from(term.raw_bytes));
        at = end;
        if start >= range.end {
            break;
        }
        if end <= range.start {
            continue;
        }
        if cut.terms.is_empty() {
            cut.start = start;
        }
        if cut.terms.len() == most {
            return Ok(None);
        }
        cut.terms.push(term);
    }
    Ok(Some(cut))
}

fn terms_of(bytes: &[u8]) -> Result<impl Iterator<Item = Result<Term, XetError>>, XetError> {
    const DAMAGED: XetError = XetError::Damaged("the terms of a file");
    if !bytes.len().is_multiple_of(TERM_BYTES) {
        return Err(DAMAGED);
    }
    Ok(bytes.chunks_exact(TERM_BYTES).map(|bytes| decode_term(bytes).ok_or(DAMAGED)))
}

fn decode_term(bytes: &[u8]) -> Option<Term> {
    let (xorb, numbers) = bytes.split_at_checked(32)?;
    let mut numbers = numbers.chunks_exact(4).map(|bytes| bytes.try_into().map_or(0, u32::from_le_bytes));
    let (start, end, raw_bytes) = (numbers.next()?, numbers.next()?, numbers.next()?);
    Some(Term { xorb: XetHash::from_slice(xorb).ok()?, chunks: start..end, raw_bytes })
}
