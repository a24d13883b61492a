//! Xorbs: up to 8,192 chunks in one object. On the wire and on disk a xorb is the sequence of its
//! chunks, each an 8-byte header and its (compressed) data; where they are is our own index.
//!
//! Header: version (0), compressed length (3 bytes, little-endian), scheme, raw length (3 bytes).
//! Schemes: 0 none, 1 LZ4 frame, 2 bytes in four groups and then an LZ4 frame.

mod frame;

use std::io::{Cursor, Read};
use std::ops::Range;

use bastide_core::XetHash;
use bastide_core::limits::{MAX_CHUNK_BYTES, MAX_STORED_XORB_BYTES, MAX_XORB_BYTES, MAX_XORB_CHUNKS};
use bytes::Bytes;
use lz4_flex::frame::{FrameDecoder, FrameEncoder};

use crate::XetError;
use crate::hash::{chunk_hash, range_proof, xorb_hash};

pub const HEADER_BYTES: usize = 8;
/// Data that does not compress may grow a little; the format allows twice the largest chunk.
const MAX_COMPRESSED_BYTES: usize = 2 * MAX_CHUNK_BYTES;
/// A footer of the client's own may follow the chunks: it starts with this and is cut off.
const FOOTER_MARK: &[u8; 7] = b"XETBLOB";
const INDEX_MARK: &[u8; 4] = b"BXI1";
const INDEX_ENTRY_BYTES: usize = 40;
/// Compression has to save at least one byte in so many, or the chunk is kept as it is.
const WORTHWHILE: usize = 16;

/// One chunk's place in its xorb.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkInfo {
    pub hash: XetHash,
    /// Where its header and data end in the stored bytes.
    pub end: u32,
    /// Where it ends in the raw bytes.
    pub raw_end: u32,
}

/// Where the chunks of a xorb are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XorbIndex {
    pub hash: XetHash,
    pub chunks: Vec<ChunkInfo>,
}

impl XorbIndex {
    fn new(chunks: Vec<ChunkInfo>) -> Self {
        let mut before = 0;
        let lens = chunks.iter().map(|chunk| {
            let len = u64::from(chunk.raw_end - before);
            before = chunk.raw_end;
            (chunk.hash, len)
        });
        Self { hash: xorb_hash(lens), chunks }
    }

    pub fn chunk_count(&self) -> u32 {
        u32::try_from(self.chunks.len()).unwrap_or(u32::MAX)
    }

    pub fn stored_bytes(&self) -> u32 {
        self.chunks.last().map_or(0, |chunk| chunk.end)
    }

    pub fn raw_bytes(&self) -> u32 {
        self.chunks.last().map_or(0, |chunk| chunk.raw_end)
    }

    /// The chunks of a range; `None` when it is empty, turned round or too long.
    pub fn chunks(&self, range: &Range<u32>) -> Option<&[ChunkInfo]> {
        let chunks = self.chunks.get(range.start as usize..range.end as usize)?;
        (!chunks.is_empty()).then_some(chunks)
    }

    /// Where a range of chunks is in the stored bytes.
    pub fn stored_range(&self, range: &Range<u32>) -> Option<Range<u64>> {
        let end = self.chunks(range)?.last()?.end;
        let start = range.start.checked_sub(1).and_then(|before| self.chunks.get(before as usize));
        Some(start.map_or(0, |before| u64::from(before.end))..u64::from(end))
    }

    /// Where a range of chunks is in the raw bytes.
    pub fn raw_range(&self, range: &Range<u32>) -> Option<Range<u64>> {
        let end = self.chunks(range)?.last()?.raw_end;
        let start = range.start.checked_sub(1).and_then(|before| self.chunks.get(before as usize));
        Some(start.map_or(0, |before| u64::from(before.raw_end))..u64::from(end))
    }

    pub fn proof(&self, range: &Range<u32>) -> Option<XetHash> {
        Some(range_proof(self.chunks(range)?.iter().map(|chunk| &chunk.hash)))
    }

