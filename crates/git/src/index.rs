//! Reading the index of a pack (version 2), and how its objects build upon each other.

use std::fs::File;
use std::os::unix::fs::FileExt;

use bastide_core::Oid;

use crate::GitError;
use crate::pack::{INDEX_MARK, indexed_objects};

const FAN_OUT_BYTES: usize = 256 * 4;
const LARGE: u32 = 0x8000_0000;
/// The head of an object in a pack: its size in at most ten bytes, and what it builds upon.
const HEAD_BYTES: usize = 32;
const OFS_DELTA: u8 = 6;
const REF_DELTA: u8 = 7;

pub(crate) struct PackIndex {
    bytes: Vec<u8>,
    count: usize,
}

/// What an object in a pack builds upon.
enum Base {
    Nothing,
    At(u64),
    Object(Oid),
}

const BAD: GitError = GitError::Pack("an index that is not one of version 2");

impl PackIndex {
    pub fn parse(bytes: Vec<u8>) -> Result<Self, GitError> {
        let count = indexed_objects(&bytes)?.len();
        Ok(Self { bytes, count })
    }

    pub fn ids(&self) -> Result<Vec<Oid>, GitError> {
        indexed_objects(&self.bytes)
    }

    /// Where the objects are in the pack, in the order of `ids`.
    fn offsets(&self) -> Result<Vec<u64>, GitError> {
        let start = INDEX_MARK.len() + FAN_OUT_BYTES + self.count * (20 + 4);
        let small = self.bytes.get(start..start + self.count * 4).ok_or(BAD)?;
        let large = self.bytes.get(start + self.count * 4..).unwrap_or_default();
        let offset = |bytes: &[u8]| -> Option<u64> {
            let offset = u32::from_be_bytes(bytes.try_into().ok()?);
            if offset < LARGE {
                return Some(offset.into());
            }
            let at = usize::try_from(offset & !LARGE).ok()? * 8;
            Some(u64::from_be_bytes(large.get(at..at + 8)?.try_into().ok()?))
        };
        small.chunks_exact(4).map(|bytes| offset(bytes).ok_or(BAD)).collect()
    }

    /// How many deltas the longest chain of the pack has.
    pub fn deepest_chain(&self, pack: &File) -> Result<u32, GitError> {
        let (ids, offsets) = (self.ids()?, self.offsets()?);
        let mut by_offset: Vec<(u64, usize)> = offsets.iter().copied().zip(0..).collect();
        by_offset.sort_unstable();
        let place = |offset: u64| {
            let found = by_offset.binary_search_by_key(&offset, |(offset, _)| *offset).ok()?;
            by_offset.get(found).map(|(_, index)| *index)
        };
        let mut bases: Vec<Option<usize>> = Vec::with_capacity(offsets.len());
        for offset in &offsets {
            bases.push(match base(pack, *offset)? {
                Base::Nothing => None,
                Base::At(offset) => Some(place(offset).ok_or(BAD)?),
                Base::Object(oid) => Some(ids.binary_search(&oid).map_err(|_| BAD)?),
            });
        }
        deepest(&bases)
    }
}

/// The longest way from an object to one that builds upon nothing.
fn deepest(bases: &[Option<usize>]) -> Result<u32, GitError> {
    let mut depths: Vec<Option<u32>> = vec![None; bases.len()];
    let mut way = Vec::new();
    for start in 0..bases.len() {
        let mut at = start;
        let mut depth = loop {
            if let Some(depth) = depths.get(at).copied().flatten() {
                break depth;
            }
            way.push(at);
            match bases.get(at).copied().flatten() {
                Some(base) if way.len() <= bases.len() => at = base,
                Some(_) => return Err(GitError::Pack("deltas in a circle")),
                // The first on the way back counts nothing.
                None => {
                    way.pop();
                    if let Some(known) = depths.get_mut(at) {
                        *known = Some(0);
                    }
                    break 0;
                }
            }
        };
        while let Some(at) = way.pop() {
            depth += 1;
            if let Some(known) = depths.get_mut(at) {
                *known = Some(depth);
            }
        }
    }
    Ok(depths.into_iter().flatten().max().unwrap_or(0))
}

/// Reads the head of an object in a pack.
fn base(pack: &File, offset: u64) -> Result<Base, GitError> {
    let mut head = [0; HEAD_BYTES];
    let read = pack.read_at(&mut head, offset)?;
    let mut bytes = head.get(..read).unwrap_or_default().iter().copied();
    let first = bytes.next().ok_or(BAD)?;
    let mut more = first & 0x80 != 0;
    while more {
        more = bytes.next().ok_or(BAD)? & 0x80 != 0;
    }
    match (first >> 4) & 7 {
        OFS_DELTA => {
            let mut byte = bytes.next().ok_or(BAD)?;
            let mut distance = u64::from(byte & 0x7f);
            while byte & 0x80 != 0 {
                byte = bytes.next().ok_or(BAD)?;
                distance = ((distance + 1) << 7) | u64::from(byte & 0x7f);
            }
            Ok(Base::At(offset.checked_sub(distance).ok_or(BAD)?))
        }
        REF_DELTA => {
            let id: Vec<u8> = bytes.take(20).collect();
            Ok(Base::Object(Oid::from_slice(&id).map_err(|_| BAD)?))
        }
        _ => Ok(Base::Nothing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_chain_counts_whatever_the_order() {
        assert_eq!(deepest(&[]).unwrap(), 0);
        assert_eq!(deepest(&[None, None]).unwrap(), 0);
        assert_eq!(deepest(&[Some(1), Some(2), None, Some(0), Some(2)]).unwrap(), 3);
        assert!(deepest(&[Some(1), Some(0)]).is_err());
    }
}
