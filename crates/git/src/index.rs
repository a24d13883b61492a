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

/// Read at once, so that heads that lie close together cost one reading.
const WINDOW_BYTES: usize = 16 * 1024;

pub(crate) struct PackIndex {
    bytes: Vec<u8>,
    ids: Vec<Oid>,
}

/// The objects of a pack, and what each builds upon.
pub struct PackObjects {
    /// In order.
    ids: Vec<Oid>,
    /// By the place of an id: where the object is in the pack.
    offsets: Vec<u64>,
    /// By the place of an id: the place of what it is a delta against.
    bases: Vec<Option<u32>>,
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
        let ids = indexed_objects(&bytes)?;
        // Which of two is meant when another builds upon it, each reader would find out its own way.
        if let Some(id) = ids.windows(2).find_map(|pair| pair.first().filter(|id| pair.last() == Some(id))) {
            return Err(GitError::Damaged { oid: *id, what: "it is in the pack twice" });
        }
        Ok(Self { bytes, ids })
    }

    /// Where the objects are in the pack, in the order of their ids.
    fn offsets(&self) -> Result<Vec<u64>, GitError> {
        let count = self.ids.len();
        let start = INDEX_MARK.len() + FAN_OUT_BYTES + count * (20 + 4);
        let small = self.bytes.get(start..start + count * 4).ok_or(BAD)?;
        let large = self.bytes.get(start + count * 4..).unwrap_or_default();
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

    /// The objects, and how much of a pack of `length` bytes each takes.
    pub fn sizes(self, length: u64) -> Result<impl Iterator<Item = (Oid, u64)>, GitError> {
        const TRAILER_BYTES: u64 = 20;
        let offsets = self.offsets()?;
        let mut sorted = offsets.clone();
        sorted.sort_unstable();
        let end = length.saturating_sub(TRAILER_BYTES);
        let size = move |offset: u64| {
            let next = sorted.get(sorted.partition_point(|other| *other <= offset)).copied();
            next.unwrap_or(end).saturating_sub(offset)
        };
        Ok(self.ids.into_iter().zip(offsets).map(move |(oid, offset)| (oid, size(offset))))
    }

    /// The objects, with what each builds upon by the pack itself.
    pub fn objects(self, pack: &File) -> Result<PackObjects, GitError> {
        let offsets = self.offsets()?;
        let mut by_offset: Vec<(u64, u32)> = offsets.iter().copied().zip(0..).collect();
        by_offset.sort_unstable();
        let place = |offset: u64| {
            let found = by_offset.binary_search_by_key(&offset, |(offset, _)| *offset).ok()?;
            by_offset.get(found).map(|(_, index)| *index)
        };
        let mut heads = Heads { pack, start: 0, bytes: Vec::new() };
        let mut bases = vec![None; self.ids.len()];
        for (offset, index) in &by_offset {
            let found = match base(heads.at(*offset)?, *offset)? {
                Base::Nothing => continue,
                Base::At(offset) => place(offset),
                Base::Object(oid) => self.ids.binary_search(&oid).ok().and_then(|at| at.try_into().ok()),
            };
            *bases.get_mut(*index as usize).ok_or(BAD)? = Some(found.ok_or(BAD)?);
        }
        Ok(PackObjects { ids: self.ids, offsets, bases })
    }
}