    /// The stored form: mark, xorb hash, then 40 bytes a chunk.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(36 + self.chunks.len() * INDEX_ENTRY_BYTES);
        bytes.extend_from_slice(INDEX_MARK);
        bytes.extend_from_slice(self.hash.as_bytes());
        for chunk in &self.chunks {
            bytes.extend_from_slice(chunk.hash.as_bytes());
            bytes.extend_from_slice(&chunk.end.to_le_bytes());
            bytes.extend_from_slice(&chunk.raw_end.to_le_bytes());
        }
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, XetError> {
        let damaged = || XetError::Damaged("the index of a xorb");
        let rest = bytes.strip_prefix(INDEX_MARK).ok_or_else(damaged)?;
        let (hash, entries) = rest.split_at_checked(32).ok_or_else(damaged)?;
        if !entries.len().is_multiple_of(INDEX_ENTRY_BYTES) {
            return Err(damaged());
        }
        let chunks = entries.chunks_exact(INDEX_ENTRY_BYTES).map(|entry| {
            let (hash, ends) = entry.split_at_checked(32)?;
            let (end, raw_end) = ends.split_at_checked(4)?;
            Some(ChunkInfo {
                hash: XetHash::from_slice(hash).ok()?,
                end: u32::from_le_bytes(end.try_into().ok()?),
                raw_end: u32::from_le_bytes(raw_end.try_into().ok()?),
            })
        });
        let chunks = chunks.collect::<Option<Vec<_>>>().ok_or_else(damaged)?;
        // Everything that is computed from an index relies on this.
        let rising = chunks.is_sorted_by(|a, b| a.end < b.end && a.raw_end < b.raw_end);
        if !rising || chunks.len() > MAX_XORB_CHUNKS || chunks.first().is_none_or(|first| first.raw_end == 0)
        {
            return Err(damaged());
        }
        Ok(Self { hash: XetHash::from_slice(hash).map_err(|_| damaged())?, chunks })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    None,
    Lz4,
    GroupedLz4,
}

#[derive(Debug, Clone, Copy)]
struct Header {
    scheme: Scheme,
    compressed: usize,
    raw: usize,
}

impl Header {
    fn parse(bytes: [u8; HEADER_BYTES]) -> Result<Self, XetError> {
        let [version, c0, c1, c2, scheme, r0, r1, r2] = bytes;
        let scheme = match scheme {
            0 => Scheme::None,
            1 => Scheme::Lz4,
            2 => Scheme::GroupedLz4,
            _ => return Err(XetError::Xorb("unknown compression")),
        };
        let compressed = u32::from_le_bytes([c0, c1, c2, 0]) as usize;
        let raw = u32::from_le_bytes([r0, r1, r2, 0]) as usize;
        if version != 0 {
            return Err(XetError::Xorb("unknown version of a chunk"));
        }
        if raw == 0 || raw > MAX_CHUNK_BYTES || compressed == 0 || compressed > MAX_COMPRESSED_BYTES {
            return Err(XetError::Xorb("a chunk of impossible length"));
        }
        if scheme == Scheme::None && compressed != raw {
            return Err(XetError::Xorb("a chunk whose lengths disagree"));
        }
        Ok(Self { scheme, compressed, raw })
    }

    fn bytes(scheme: Scheme, compressed: usize, raw: usize) -> [u8; HEADER_BYTES] {
        let low = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes();
        let ([c0, c1, c2, _], [r0, r1, r2, _]) = (low(compressed), low(raw));
        [0, c0, c1, c2, scheme as u8, r0, r1, r2]
    }
}

/// Walks a xorb that somebody sent: every header, every byte. Answers the index and the length of
/// the chunk sequence, without a footer that may follow it.
pub fn validate(reader: impl Read, expected: &XetHash) -> Result<(XorbIndex, u64), XetError> {
    let mut reader = Walk { reader, at: 0 };
    let mut chunks: Vec<ChunkInfo> = Vec::new();
    let mut data = Vec::with_capacity(MAX_CHUNK_BYTES);
    let mut raw_total = 0;
    while let Some(header) = reader.header()? {
        if chunks.len() == MAX_XORB_CHUNKS {
            return Err(XetError::Xorb("more than 8192 chunks"));
        }
        reader.fill(&mut data, header.compressed)?;
        let hash = match header.scheme {
            Scheme::None => chunk_hash(&data),
            Scheme::Lz4 | Scheme::GroupedLz4 => chunk_hash(&decompress(header, &data)?),
        };
        raw_total += header.raw;
        if raw_total > MAX_XORB_BYTES {
            return Err(XetError::Xorb("more than 64 MiB of content"));
        }
        let raw_end = u32::try_from(raw_total).map_err(|_| XetError::Xorb("too long"))?;
        let end = u32::try_from(reader.at).map_err(|_| XetError::Xorb("too long"))?;
        chunks.push(ChunkInfo { hash, end, raw_end });
    }
    if chunks.is_empty() {
        return Err(XetError::Xorb("no chunks"));
    }
    let index = XorbIndex::new(chunks);
    if index.hash != *expected {
        return Err(XetError::XorbHash);
    }
    let stored = index.stored_bytes().into();
    Ok((index, stored))
}

struct Walk<R> {
    reader: R,
    at: usize,
}

impl<R: Read> Walk<R> {
    /// The next header; `None` at the end or at a footer.
    fn header(&mut self) -> Result<Option<Header>, XetError> {
        let mut bytes = [0; HEADER_BYTES];
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.reader.read(rest).map_err(|error| XetError::Read(error.to_string()))? {
                0 if filled == 0 => return Ok(None),
                0 => return Err(XetError::Xorb("it ends inside a chunk's header")),
                read => filled += read,
            }
        }
        if bytes.starts_with(FOOTER_MARK) {
            return Ok(None);
        }
        let header = Header::parse(bytes)?;
        self.at += HEADER_BYTES + header.compressed;
        if self.at > MAX_STORED_XORB_BYTES {
            return Err(XetError::Xorb("more than 64 MiB and its headers"));
        }
        Ok(Some(header))
    }

    fn fill(&mut self, data: &mut Vec<u8>, len: usize) -> Result<(), XetError> {
        data.clear();
        let taken = self.reader.by_ref().take(len as u64).read_to_end(data);
        match taken.map_err(|error| XetError::Read(error.to_string()))? {
            read if read == len => Ok(()),
            _ => Err(XetError::Xorb("it ends inside a chunk")),
        }
    }
}

