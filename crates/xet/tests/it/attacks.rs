//! Inputs that lie. None may be accepted, none may panic or take much.

use std::io::Write;

use bastide_core::limits::{MAX_CHUNK_BYTES, MAX_XORB_BYTES, MAX_XORB_CHUNKS};
use bastide_xet::XetError;
use bastide_xet::file::{MAX_FILE_SEGMENTS, check};
use bastide_xet::hash::{chunk_hash, xorb_hash};
use bastide_xet::shard::{self, Segment, ShardFile};
use bastide_xet::xorb::{XorbIndex, decode_chunk, validate};
use bytes::Bytes;
use lz4_flex::frame::{BlockSize, FrameEncoder, FrameInfo};
use proptest::prelude::*;

use crate::{build, mixed_chunks, noise, zero};

fn header(scheme: u8, compressed: usize, raw: usize) -> Vec<u8> {
    let low = |n: usize| u32::try_from(n).unwrap().to_le_bytes();
    let mut bytes = vec![0];
    bytes.extend_from_slice(&low(compressed)[..3]);
    bytes.push(scheme);
    bytes.extend_from_slice(&low(raw)[..3]);
    bytes
}

fn frame(data: &[u8]) -> Vec<u8> {
    let info = FrameInfo::new().block_size(BlockSize::Max256KB);
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// A xorb of one chunk with this header and body, sent under the hash of `raw`.
fn send(scheme: u8, body: &[u8], claimed: usize, raw: &[u8]) -> Result<(XorbIndex, u64), XetError> {
    let mut bytes = header(scheme, body.len(), claimed);
    bytes.extend_from_slice(body);
    validate(&bytes[..], &xorb_hash([(chunk_hash(raw), raw.len() as u64)]))
}

/// Clients fill a xorb up to 64 MiB of content, whatever that takes on the wire.
#[test]
fn a_xorb_full_of_noise_is_taken_and_one_byte_more_is_not() {
    let chunk = noise(MAX_CHUNK_BYTES, 1);
    let (hash, len) = (chunk_hash(&chunk), chunk.len() as u64);
    let mut bytes = Vec::new();
    for _ in 0..MAX_XORB_BYTES / MAX_CHUNK_BYTES {
        bytes.extend_from_slice(&header(0, chunk.len(), chunk.len()));
        bytes.extend_from_slice(&chunk);
    }
    let full: Vec<_> = vec![(hash, len); MAX_XORB_BYTES / MAX_CHUNK_BYTES];
    let (index, stored) = validate(&bytes[..], &xorb_hash(full.iter().copied())).unwrap();
    assert_eq!((index.raw_bytes() as usize, stored as usize), (MAX_XORB_BYTES, bytes.len()));
    bytes.extend_from_slice(&header(0, 1, 1));
    bytes.push(1);
    let more = full.into_iter().chain([(chunk_hash(&[1]), 1)]);
    assert!(validate(&bytes[..], &xorb_hash(more)).is_err());
}

#[test]
fn lying_lengths_and_bombs() {
    let data = vec![5; 50_000];
    assert!(send(1, &frame(&data), 50_000, &data).is_ok());
    assert!(send(1, &frame(&data), 49_999, &data).is_err());
    assert!(send(1, &frame(&data), 50_001, &data).is_err());
    assert!(send(0, &data, 49_999, &data).is_err());
    let bomb = frame(&vec![0; 60 << 20]);
    assert!(bomb.len() <= 2 * MAX_CHUNK_BYTES);
    for scheme in [1, 2] {
        assert!(send(scheme, &bomb, MAX_CHUNK_BYTES, &[0; MAX_CHUNK_BYTES]).is_err());
    }
    // The JavaScript client names blocks of 4 MiB, whatever it sends: that costs us nothing.
    for size in [BlockSize::Max1MB, BlockSize::Max4MB] {
        let framed = |data: &[u8]| {
            let mut encoder = FrameEncoder::with_frame_info(FrameInfo::new().block_size(size), Vec::new());
            encoder.write_all(data).unwrap();
            encoder.finish().unwrap()
        };
        assert!(send(1, &framed(&data), 50_000, &data).is_ok());
        let bomb = framed(&vec![0; 60 << 20]);
        assert!(send(1, &bomb, MAX_CHUNK_BYTES, &[0; MAX_CHUNK_BYTES]).is_err());
    }
    assert!(send(3, &data, data.len(), &data).is_err());
    assert!(send(0, &[], 0, &[]).is_err());
    let largest = vec![1; MAX_CHUNK_BYTES];
    assert!(send(0, &largest, MAX_CHUNK_BYTES, &largest).is_ok());
    let larger = vec![1; MAX_CHUNK_BYTES + 1];
    assert!(send(0, &larger, MAX_CHUNK_BYTES + 1, &larger).is_err());
}

#[test]
fn padded_frames_are_refused_so_that_one_hash_has_one_form() {
    let data = vec![5; 50_000];
    let mut padded = frame(&data);
    padded.extend_from_slice(b"padding");
    assert!(send(1, &padded, 50_000, &data).is_err());
    let mut doubled = frame(&data);
    doubled.extend_from_slice(&frame(b""));
    assert!(send(1, &doubled, 50_000, &data).is_err());
}

#[test]
fn too_many_chunks_and_too_many_bytes() {
    let one: Vec<u8> = [header(0, 1, 1), vec![b'x']].concat();
    let hash = |count: usize| xorb_hash(std::iter::repeat_n((chunk_hash(b"x"), 1), count));
    assert!(validate(&one.repeat(MAX_XORB_CHUNKS)[..], &hash(MAX_XORB_CHUNKS)).is_ok());
    assert!(validate(&one.repeat(MAX_XORB_CHUNKS + 1)[..], &hash(MAX_XORB_CHUNKS + 1)).is_err());
    let big: Vec<u8> = [header(0, MAX_CHUNK_BYTES, MAX_CHUNK_BYTES), noise(MAX_CHUNK_BYTES, 3)].concat();
    let error = validate(&big.repeat(513)[..], &zero()).unwrap_err();
    assert_eq!(error, XetError::Xorb("more than 64 MiB and its headers"));
}

#[test]
fn a_xorb_cut_anywhere_or_with_any_bit_flipped_never_says_something_else() {
    let chunks = [noise(300, 1), vec![9; 900], noise(20, 2)];
    let (index, bytes) = build(&chunks);
    for len in 0..bytes.len() {
        assert!(validate(&bytes[..len], &index.hash).is_err(), "{len}");
    }
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        // LZ4 can say the same thing in several ways; what it says must be the same.
        if let Ok((_, stored)) = validate(&flipped[..], &index.hash) {
            let mut stored = Bytes::copy_from_slice(&flipped[..usize::try_from(stored).unwrap()]);
            for raw in &chunks {
                assert_eq!(decode_chunk(&mut stored).unwrap(), raw, "{bit}");
            }
        }
    }
}

