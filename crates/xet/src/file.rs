//! Files as lists of terms: checking what a shard claims, and the form in which a file is kept.

use std::ops::Range;

use bastide_core::XetHash;
use bastide_core::limits::MAX_FILE_BYTES;

use crate::XetError;
use crate::hash::FileHasher;
use crate::shard::ShardFile;
use crate::xorb::XorbIndex;

const TERM_BYTES: usize = 44;
/// Chunks that the files of one shard may have together, repeated ones counted each time: 1 TiB of
/// chunks of the usual size. Without it, a small shard could ask for hours of hashing.
pub const MAX_SHARD_CHUNKS: u64 = 1 << 24;

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
    let mut hasher = FileHasher::default();
    let mut size = 0u64;
    let mut terms = Vec::with_capacity(file.segments.len());
    for segment in &file.segments {
        let xorb = index(&segment.xorb).ok_or(XetError::UnknownChunks)?;
        let count = xorb.chunks(&segment.chunks).ok_or(XetError::UnknownChunks)?.len() as u64;
        *budget = budget.checked_sub(count).ok_or(XetError::Shard("its files have too many chunks"))?;
        if xorb.proof(&segment.chunks) != Some(segment.proof) {
            return Err(XetError::UnknownChunks);
        }
        let raw = xorb.raw_range(&segment.chunks).ok_or(XetError::UnknownChunks)?;
        if raw.end - raw.start != u64::from(segment.raw_bytes) {
            return Err(XetError::Shard("a segment whose length is not that of its chunks"));
        }
        let mut before = raw.start;
        for chunk in xorb.chunks(&segment.chunks).unwrap_or_default() {
            hasher.push(chunk.hash, u64::from(chunk.raw_end) - before);
            before = chunk.raw_end.into();
        }
        size += u64::from(segment.raw_bytes);
        if size > MAX_FILE_BYTES {
            return Err(XetError::Shard("a file of more than 5 TiB"));
        }
        terms.push(Term { xorb: segment.xorb, chunks: segment.chunks.clone(), raw_bytes: segment.raw_bytes });
    }
    if hasher.finish() != file.hash {
        return Err(XetError::FileHash);
    }
    Ok(CheckedFile { hash: file.hash, size, terms })
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
    let damaged = XetError::Damaged("the terms of a file");
    let term = |bytes: &[u8]| {
        let (xorb, numbers) = bytes.split_at_checked(32)?;
        let mut numbers = numbers.chunks_exact(4).map(|bytes| bytes.try_into().map_or(0, u32::from_le_bytes));
        let (start, end, raw_bytes) = (numbers.next()?, numbers.next()?, numbers.next()?);
        Some(Term { xorb: XetHash::from_slice(xorb).ok()?, chunks: start..end, raw_bytes })
    };
    if !bytes.len().is_multiple_of(TERM_BYTES) {
        return Err(damaged);
    }
    bytes.chunks_exact(TERM_BYTES).map(term).collect::<Option<_>>().ok_or(damaged)
}