impl PackObjects {
    pub fn contains(&self, oid: &Oid) -> bool {
        self.ids.binary_search(oid).is_ok()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Oid> {
        self.ids.iter()
    }

    pub fn len(&self) -> usize {
        self.ids.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Where in the order of ids an object is.
    pub(crate) fn place(&self, oid: &Oid) -> Option<u32> {
        self.ids.binary_search(oid).ok()?.try_into().ok()
    }

    /// Where in the pack it is.
    pub(crate) fn offset(&self, place: u32) -> Option<u64> {
        self.offsets.get(place as usize).copied()
    }

    /// What it is a delta against.
    pub(crate) fn base(&self, place: u32) -> Option<Oid> {
        let base = self.bases.get(place as usize).copied().flatten()?;
        self.ids.get(base as usize).copied()
    }

    /// What an object is a delta against, what that is one against, and so on.
    pub(crate) fn chain(&self, oid: &Oid) -> impl Iterator<Item = Oid> {
        self.below(self.place(oid)).skip(1).filter_map(|at| self.ids.get(at as usize).copied())
    }

    /// The end of that: the place of what is a delta against nothing.
    pub(crate) fn ground(&self, place: u32) -> Option<u32> {
        self.below(Some(place)).last()
    }

    fn below(&self, place: Option<u32>) -> impl Iterator<Item = u32> {
        std::iter::successors(place, |at| self.bases.get(*at as usize).copied().flatten())
    }

    /// How many deltas the longest chain of the pack has.
    pub(crate) fn deepest_chain(&self) -> Result<u32, GitError> {
        deepest(&self.bases)
    }
}

/// Reads the heads of objects, one after the other.
struct Heads<'a> {
    pack: &'a File,
    start: u64,
    bytes: Vec<u8>,
}

impl Heads<'_> {
    /// What is at an offset: as much as a head has at most, where the pack goes on for so long.
    fn at(&mut self, offset: u64) -> Result<&[u8], GitError> {
        let inside = |at: u64| at.checked_sub(self.start).and_then(|at| usize::try_from(at).ok());
        let at = match inside(offset).filter(|at| at + HEAD_BYTES <= self.bytes.len()) {
            Some(at) => at,
            None => {
                self.bytes.resize(WINDOW_BYTES, 0);
                let mut read = 0;
                while let Some(rest) = self.bytes.get_mut(read..).filter(|rest| !rest.is_empty()) {
                    match self.pack.read_at(rest, offset + read as u64)? {
                        0 => break,
                        more => read += more,
                    }
                }
                self.bytes.truncate(read);
                self.start = offset;
                0
            }
        };
        let head = self.bytes.get(at..).unwrap_or_default();
        Ok(head.get(..HEAD_BYTES).unwrap_or(head))
    }
}

/// The longest way from an object to one that builds upon nothing.
fn deepest(bases: &[Option<u32>]) -> Result<u32, GitError> {
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
                Some(base) if way.len() <= bases.len() => at = base as usize,
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

/// What the head of an object says that it builds upon.
fn base(head: &[u8], offset: u64) -> Result<Base, GitError> {
    let mut bytes = head.iter().copied();
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

    #[test]
    fn a_chain_is_followed_from_the_object_to_its_ground() {
        let id = |byte| Oid::from_bytes([byte; 20]);
        let bases = vec![Some(2), None, Some(1)];
        let pack = PackObjects { ids: vec![id(1), id(2), id(3)], offsets: vec![12, 13, 14], bases };
        let chain = |byte| pack.chain(&id(byte)).collect::<Vec<_>>();
        assert_eq!(chain(1), [id(3), id(2)]);
        assert_eq!(chain(3), [id(2)]);
        assert!(chain(2).is_empty() && chain(4).is_empty());
        assert!(pack.contains(&id(3)) && !pack.contains(&id(4)));
        assert_eq!((pack.place(&id(3)), pack.place(&id(4))), (Some(2), None));
        assert_eq!((pack.ground(0), pack.ground(1), pack.base(2)), (Some(1), Some(1), Some(id(2))));
        assert_eq!((pack.offset(2), pack.offset(3)), (Some(14), None));
        assert_eq!(pack.deepest_chain().unwrap(), 2);
    }

    #[test]
    fn heads_are_the_same_wherever_they_lie_in_what_is_read_at_once() {
        let bytes: Vec<u8> = (0..3 * WINDOW_BYTES + 7).map(|at| (at % 251) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, &bytes).unwrap();
        let mut heads = Heads { pack: &file, start: 0, bytes: Vec::new() };
        let edges = [WINDOW_BYTES - HEAD_BYTES, WINDOW_BYTES - HEAD_BYTES + 1, 2 * WINDOW_BYTES, 40, 0];
        let ends = [bytes.len() - HEAD_BYTES, bytes.len() - 1, bytes.len()];
        for at in edges.into_iter().chain(ends) {
            let whole = &bytes[at..bytes.len().min(at + HEAD_BYTES)];
            assert_eq!(heads.at(at as u64).unwrap(), whole, "at {at}");
        }
    }
}