fn good_file() -> (XorbIndex, ShardFile) {
    let (index, _) = build(&mixed_chunks());
    let range = 1..4;
    let raw = index.raw_range(&range).unwrap();
    let mut hasher = bastide_xet::hash::FileHasher::default();
    let mut before = raw.start;
    for chunk in index.chunks(&range).unwrap() {
        hasher.push(chunk.hash, u64::from(chunk.raw_end) - before);
        before = chunk.raw_end.into();
    }
    let segment = Segment {
        xorb: index.hash,
        proof: index.proof(&range).unwrap(),
        raw_bytes: u32::try_from(raw.end - raw.start).unwrap(),
        chunks: range,
    };
    let file = ShardFile { hash: hasher.finish(), segments: vec![segment], sha256: None };
    (index, file)
}

#[test]
fn false_claims_about_a_file() {
    let (index, file) = good_file();
    let run = |file: &ShardFile| check(file, &mut (1 << 24), |hash| (*hash == index.hash).then_some(&index));
    assert!(run(&file).is_ok());
    let changed = |change: &dyn Fn(&mut ShardFile)| {
        let mut file = file.clone();
        change(&mut file);
        run(&file).unwrap_err()
    };
    assert_eq!(changed(&|file| file.hash = zero()), XetError::FileHash);
    assert!(matches!(changed(&|file| file.segments[0].raw_bytes += 1), XetError::Shard(_)));
    // Missing, foreign and badly proved are one answer.
    assert_eq!(changed(&|file| file.segments[0].xorb = zero()), XetError::UnknownChunks);
    assert_eq!(changed(&|file| file.segments[0].proof = zero()), XetError::UnknownChunks);
    for range in [1..5, 0..4, 4..4, 3..6, 5..9, 0..u32::MAX] {
        assert_eq!(
            changed(&|file| file.segments[0].chunks = range.clone()),
            XetError::UnknownChunks,
            "{range:?}"
        );
    }
    let double = changed(&|file| file.segments.push(file.segments[0].clone()));
    assert_eq!(double, XetError::FileHash);
}

