//! What is kept in memory while a push is looked at, within bounds.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bastide_core::Oid;
use gix_object::Kind;
use gix_odb::pack::cache::DecodeEntry;

use super::raw_tree::RawTree;

/// Bytes of trees that are kept in memory: so many at first, and up to so many where they have to be read again.
const FIRST_TREE_BYTES: usize = 4 * 1024 * 1024;
const MAX_TREE_BYTES: usize = 64 * 1024 * 1024;
/// Trees that were thrown away and are remembered by name.
const MAX_GONE: usize = 100_000;
/// Bytes of objects that others build upon.
const BASE_BYTES: usize = 64 * 1024 * 1024;

/// Trees that were read: those that nobody has asked for in a while are thrown away when it is too much. Most are not
/// asked for again, and room that is not used need not be made: there is more only when it is needed.
pub(super) struct Trees {
    fresh: HashMap<Oid, Arc<RawTree>>,
    old: HashMap<Oid, Arc<RawTree>>,
    gone: HashSet<Oid>,
    /// Of the fresh ones.
    bytes: usize,
    limit: usize,
}

impl Default for Trees {
    fn default() -> Self {
        let (fresh, old, gone) = (HashMap::new(), HashMap::new(), HashSet::new());
        Self { fresh, old, gone, bytes: 0, limit: FIRST_TREE_BYTES }
    }
}

impl Trees {
    pub fn has(&self, oid: Oid) -> bool {
        self.fresh.contains_key(&oid) || self.old.contains_key(&oid)
    }

    pub fn get(&mut self, oid: Oid) -> Option<Arc<RawTree>> {
        if let Some(tree) = self.fresh.get(&oid) {
            return Some(Arc::clone(tree));
        }
        let tree = self.old.remove(&oid)?;
        self.put(oid, &tree);
        Some(tree)
    }

    pub fn put(&mut self, oid: Oid, tree: &Arc<RawTree>) {
        if self.gone.remove(&oid) {
            self.limit = MAX_TREE_BYTES.min(self.limit * 2);
            self.gone.clear();
        }
        if self.bytes > self.limit / 2 {
            let last = std::mem::replace(&mut self.old, std::mem::take(&mut self.fresh));
            let room = MAX_GONE.saturating_sub(self.gone.len());
            self.gone.extend(last.into_keys().take(room));
            self.bytes = 0;
        }
        self.bytes += tree.weight();
        self.fresh.insert(oid, Arc::clone(tree));
    }
}

/// Objects that others build upon, by their place: the later half is thrown away when it is too much.
#[derive(Default)]
pub(super) struct Bases {
    fresh: HashMap<(u32, u64), (Kind, Vec<u8>, usize)>,
    old: HashMap<(u32, u64), (Kind, Vec<u8>, usize)>,
    bytes: usize,
}

impl DecodeEntry for Bases {
    fn put(&mut self, pack: u32, offset: u64, data: &[u8], kind: Kind, packed: usize) {
        // Of files there are many, and few are read twice.
        if kind == Kind::Blob || data.len() > BASE_BYTES / 8 {
            return;
        }
        if self.bytes > BASE_BYTES / 2 {
            self.old = std::mem::take(&mut self.fresh);
            self.bytes = 0;
        }
        self.bytes += data.len();
        self.fresh.insert((pack, offset), (kind, data.to_vec(), packed));
    }

    fn get(&mut self, pack: u32, offset: u64, out: &mut Vec<u8>) -> Option<(Kind, usize)> {
        let (kind, data, packed) =
            self.fresh.get(&(pack, offset)).or_else(|| self.old.get(&(pack, offset)))?;
        out.clear();
        out.extend_from_slice(data);
        Some((*kind, *packed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Puts trees of a kibibyte each, and says how many of them are there.
    fn read(trees: &mut Trees, ids: std::ops::Range<u32>) -> usize {
        let id = |number: u32| {
            let mut bytes = [0; 20];
            bytes[..4].copy_from_slice(&number.to_be_bytes());
            Oid::from_bytes(bytes)
        };
        for number in ids.clone() {
            if trees.get(id(number)).is_none() {
                trees.put(id(number), &Arc::new(RawTree::new(vec![b'x'; 1024])));
            }
        }
        ids.filter(|number| trees.has(id(*number))).count()
    }

    #[test]
    fn there_is_more_room_when_trees_are_read_again() {
        let mut trees = Trees::default();
        assert!(read(&mut trees, 0..100_000) <= FIRST_TREE_BYTES / 1024 + 2, "none was asked for twice");
        let mut kept = 0;
        for _ in 0..10 {
            kept = read(&mut trees, 0..20_000);
        }
        assert_eq!(kept, 20_000);
        for _ in 0..10 {
            kept = read(&mut trees, 0..200_000);
        }
        assert!(kept <= MAX_TREE_BYTES / 1024 + 2, "no more than that: {kept}");
    }
}
