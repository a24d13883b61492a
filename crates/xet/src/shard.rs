//! Shards: what a client says about the files it has uploaded, and our answers to its questions
//! about chunks. All records have 48 bytes.

use bastide_core::limits::MAX_SHARD_BYTES;
use bastide_core::{Sha256, XetHash};
use std::ops::Range;

use crate::XetError;
use crate::hash::{dedup_key, is_dedup_eligible};
use crate::xorb::XorbIndex;

const RECORD: usize = 48;
const FOOTER_BYTES: u64 = 200;
const HEADER_VERSION: u64 = 2;
const FOOTER_VERSION: u64 = 1;
const MARK: [u8; 32] = [
    b'H', b'F', b'R', b'e', b'p', b'o', b'M', b'e', b't', b'a', b'D', b'a', b't', b'a', 0, 85, 105, 103, 69,
    106, 123, 129, 87, 131, 165, 189, 217, 92, 205, 209, 74, 169,
];
const BOOKEND: [u8; 32] = [0xff; 32];
const WITH_PROOFS: u32 = 1 << 31;
const WITH_SHA256: u32 = 1 << 30;
const DEDUP_FLAG: u32 = 1 << 31;

/// Chunks of one xorb that follow each other in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    pub xorb: XetHash,
    pub chunks: Range<u32>,
    pub raw_bytes: u32,
    pub proof: XetHash,
}

/// A file as a client describes it: claims, all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardFile {
    pub hash: XetHash,
    pub segments: Vec<Segment>,
    pub sha256: Option<Sha256>,
}

struct Records<'a>(&'a [u8]);

impl<'a> Records<'a> {
    fn next(&mut self) -> Result<&'a [u8; RECORD], XetError> {
        let (record, rest) = self.0.split_first_chunk().ok_or(XetError::Shard("it ends too early"))?;
        self.0 = rest;
        Ok(record)
    }

    const fn left(&self) -> usize {
        self.0.len() / RECORD
    }
}

/// The parts of a record: a hash and four numbers.
fn split(record: &[u8; RECORD]) -> (XetHash, [u32; 4]) {
    let mut hash = [0; 32];
    hash.iter_mut().zip(record).for_each(|(to, from)| *to = *from);
    let mut numbers = [0; 4];
    for (number, bytes) in numbers.iter_mut().zip(record.get(32..).unwrap_or_default().chunks_exact(4)) {
        *number = bytes.try_into().map_or(0, u32::from_le_bytes);
    }
    (XetHash::from_bytes(hash), numbers)
}

/// The files of a shard. The section about xorbs is only checked for its form: what xorbs hold we
/// know from their own bytes.
pub fn parse(bytes: &[u8]) -> Result<Vec<ShardFile>, XetError> {
    if bytes.len() > MAX_SHARD_BYTES {
        return Err(XetError::Shard("more than 64 MiB"));
    }
    let mut records = Records(bytes);
    let header = records.next()?;
    if header.get(..32) != Some(&MARK[..]) || header.get(32..40) != Some(&HEADER_VERSION.to_le_bytes()[..]) {
        return Err(XetError::Shard("it does not start like one"));
    }
    let mut files = Vec::new();
    loop {
        let (hash, [flags, count, ..]) = split(records.next()?);
        if *hash.as_bytes() == BOOKEND {
            break;
        }
        files.push(file(&mut records, hash, flags, count)?);
    }
    skip_xorbs(&mut records)?;
    Ok(files)
}

fn file(records: &mut Records<'_>, hash: XetHash, flags: u32, count: u32) -> Result<ShardFile, XetError> {
    let count = count as usize;
    if flags & WITH_PROOFS == 0 {
        return Err(XetError::Shard("a file without verification entries"));
    }
    if count == 0 {
        return Err(XetError::Shard("a file without segments"));
    }
    // Before anything is allocated: are there that many records at all?
    if count > records.left() / 2 {
        return Err(XetError::Shard("a file with more segments than the shard holds"));
    }
    let mut segments = Vec::with_capacity(count);
    for _ in 0..count {
        let (xorb, [_, raw_bytes, start, end]) = split(records.next()?);
        segments.push(Segment { xorb, chunks: start..end, raw_bytes, proof: XetHash::from_bytes([0; 32]) });
    }
    for segment in &mut segments {
        segment.proof = split(records.next()?).0;
    }
    let sha256 = (flags & WITH_SHA256 != 0).then(|| records.next().map(sha256)).transpose()?;
    Ok(ShardFile { hash, segments, sha256 })
}

/// A SHA-256 is stored word by word like every other hash here: its text form is the real one.
fn sha256(record: &[u8; RECORD]) -> Sha256 {
    let mut digest = *split(record).0.as_bytes();
    digest.chunks_exact_mut(8).for_each(<[u8]>::reverse);
    Sha256::from_bytes(digest)
}

fn skip_xorbs(records: &mut Records<'_>) -> Result<(), XetError> {
    loop {
        let (hash, [_, count, ..]) = split(records.next()?);
        if *hash.as_bytes() == BOOKEND {
            return Ok(());
        }
        if count as usize > records.left() {
            return Err(XetError::Shard("a xorb with more chunks than the shard holds"));
        }
        for _ in 0..count {
            records.next()?;
        }
    }
}

/// An answer to "who has this chunk?": the xorbs that the caller may use, their chunks' hashes
/// under a key of this answer alone.
pub fn dedup_answer(xorbs: &[&XorbIndex], key: &[u8; 32], now: u64, expiry: u64) -> Vec<u8> {
    let mut out = Writer::default();
    out.bytes(&MARK).u64(HEADER_VERSION).u64(FOOTER_BYTES);
    let files_at = out.at();
    out.bytes(&BOOKEND).u64(0).u64(0);
    let xorbs_at = out.at();
    let (mut raw, mut stored) = (0, 0);
    for xorb in xorbs {
        raw += u64::from(xorb.raw_bytes());
        stored += u64::from(xorb.stored_bytes());
        out.xorb(xorb, key);
    }
    out.bytes(&BOOKEND).u64(0).u64(0);
    let end = out.at();
    out.u64(FOOTER_VERSION).u64(files_at).u64(xorbs_at);
    // Three look-up tables, all empty.
    out.u64(end).u64(0).u64(end).u64(0).u64(end).u64(0);
    out.bytes(key).u64(now).u64(expiry);
    out.bytes(&[0; 48]).u64(stored).u64(0).u64(raw).u64(end);
    out.0
}

#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn at(&self) -> u64 {
        self.0.len() as u64
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u32(&mut self, number: u32) -> &mut Self {
        self.bytes(&number.to_le_bytes())
    }

    fn u64(&mut self, number: u64) -> &mut Self {
        self.bytes(&number.to_le_bytes())
    }

    fn xorb(&mut self, xorb: &XorbIndex, key: &[u8; 32]) {
        self.bytes(xorb.hash.as_bytes())
            .u32(0)
            .u32(xorb.chunk_count())
            .u32(xorb.raw_bytes())
            .u32(xorb.stored_bytes());
        let mut start = 0;
        for chunk in &xorb.chunks {
            let flags = if is_dedup_eligible(&chunk.hash) { DEDUP_FLAG } else { 0 };
            self.bytes(dedup_key(&chunk.hash, key).as_bytes());
            self.u32(start).u32(chunk.raw_end - start).u32(flags).u32(0);
            start = chunk.raw_end;
        }
    }
}
