//! The same answers as `xet-core-structures`, byte for byte.

use std::io::Cursor;

use bastide_core::XetHash;
use bastide_xet::file::{self, Term, push_term};
use bastide_xet::hash::{FileHasher, chunk_hash, range_proof, xorb_hash};
use bastide_xet::xorb::{XorbIndex, decode_chunk, validate};
use bastide_xet::{plan, shard};
use bytes::Bytes;
use xet_core_structures::merklehash::{self, MerkleHash};
use xet_core_structures::metadata_shard::chunk_verification::range_hash_from_chunks;
use xet_core_structures::metadata_shard::file_structs::{
    FileDataSequenceEntry, FileDataSequenceHeader, FileMetadataExt, FileVerificationEntry, MDBFileInfo,
};
use xet_core_structures::metadata_shard::shard_format::MDBShardInfo;
use xet_core_structures::metadata_shard::shard_in_memory::MDBInMemoryShard;
use xet_core_structures::xorb_object::{CompressionScheme, RawXorbData, SerializedXorbObject};

use crate::{build, mixed_chunks, noise};

fn theirs(hash: &XetHash) -> MerkleHash {
    MerkleHash::from_hex(&hash.to_string()).unwrap()
}

#[test]
fn hashes_of_every_tree_shape() {
    for count in (0..40).chain([81, 82, 500, 8192]) {
        let list: Vec<(XetHash, u64)> =
            (0..count).map(|n: u64| (chunk_hash(&n.to_le_bytes()), n * 3 + 1)).collect();
        let reference: Vec<(MerkleHash, u64)> = list.iter().map(|(hash, len)| (theirs(hash), *len)).collect();
        assert_eq!(
            xorb_hash(list.iter().copied()).to_string(),
            merklehash::xorb_hash(&reference).hex(),
            "{count}"
        );
        let mut hasher = FileHasher::default();
        list.iter().for_each(|(hash, len)| hasher.push(*hash, *len));
        assert_eq!(hasher.finish().to_string(), merklehash::file_hash(&reference).hex(), "{count}");
        let hashes: Vec<MerkleHash> = reference.iter().map(|(hash, _)| *hash).collect();
        let proof = range_proof(list.iter().map(|(hash, _)| hash));
        assert_eq!(proof.to_string(), range_hash_from_chunks(&hashes).hex());
    }
}

#[test]
fn their_xorbs_are_accepted_in_every_compression() {
    use xet_core_structures::xorb_object::Chunk;
    let raw = mixed_chunks();
    for scheme in [CompressionScheme::None, CompressionScheme::LZ4, CompressionScheme::ByteGrouping4LZ4] {
        let chunks: Vec<Chunk> = raw.iter().map(|data| Chunk::new(Bytes::copy_from_slice(data))).collect();
        let xorb = RawXorbData::from_chunks(&chunks, vec![0]);
        let hash: XetHash = xorb.hash().hex().parse().unwrap();
        for footer in [false, true] {
            let bytes =
                SerializedXorbObject::from_xorb_with_compression(xorb.clone(), scheme, footer, 1).unwrap();
            let (index, stored) = validate(&bytes.serialized_data[..], &hash).unwrap();
            let mut stored =
                Bytes::copy_from_slice(&bytes.serialized_data[..usize::try_from(stored).unwrap()]);
            for data in &raw {
                assert_eq!(decode_chunk(&mut stored).unwrap(), data);
            }
            assert!(stored.is_empty());
            assert_eq!(XorbIndex::decode(&index.encode()).unwrap(), index);
        }
    }
}

#[test]
fn our_xorbs_are_accepted_by_them() {
    use xet_core_structures::xorb_object::XorbObject;
    let (index, bytes) = build(&mixed_chunks());
    assert_eq!(validate(&bytes[..], &index.hash).unwrap().0, index);
    let mut with_footer = Vec::new();
    let (object, hash) =
        xet_core_structures::xorb_object::reconstruct_xorb_with_footer(&mut with_footer, &bytes).unwrap();
    assert_eq!(hash.hex(), index.hash.to_string());
    assert!(XorbObject::validate_xorb_object(&mut Cursor::new(&with_footer), &hash).unwrap().is_some());
    assert_eq!(object.info.num_chunks, index.chunk_count());
}

/// A shard as the client makes it, for a file over parts of a xorb.
fn client_shard(index: &XorbIndex, ranges: &[std::ops::Range<u32>], sha: [u8; 32]) -> (Vec<u8>, XetHash) {
    let mut hasher = FileHasher::default();
    let mut segments = Vec::new();
    let mut proofs = Vec::new();
    for range in ranges {
        let chunks = &index.chunks[range.start as usize..range.end as usize];
        let mut before = if range.start == 0 { 0 } else { index.chunks[range.start as usize - 1].raw_end };
        let start = before;
        for chunk in chunks {
            hasher.push(chunk.hash, u64::from(chunk.raw_end - before));
            before = chunk.raw_end;
        }
        segments.push(FileDataSequenceEntry::new(
            theirs(&index.hash),
            before - start,
            range.start,
            range.end,
        ));
        let hashes: Vec<_> = chunks.iter().map(|chunk| theirs(&chunk.hash)).collect();
        proofs.push(FileVerificationEntry::new(range_hash_from_chunks(&hashes)));
    }
    let hash = hasher.finish();
    let sha = MerkleHash::from_hex(&bastide_core::Sha256::from_bytes(sha).to_string()).unwrap();
    let info = MDBFileInfo {
        metadata: FileDataSequenceHeader::new(theirs(&hash), segments.len(), true, true),
        segments,
        verification: proofs,
        metadata_ext: Some(FileMetadataExt::new(sha)),
    };
    let mut shard = MDBInMemoryShard::default();
    shard.add_file_reconstruction_info(info).unwrap();
    let mut bytes = Vec::new();
    MDBShardInfo::serialize_from(&mut bytes, &shard, None).unwrap();
    (bytes, hash)
}