#[test]
fn a_tiny_shard_that_claims_gigabytes_allocates_nothing() {
    let mut bytes = shard::dedup_answer(&[], &[0; 32], 0, 1);
    assert!(shard::parse(&bytes).unwrap().is_empty());
    // A file header with four billion segments in place of the bookend.
    bytes[48..80].copy_from_slice(&[1; 32]);
    bytes[80..84].copy_from_slice(&(3u32 << 30).to_le_bytes());
    bytes[84..88].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(shard::parse(&bytes), Err(XetError::Shard(_))));
    // Without verification entries.
    bytes[80..84].copy_from_slice(&0u32.to_le_bytes());
    assert!(matches!(shard::parse(&bytes), Err(XetError::Shard("a file without verification entries"))));
}

#[test]
fn a_small_shard_cannot_ask_for_hours_of_hashing() {
    let (index, file) = good_file();
    let mut budget = 2;
    let error = check(&file, &mut budget, |_| Some(&index)).unwrap_err();
    assert_eq!(error, XetError::Shard("its files have too many chunks"));
    assert!(check(&file, &mut 3, |_| Some(&index)).is_ok());
}

/// A file of one tiny chunk, as many times as one likes.
fn fragmented(count: usize) -> (XorbIndex, ShardFile) {
    let (index, _) = build(&[vec![7]]);
    let mut hasher = bastide_xet::hash::FileHasher::default();
    (0..count).for_each(|_| hasher.push(index.chunks[0].hash, 1));
    let segment =
        Segment { xorb: index.hash, proof: index.proof(&(0..1)).unwrap(), raw_bytes: 1, chunks: 0..1 };
    (index, ShardFile { hash: hasher.finish(), segments: vec![segment; count], sha256: None })
}

#[test]
fn a_file_in_more_pieces_than_its_size_needs_is_refused() {
    let run = |count| {
        let (index, file) = fragmented(count);
        check(&file, &mut (1 << 24), |_| Some(&index)).map(|checked| checked.terms.len())
    };
    assert_eq!(run(1024), Ok(1024));
    assert_eq!(run(1025), Err(XetError::Shard("a file in more segments than its size needs")));
    assert_eq!(run(MAX_FILE_SEGMENTS + 1), Err(XetError::Shard("a file of more than 131072 segments")));
}

#[test]
fn a_range_decodes_its_own_terms_only() {
    let (index, file) = fragmented(1000);
    let checked = check(&file, &mut (1 << 24), |_| Some(&index)).unwrap();
    let bytes = bastide_xet::file::encode_terms(&checked.terms);
    let cut = |range, most| bastide_xet::file::terms_in(&bytes, &range, most).unwrap();
    let found = cut(500..502, 2).unwrap();
    assert_eq!((found.terms.len(), found.start), (2, 500));
    assert_eq!(cut(500..503, 2), None);
    assert_eq!(cut(0..1000, 1000).unwrap().terms, checked.terms);
    assert!(cut(1000..2000, 9).unwrap().terms.is_empty());
}

#[test]
fn a_damaged_index_is_refused_when_it_is_read() {
    let (index, _) = good_file();
    for (swap, with) in [(0, 1), (3, 4)] {
        let mut damaged = index.clone();
        damaged.chunks.swap(swap, with);
        assert!(XorbIndex::decode(&damaged.encode()).is_err());
    }
}

proptest! {
    #[test]
    fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..4000)) {
        let _ = validate(&bytes[..], &zero());
        let _ = shard::parse(&bytes);
        let _ = XorbIndex::decode(&bytes);
        let _ = bastide_xet::file::decode_terms(&bytes);
        let _ = decode_chunk(&mut Bytes::from(bytes));
    }

    #[test]
    fn no_mutated_shard_panics_or_passes_as_another_file(place in 0usize..500, value: u8) {
        let (index, _) = good_file();
        let mut bytes = shard::dedup_answer(&[&index], &[0; 32], 0, 1);
        let place = place % bytes.len();
        bytes[place] = value;
        let _ = shard::parse(&bytes);
    }
}
