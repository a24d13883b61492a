//! Content-defined chunking, at the very boundaries that the stock client finds.

use bytes::{Bytes, BytesMut};
use gearhash::Hasher;

pub const MIN_CHUNK_BYTES: usize = 8 * 1024;
pub const MAX_CHUNK_BYTES: usize = bastide_core::limits::MAX_CHUNK_BYTES;
/// A boundary is where the rolling hash has these bits clear: one place in 64 KiB.
const MASK: u64 = 0xffff_0000_0000_0000;
/// Bytes that the rolling hash remembers.
const WINDOW: usize = 64;

/// Cuts a stream into chunks. Its memory is one chunk and what was pushed last.
pub struct Chunker {
    hasher: Hasher<'static>,
    buffer: BytesMut,
    scanned: usize,
}

impl Default for Chunker {
    fn default() -> Self {
        Self { hasher: Hasher::default(), buffer: BytesMut::with_capacity(2 * MAX_CHUNK_BYTES), scanned: 0 }
    }
}

impl Chunker {
    pub fn push(&mut self, data: &[u8]) {
        self.buffer.extend_from_slice(data);
    }

    /// The next whole chunk, if one has come together.
    pub fn next_chunk(&mut self) -> Option<Bytes> {
        // Nothing before the shortest chunk matters, but for what the hash remembers.
        let mut at = self.scanned.max(MIN_CHUNK_BYTES - WINDOW - 1);
        let limit = self.buffer.len().min(MAX_CHUNK_BYTES);
        while let Some(rest) = self.buffer.get(at..limit).filter(|rest| !rest.is_empty()) {
            match self.hasher.next_match(rest, MASK) {
                Some(found) => {
                    at += found;
                    if at >= MIN_CHUNK_BYTES {
                        return Some(self.cut(at));
                    }
                }
                None => at = limit,
            }
        }
        if limit == MAX_CHUNK_BYTES {
            return Some(self.cut(MAX_CHUNK_BYTES));
        }
        if limit > self.scanned {
            self.scanned = at.min(limit).max(self.scanned);
        }
        None
    }

    /// What is left after the last push.
    pub fn finish(&mut self) -> Option<Bytes> {
        (!self.buffer.is_empty()).then(|| self.cut(self.buffer.len()))
    }

    fn cut(&mut self, len: usize) -> Bytes {
        self.hasher.set_hash(0);
        self.scanned = 0;
        self.buffer.split_to(len).freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The rule of the protocol, byte by byte.
    fn reference(data: &[u8]) -> Vec<usize> {
        let (mut lens, mut start, mut hash) = (Vec::new(), 0, 0u64);
        for (at, byte) in data.iter().enumerate() {
            hash = (hash << 1).wrapping_add(gearhash::DEFAULT_TABLE[usize::from(*byte)]);
            let len = at + 1 - start;
            if len >= MIN_CHUNK_BYTES && hash & MASK == 0 || len == MAX_CHUNK_BYTES {
                lens.push(len);
                (start, hash) = (at + 1, 0);
            }
        }
        if start < data.len() {
            lens.push(data.len() - start);
        }
        lens
    }

    fn cut(data: &[u8], push: usize) -> Vec<usize> {
        let mut chunker = Chunker::default();
        let mut lens = Vec::new();
        for part in data.chunks(push) {
            chunker.push(part);
            while let Some(chunk) = chunker.next_chunk() {
                lens.push(chunk.len());
            }
        }
        lens.extend(chunker.finish().map(|chunk| chunk.len()));
        lens
    }

    fn noise(len: usize, seed: u64) -> Vec<u8> {
        let mut state = seed | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        };
        (0..len).map(|_| next()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn boundaries_do_not_depend_on_how_bytes_arrive(len in 0usize..600_000, push in 1usize..200_000, seed: u64) {
            let data = noise(len, seed);
            prop_assert_eq!(cut(&data, push), reference(&data));
        }
    }

    #[test]
    fn constant_bytes_are_cut_at_the_maximum() {
        assert_eq!(cut(&vec![0; 300_000], 4096), reference(&vec![0; 300_000]));
        assert!(cut(&[], 1).is_empty());
    }
}
