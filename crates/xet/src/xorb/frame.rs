//! The head of an LZ4 frame: magic, flags, block size, perhaps lengths, and a checksum of these.
//!
//! Decoders allocate blocks of the size that it names before they look further. No chunk needs
//! more than 256 KiB, but some clients always name the largest size that there is: their frames are
//! read as if they named 256 KiB, and what they really hold is then found out by reading.

use std::borrow::Cow;

const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
/// The code of 256 KiB blocks: the smallest that holds the largest chunk.
const LARGEST_BLOCK: u8 = 5;
/// Where the code stands in the byte after the flags.
const BLOCK_SHIFT: u8 = 4;
const BLOCK_MASK: u8 = 7 << BLOCK_SHIFT;
const HAS_CONTENT_SIZE: u8 = 1 << 3;
const HAS_DICTIONARY: u8 = 1;

/// The same frame, with blocks of 256 KiB at most; `None` when its head is not valid.
pub fn with_small_blocks(data: &[u8]) -> Option<Cow<'_, [u8]>> {
    let rest = data.strip_prefix(&MAGIC)?;
    let [flags, block, ..] = rest else { return None };
    if (block & BLOCK_MASK) >> BLOCK_SHIFT <= LARGEST_BLOCK {
        return Some(Cow::Borrowed(data));
    }
    let mut length = 2;
    length += if flags & HAS_CONTENT_SIZE != 0 { 8 } else { 0 };
    length += if flags & HAS_DICTIONARY != 0 { 4 } else { 0 };
    let (head, tail) = rest.split_at_checked(length)?;
    let (checksum, blocks) = tail.split_first()?;
    // Looked at here, since the decoder sees another head: other readers get this frame as it is.
    if head_checksum(head) != *checksum {
        return None;
    }
    let mut small = [&MAGIC, head].concat();
    *small.get_mut(MAGIC.len() + 1)? = block & !BLOCK_MASK | LARGEST_BLOCK << BLOCK_SHIFT;
    let checksum = head_checksum(small.get(MAGIC.len()..)?);
    small.push(checksum);
    small.extend_from_slice(blocks);
    Some(Cow::Owned(small))
}

/// The second byte of the xxHash of a head.
fn head_checksum(head: &[u8]) -> u8 {
    let [_, second, ..] = short_xxh32(head).to_le_bytes();
    second
}

/// XXH32 with seed 0 of less than 16 bytes: the head of a frame has at most 14.
fn short_xxh32(bytes: &[u8]) -> u32 {
    const PRIMES: [u32; 5] = [0x9e37_79b1, 0x85eb_ca77, 0xc2b2_ae3d, 0x27d4_eb2f, 0x1656_67b1];
    let [first, second, third, fourth, fifth] = PRIMES;
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let (words, rest) = bytes.as_chunks::<4>();
    let mut hash = fifth.wrapping_add(length);
    for word in words {
        let added = hash.wrapping_add(u32::from_le_bytes(*word).wrapping_mul(third));
        hash = added.rotate_left(17).wrapping_mul(fourth);
    }
    for byte in rest {
        let added = hash.wrapping_add(u32::from(*byte).wrapping_mul(fifth));
        hash = added.rotate_left(11).wrapping_mul(first);
    }
    hash = (hash ^ (hash >> 15)).wrapping_mul(second);
    hash = (hash ^ (hash >> 13)).wrapping_mul(third);
    hash ^ (hash >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lz4_flex::frame::{BlockSize, FrameDecoder, FrameEncoder, FrameInfo};
    use std::io::{Read, Write};

    fn frame(size: BlockSize, content_size: bool, text: &[u8]) -> Vec<u8> {
        let info = FrameInfo::new()
            .block_size(size)
            .content_size(content_size.then_some(text.len() as u64))
            .content_checksum(true);
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn read(frame: &[u8]) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        FrameDecoder::new(frame).read_to_end(&mut text).ok().map(|_| text)
    }

    #[test]
    fn frames_of_every_block_size_are_read_with_small_blocks() {
        let text = b"some text, some text, some text".repeat(1000);
        for size in [BlockSize::Max64KB, BlockSize::Max256KB, BlockSize::Max1MB, BlockSize::Max4MB] {
            for content_size in [true, false] {
                let frame = frame(size, content_size, &text);
                let small = with_small_blocks(&frame).unwrap();
                assert!((small[5] & BLOCK_MASK) >> BLOCK_SHIFT <= LARGEST_BLOCK);
                assert_eq!(small.len(), frame.len());
                assert_eq!(read(&small).unwrap(), text);
            }
        }
    }

    #[test]
    fn the_hash_is_that_of_everybody_else() {
        // The second byte of XXH32, as any encoder writes it.
        for content_size in [true, false] {
            let frame = frame(BlockSize::Max4MB, content_size, b"x");
            let length = if content_size { 10 } else { 2 };
            assert_eq!(head_checksum(&frame[4..4 + length]), frame[4 + length]);
        }
        assert_eq!(short_xxh32(b""), 0x02cc_5d05);
        assert_eq!(short_xxh32(b"abc"), 0x32d1_53ff);
    }

    #[test]
    fn heads_that_are_not_valid_are_refused() {
        let good = frame(BlockSize::Max4MB, true, b"x");
        for at in 0..15 {
            let mut bad = good.clone();
            bad[at] ^= 1;
            let read = with_small_blocks(&bad).and_then(|small| read(&small));
            assert_ne!(read.as_deref(), Some(&b"x"[..]), "byte {at}");
        }
        for end in 0..15 {
            assert!(
                with_small_blocks(&good[..end]).is_none_or(|small| read(&small).is_none()),
                "{end} bytes"
            );
        }
    }

    #[test]
    fn blocks_that_are_really_large_are_not_read() {
        let text: Vec<u8> = (0..600_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let frame = frame(BlockSize::Max1MB, false, &text);
        assert!(read(&with_small_blocks(&frame).unwrap()).is_none());
    }
}
