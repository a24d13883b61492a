//! Read buffers that are used again: a fresh 512 KiB buffer would have to be zeroed for every read.
//!
//! A buffer keeps old bytes, so only a completely filled one may become `Bytes` (see `Filling`).

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

/// Bytes of one read of a streamed blob.
pub const CHUNK_BYTES: usize = 512 * 1024;
/// Idle buffers that are kept: 32 MiB.
const IDLE_BUFFERS: usize = 64;

static IDLE: Mutex<Vec<Box<[u8]>>> = Mutex::new(Vec::new());

struct Buffer {
    bytes: Box<[u8]>,
    len: usize,
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.bytes.len() == CHUNK_BYTES {
            let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < IDLE_BUFFERS {
                idle.push(std::mem::take(&mut self.bytes));
            }
        }
    }
}

/// A buffer on its way to being full.
pub(crate) struct Filling {
    buffer: Buffer,
    filled: usize,
}

impl Filling {
    /// Small and very large reads get memory of their own: they would waste, or not fit, a chunk.
    pub fn new(len: usize) -> Self {
        let pooled = (CHUNK_BYTES / 2..=CHUNK_BYTES).contains(&len);
        let idle = || IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let bytes = if pooled {
            idle().unwrap_or_else(|| vec![0; CHUNK_BYTES].into_boxed_slice())
        } else {
            vec![0; len].into_boxed_slice()
        };
        Self { buffer: Buffer { bytes, len }, filled: 0 }
    }

    /// The part that has still to be read.
    pub fn rest(&mut self) -> &mut [u8] {
        self.buffer.bytes.get_mut(self.filled..self.buffer.len).unwrap_or_default()
    }

    pub fn advance(&mut self, bytes: usize) {
        self.filled = self.buffer.len.min(self.filled + bytes);
    }

    pub const fn filled(&self) -> usize {
        self.filled
    }

    pub const fn is_full(&self) -> bool {
        self.filled == self.buffer.len
    }

    /// The bytes, if every one of them was read.
    pub fn finish(self) -> Option<Bytes> {
        self.is_full().then(|| Bytes::from_owner(self.buffer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_that_is_not_full_gives_nothing() {
        let mut filling = Filling::new(4);
        filling.rest().copy_from_slice(b"abcd");
        filling.advance(3);
        assert_eq!((filling.filled(), filling.rest().len()), (3, 1));
        assert!(filling.finish().is_none());
    }

    #[test]
    fn a_used_buffer_shows_only_its_own_length() {
        let mut first = Filling::new(CHUNK_BYTES);
        first.rest().fill(7);
        first.advance(CHUNK_BYTES);
        drop(first.finish());
        let mut second = Filling::new(CHUNK_BYTES - 1);
        second.rest().fill(1);
        second.advance(CHUNK_BYTES - 1);
        let bytes = second.finish().unwrap();
        assert_eq!(bytes.len(), CHUNK_BYTES - 1);
        assert!(bytes.iter().all(|byte| *byte == 1));
    }
}
