//! Reconstruction: which bytes of which xorbs make a range of a file.

use std::collections::BTreeMap;
use std::ops::Range;

use bastide_core::XetHash;
use serde::Serialize;

use crate::XetError;
use crate::file::Term;
use crate::xorb::XorbIndex;

/// Stored bytes that hold whole chunks, and which of their raw bytes are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    pub xorb: XetHash,
    pub chunks: Range<u32>,
    pub stored: Range<u64>,
    /// Raw bytes to leave out at the start.
    pub skip: u64,
    /// Raw bytes to take after that.
    pub take: u64,
}

/// The size of a file.
pub fn size(terms: &[Term]) -> u64 {
    terms.iter().map(|term| u64::from(term.raw_bytes)).sum()
}

/// The terms that a range of a file touches, each with what is wanted of it.
fn touched<'t>(terms: &'t [Term], range: &Range<u64>) -> impl Iterator<Item = (&'t Term, Range<u64>)> {
    let (range, mut at) = (range.clone(), 0);
    terms.iter().filter_map(move |term| {
        let (start, end) = (at, at + u64::from(term.raw_bytes));
        at = end;
        let wanted = range.start.max(start)..range.end.min(end);
        (wanted.start < wanted.end).then(|| (term, wanted.start - start..wanted.end - start))
    })
}

/// The pieces that make the bytes `range` of a file, in order. Empty ranges have none.
pub fn pieces<'a>(
    terms: &[Term],
    range: &Range<u64>,
    mut index: impl FnMut(&XetHash) -> Option<&'a XorbIndex>,
) -> Result<Vec<Piece>, XetError> {
    let mut pieces = Vec::new();
    for (term, wanted) in touched(terms, range) {
        let xorb = index(&term.xorb).ok_or(XetError::Damaged("a file's xorb is missing"))?;
        pieces.push(
            piece(term, xorb, &wanted).ok_or(XetError::Damaged("a file's term is outside of its xorb"))?,
        );
    }
    Ok(pieces)
}

/// The chunks of a term that hold the raw bytes `wanted`, which count from the term's start.
fn piece(term: &Term, xorb: &XorbIndex, wanted: &Range<u64>) -> Option<Piece> {
    let raw = xorb.raw_range(&term.chunks)?;
    let chunks = xorb.chunks(&term.chunks)?;
    let (from, to) = (raw.start + wanted.start, raw.start + wanted.end);
    let first = chunks.partition_point(|chunk| u64::from(chunk.raw_end) <= from);
    let last = chunks.partition_point(|chunk| u64::from(chunk.raw_end) < to);
    let number =
        |offset: usize| u32::try_from(offset).ok().and_then(|offset| term.chunks.start.checked_add(offset));
    let range = number(first)?..number(last)?.checked_add(1)?.min(term.chunks.end);
    let held = xorb.raw_range(&range)?;
    Some(Piece {
        xorb: term.xorb,
        stored: xorb.stored_range(&range)?,
        chunks: range,
        skip: from - held.start,
        take: to - from,
    })
}

/// A half-open range of chunks, as the protocol has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ChunkRange {
    pub start: u32,
    pub end: u32,
}

/// A range of bytes whose end is part of it, as HTTP has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ByteRange {
    pub start: u64,
    pub end: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WireTerm {
    pub hash: XetHash,
    pub unpacked_length: u64,
    pub range: ChunkRange,
}

/// Bytes to fetch: every term lies within one such descriptor of its xorb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fetch {
    pub chunks: ChunkRange,
    pub bytes: ByteRange,
}

/// What a client needs to put a range of a file together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub offset_into_first_range: u64,
    pub terms: Vec<WireTerm>,
    pub fetches: BTreeMap<XetHash, Vec<Fetch>>,
}

/// Plans the bytes `range` of a file (clipped at its end); the whole file without a range.
pub fn plan<'a>(
    terms: &[Term],
    range: Option<Range<u64>>,
    mut index: impl FnMut(&XetHash) -> Option<&'a XorbIndex>,
) -> Result<Plan, XetError> {
    let range = clip(range, size(terms))?;
    let Outline { offset_into_first_range, terms, wanted } = outline(terms, &range, &mut index)?;
    let mut planned = BTreeMap::new();
    for (hash, ranges) in wanted {
        let xorb = index(&hash).ok_or(XetError::Damaged("a file's xorb is missing"))?;
        planned.insert(hash, fetches(ranges, xorb)?);
    }
    Ok(Plan { offset_into_first_range, terms, fetches: planned })
}

/// A range within a file of `size` bytes; the whole file without one.
pub fn clip(range: Option<Range<u64>>, size: u64) -> Result<Range<u64>, XetError> {
    match range {
        None => Ok(0..size),
        Some(range) if range.start >= size || range.end <= range.start => Err(XetError::Range(size)),
        Some(range) => Ok(range.start..range.end.min(size)),
    }
}

/// A plan whose chunks have not been looked up yet: for that, each xorb is needed once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    pub offset_into_first_range: u64,
    pub terms: Vec<WireTerm>,
    pub wanted: BTreeMap<XetHash, Vec<Range<u32>>>,
}

/// The terms of a range. Needs the indexes of the first and the last of them only: those between
/// are wanted whole.
pub fn outline<'a>(
    terms: &[Term],
    range: &Range<u64>,
    mut index: impl FnMut(&XetHash) -> Option<&'a XorbIndex>,
) -> Result<Outline, XetError> {
    let mut found = Outline { offset_into_first_range: 0, terms: Vec::new(), wanted: BTreeMap::new() };
    for (term, wanted) in touched(terms, range) {
        let (chunks, unpacked_length) = if wanted == (0..term.raw_bytes.into()) {
            (term.chunks.clone(), term.raw_bytes.into())
        } else {
            let xorb = index(&term.xorb).ok_or(XetError::Damaged("a file's xorb is missing"))?;
            let outside = || XetError::Damaged("a file's term is outside of its xorb");
            let piece = piece(term, xorb, &wanted).ok_or_else(outside)?;
            if found.terms.is_empty() {
                found.offset_into_first_range = piece.skip;
            }
            let raw = xorb.raw_range(&piece.chunks).ok_or_else(outside)?;
            (piece.chunks, raw.end - raw.start)
        };
        let range = ChunkRange { start: chunks.start, end: chunks.end };
        found.terms.push(WireTerm { hash: term.xorb, unpacked_length, range });
        found.wanted.entry(term.xorb).or_default().push(chunks);
    }
    Ok(found)
}

/// Where the chunks of a xorb are, those that touch each other in one piece.
pub fn fetches(ranges: Vec<Range<u32>>, xorb: &XorbIndex) -> Result<Vec<Fetch>, XetError> {
    let found = coalesce(ranges).into_iter().map(|chunks| fetch(xorb, &chunks));
    found.collect::<Option<_>>().ok_or(XetError::Damaged("a term outside of its xorb"))
}

fn fetch(xorb: &XorbIndex, chunks: &Range<u32>) -> Option<Fetch> {
    let stored = xorb.stored_range(chunks)?;
    Some(Fetch {
        chunks: ChunkRange { start: chunks.start, end: chunks.end },
        bytes: ByteRange { start: stored.start, end: stored.end - 1 },
    })
}

/// Joins ranges that overlap or touch.
fn coalesce(mut ranges: Vec<Range<u32>>) -> Vec<Range<u32>> {
    ranges.sort_by_key(|range| range.start);
    let mut joined: Vec<Range<u32>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match joined.last_mut().filter(|last| range.start <= last.end) {
            Some(last) => last.end = last.end.max(range.end),
            None => joined.push(range),
        }
    }
    joined
}