/// Exactly the declared bytes, from exactly the given frame: a bomb stops at the first byte too
/// many, and padding is refused, so that one hash has one form.
fn decompress(header: Header, data: &[u8]) -> Result<Vec<u8>, XetError> {
    let bad = XetError::Xorb("a chunk that does not decompress to its length");
    let data = frame::with_small_blocks(data).ok_or_else(|| bad.clone())?;
    let mut decoder = FrameDecoder::new(Cursor::new(&*data));
    let mut raw = vec![0; header.raw];
    decoder.read_exact(&mut raw).map_err(|_| bad.clone())?;
    let mut more = [0];
    let ends = matches!(decoder.read(&mut more), Ok(0));
    let used = decoder.get_ref().position();
    if !ends || used != data.len() as u64 {
        return Err(bad);
    }
    Ok(if header.scheme == Scheme::GroupedLz4 { ungroup(&raw) } else { raw })
}

/// Undoes the grouping: all first bytes of four, then all second ones, and so on.
fn ungroup(groups: &[u8]) -> Vec<u8> {
    let (quarter, rest) = (groups.len() / 4, groups.len() % 4);
    let len = |group: usize| quarter + usize::from(group < rest);
    let mut tail = groups;
    let mut take = |len: usize| {
        let (head, rest) = tail.split_at_checked(len).unwrap_or((tail, &[]));
        tail = rest;
        head
    };
    let (first, second, third, fourth) = (take(len(0)), take(len(1)), take(len(2)), take(len(3)));
    let mut raw = Vec::with_capacity(groups.len());
    for (((first, second), third), fourth) in first.iter().zip(second).zip(third).zip(fourth) {
        raw.extend_from_slice(&[*first, *second, *third, *fourth]);
    }
    // Up to three groups have one byte more.
    let last = [first, second, third].into_iter().filter_map(|group| group.get(quarter));
    raw.extend(last);
    raw
}

/// The raw bytes of the chunk at the start of `stored`, which is advanced past it. For reading
/// what was validated when it came: nothing is hashed, lengths are still not trusted.
pub fn decode_chunk(stored: &mut Bytes) -> Result<Bytes, XetError> {
    let damaged = XetError::Damaged("a xorb");
    let header = stored.get(..HEADER_BYTES).and_then(|bytes| bytes.try_into().ok());
    let header = Header::parse(header.ok_or_else(|| damaged.clone())?)?;
    let end = HEADER_BYTES + header.compressed;
    if stored.len() < end {
        return Err(damaged);
    }
    let data = stored.split_to(end).split_off(HEADER_BYTES);
    match header.scheme {
        Scheme::None => Ok(data),
        Scheme::Lz4 | Scheme::GroupedLz4 => Ok(decompress(header, &data)?.into()),
    }
}

/// Puts chunks together to a xorb of ours.
#[derive(Default)]
pub struct Builder {
    chunks: Vec<ChunkInfo>,
    stored: usize,
    raw: u32,
}

/// The bytes of one chunk to write: its header, and its data as it is stored.
pub struct Encoded {
    pub header: [u8; HEADER_BYTES],
    pub data: Bytes,
}

impl Builder {
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// True when another chunk of any size might not fit.
    pub fn is_full(&self) -> bool {
        let largest = HEADER_BYTES + MAX_CHUNK_BYTES;
        self.chunks.len() == MAX_XORB_CHUNKS
            || self.stored + largest > MAX_XORB_BYTES
            || self.raw as usize + largest > MAX_XORB_BYTES
    }

    /// Takes a chunk; answers its hash, its number and the bytes to write.
    pub fn push(&mut self, raw: Bytes) -> (XetHash, u32, Encoded) {
        let hash = chunk_hash(&raw);
        let number = u32::try_from(self.chunks.len()).unwrap_or(u32::MAX);
        let encoded = encode(raw.clone());
        self.stored += HEADER_BYTES + encoded.data.len();
        self.raw += u32::try_from(raw.len()).unwrap_or(0);
        let end = u32::try_from(self.stored).unwrap_or(u32::MAX);
        self.chunks.push(ChunkInfo { hash, end, raw_end: self.raw });
        (hash, number, encoded)
    }

    pub fn finish(self) -> XorbIndex {
        XorbIndex::new(self.chunks)
    }
}

/// LZ4 where it pays.
fn encode(raw: Bytes) -> Encoded {
    use std::io::Write;
    let mut encoder = FrameEncoder::new(Vec::with_capacity(raw.len()));
    let packed = encoder.write_all(&raw).ok().and_then(|()| encoder.finish().ok());
    match packed.filter(|packed| packed.len() + raw.len() / WORTHWHILE < raw.len()) {
        Some(packed) => {
            Encoded { header: Header::bytes(Scheme::Lz4, packed.len(), raw.len()), data: packed.into() }
        }
        None => Encoded { header: Header::bytes(Scheme::None, raw.len(), raw.len()), data: raw },
    }
}
