//! Against the reference implementation, and against those who would cheat.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod attacks;
mod oracle;

use bastide_core::XetHash;
use bastide_xet::xorb::{Builder, XorbIndex};
use bytes::Bytes;

/// Bytes without a pattern, the same for one seed.
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[4]
    };
    (0..len).map(|_| next()).collect()
}

/// A xorb of ours over these chunks.
pub fn build(chunks: &[Vec<u8>]) -> (XorbIndex, Vec<u8>) {
    let mut builder = Builder::default();
    let mut bytes = Vec::new();
    for chunk in chunks {
        let (_, _, encoded) = builder.push(Bytes::copy_from_slice(chunk));
        bytes.extend_from_slice(&encoded.header);
        bytes.extend_from_slice(&encoded.data);
    }
    (builder.finish(), bytes)
}

/// Chunks that compress well, badly and not at all.
pub fn mixed_chunks() -> Vec<Vec<u8>> {
    let floats: Vec<u8> = (0..20_000u32).flat_map(|n| (n as f32 / 7.0).to_le_bytes()).collect();
    vec![noise(9_000, 1), vec![7; 100_000], floats, b"x".to_vec(), noise(131_072, 2)]
}

pub fn zero() -> XetHash {
    XetHash::from_bytes([0; 32])
}