#[test]
fn client_shards_are_understood_and_checked() {
    let (index, _) = build(&mixed_chunks());
    let sha = std::array::from_fn(|n| u8::try_from(n).unwrap());
    let (bytes, hash) = client_shard(&index, &[0..3, 1..2, 4..5], sha);
    let files = shard::parse(&bytes).unwrap();
    assert_eq!(files.len(), 1);
    assert_eq!(files[0].sha256, Some(bastide_core::Sha256::from_bytes(sha)));
    let checked =
        file::check(&files[0], &mut 100, |wanted| (*wanted == index.hash).then_some(&index)).unwrap();
    assert_eq!((checked.hash, checked.terms.len()), (hash, 3));
    assert_eq!(file::decode_terms(&file::encode_terms(&checked.terms)).unwrap(), checked.terms);
}

#[test]
fn dedup_answers_are_read_by_them() {
    let (index, _) = build(&mixed_chunks());
    let key = [9; 32];
    let bytes = shard::dedup_answer(&[&index], &key, 1000, u64::MAX / 2);
    let info = MDBShardInfo::load_from_reader(&mut Cursor::new(&bytes)).unwrap();
    assert_eq!(info.metadata.chunk_hash_hmac_key.as_bytes(), &key);
    assert_eq!(info.metadata.shard_key_expiry, u64::MAX / 2);
    let xorbs = info.read_all_xorb_blocks_full(&mut Cursor::new(&bytes)).unwrap();
    assert_eq!(xorbs.len(), 1);
    assert_eq!(xorbs[0].metadata.xorb_hash, theirs(&index.hash));
    assert_eq!(xorbs[0].chunks.len(), index.chunks.len());
    assert_eq!(xorbs[0].chunks[2].chunk_hash, theirs(&index.chunks[2].hash).hmac(key.into()));
    assert_eq!(xorbs[0].chunks[2].chunk_byte_range_start, index.chunks[1].raw_end);
}

#[test]
fn every_range_of_a_file_is_put_together_right() {
    let chunks: Vec<Vec<u8>> = (0..9).map(|n| noise(500 + n * 37, n as u64)).collect();
    let (one, one_bytes) = build(&chunks[..5]);
    let (two, two_bytes) = build(&chunks[5..]);
    let order: [(&XorbIndex, u32); 8] =
        [(&one, 1), (&one, 2), (&two, 0), (&one, 3), (&one, 4), (&one, 0), (&two, 2), (&two, 3)];
    let mut terms: Vec<Term> = Vec::new();
    let mut content = Vec::new();
    for (xorb, number) in order {
        let base = if xorb.hash == one.hash { 0 } else { 5 };
        let data = &chunks[base + number as usize];
        content.extend_from_slice(data);
        push_term(&mut terms, xorb.hash, number, u32::try_from(data.len()).unwrap());
    }
    assert_eq!(terms.len(), 5);
    let find = |hash: &XetHash| [&one, &two].into_iter().find(|xorb| xorb.hash == *hash);
    let stored = |hash: &XetHash| if *hash == one.hash { &one_bytes } else { &two_bytes };
    let size = content.len();
    for start in (0..size).step_by(97) {
        for end in (start + 1..=size).step_by(211).chain([size]) {
            let mut found = Vec::new();
            for piece in plan::pieces(&terms, &(start as u64..end as u64), find).unwrap() {
                let range =
                    usize::try_from(piece.stored.start).unwrap()..usize::try_from(piece.stored.end).unwrap();
                let mut bytes = Bytes::copy_from_slice(&stored(&piece.xorb)[range]);
                let mut raw = Vec::new();
                while !bytes.is_empty() {
                    raw.extend_from_slice(&decode_chunk(&mut bytes).unwrap());
                }
                let (skip, take) =
                    (usize::try_from(piece.skip).unwrap(), usize::try_from(piece.take).unwrap());
                found.extend_from_slice(&raw[skip..skip + take]);
            }
            assert_eq!(found, content[start..end], "{start}..{end}");
            check_plan(&terms, start as u64..end as u64, find);
        }
    }
    assert!(plan::plan(&terms, Some(size as u64..size as u64 + 1), find).is_err());
    let clipped = plan::plan(&terms, Some(1..u64::MAX), find).unwrap();
    assert_eq!(clipped.offset_into_first_range, 1);
}

/// The rules that clients enforce: see the protocol's section on reconstruction.
fn check_plan<'a>(
    terms: &[Term],
    range: std::ops::Range<u64>,
    find: impl Fn(&XetHash) -> Option<&'a XorbIndex> + Copy,
) {
    let plan = plan::plan(terms, Some(range.clone()), find).unwrap();
    let unpacked: u64 = plan.terms.iter().map(|term| term.unpacked_length).sum();
    assert!(unpacked >= plan.offset_into_first_range + (range.end - range.start));
    for term in &plan.terms {
        let within = |fetch: &&plan::Fetch| {
            fetch.chunks.start <= term.range.start && term.range.end <= fetch.chunks.end
        };
        assert_eq!(plan.fetches[&term.hash].iter().filter(within).count(), 1);
    }
}
