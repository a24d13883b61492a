//! The Merkle tree of RFC 6962, section 2: hashing, proofs, and the right edge that is enough to
//! append and to find the root.

use sha2::{Digest, Sha256};

pub type Hash = [u8; 32];

pub fn leaf_hash(data: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(data).finalize().into()
}

pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// The complete subtrees that a tree of `size` leaves is made of, left to right: (level, position).
pub fn peaks(size: i64) -> Vec<(u32, i64)> {
    let mut peaks = Vec::new();
    let mut done = 0;
    for level in (0..63).rev() {
        if size & (1 << level) != 0 {
            peaks.push((level, done >> level));
            done += 1 << level;
        }
    }
    peaks
}

/// How many complete subtrees, of all levels, a tree of `size` leaves has.
pub fn node_count(size: i64) -> i64 {
    (0..63).map(|level| size >> level).sum()
}

/// The root over complete subtrees, left to right.
pub fn root_of_peaks(peaks: &[Hash]) -> Hash {
    let mut from_right = peaks.iter().rev();
    let Some(last) = from_right.next() else { return Sha256::digest(b"").into() };
    from_right.fold(*last, |right, left| node_hash(left, &right))
}

/// The right edge of a growing tree.
#[derive(Debug, Clone, Default)]
pub struct Frontier {
    size: i64,
    /// Complete subtrees, left to right, with their levels.
    peaks: Vec<(u32, Hash)>,
}

impl Frontier {
    pub const fn size(&self) -> i64 {
        self.size
    }

    /// Appends a leaf; answers the nodes (level, position, hash) that it completes.
    pub fn push(&mut self, leaf: Hash) -> Vec<(u32, i64, Hash)> {
        let (mut level, mut position, mut hash) = (0, self.size, leaf);
        let mut nodes = vec![(level, position, hash)];
        while let Some((_, left)) = self.peaks.pop_if(|(peak, _)| *peak == level) {
            hash = node_hash(&left, &hash);
            level += 1;
            position /= 2;
            nodes.push((level, position, hash));
        }
        self.peaks.push((level, hash));
        self.size += 1;
        nodes
    }

    /// After a gap: the next leaf is at `size`. The root is wrong from then on, as it should be.
    pub fn skip_to(&mut self, size: i64) {
        if size != self.size {
            let known: Vec<Hash> = self.peaks.iter().map(|(_, hash)| *hash).collect();
            let fill = root_of_peaks(&known);
            self.peaks = peaks(size).into_iter().map(|(level, _)| (level, fill)).collect();
            self.size = size;
        }
    }

    pub fn root(&self) -> Hash {
        let peaks: Vec<Hash> = self.peaks.iter().map(|(_, hash)| *hash).collect();
        root_of_peaks(&peaks)
    }
}

/// Largest power of two smaller than `size`.
fn split(size: usize) -> usize {
    size.next_power_of_two() / 2
}

fn subtree(leaves: &[Hash]) -> Hash {
    let mut frontier = Frontier::default();
    leaves.iter().for_each(|leaf| drop(frontier.push(*leaf)));
    frontier.root()
}

/// Proof that leaf `index` is in the tree over `leaves` (RFC 6962, 2.1.1); `None` when it is not.
pub fn inclusion_proof(index: usize, leaves: &[Hash]) -> Option<Vec<Hash>> {
    if index >= leaves.len() {
        return None;
    }
    if leaves.len() == 1 {
        return Some(Vec::new());
    }
    let (left, right) = leaves.split_at_checked(split(leaves.len()))?;
    let (mut proof, other) = if index < left.len() {
        (inclusion_proof(index, left)?, subtree(right))
    } else {
        (inclusion_proof(index - left.len(), right)?, subtree(left))
    };
    proof.push(other);
    Some(proof)
}

/// Checks an inclusion proof (RFC 9162, 2.1.3.2).
pub fn verify_inclusion(leaf: Hash, index: u64, size: u64, proof: &[Hash], root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut node, mut last, mut hash) = (index, size - 1, leaf);
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

/// Proof that the tree over the first `old` of `leaves` is a prefix of the whole (RFC 6962, 2.1.2).
pub fn consistency_proof(old: usize, leaves: &[Hash]) -> Option<Vec<Hash>> {
    if old == 0 || old > leaves.len() {
        return None;
    }
    subproof(old, leaves, true)
}

fn subproof(old: usize, leaves: &[Hash], whole: bool) -> Option<Vec<Hash>> {
    if old == leaves.len() {
        return Some(if whole { Vec::new() } else { vec![subtree(leaves)] });
    }
    let (left, right) = leaves.split_at_checked(split(leaves.len()))?;
    let (mut proof, other) = if old <= left.len() {
        (subproof(old, left, whole)?, subtree(right))
    } else {
        (subproof(old - left.len(), right, false)?, subtree(left))
    };
    proof.push(other);
    Some(proof)
}

/// Checks a consistency proof (RFC 9162, 2.1.4.2).
pub fn verify_consistency(old: u64, new: u64, proof: &[Hash], old_root: &Hash, new_root: &Hash) -> bool {
    if old == 0 || old > new {
        return false;
    }
    if old == new {
        return proof.is_empty() && old_root == new_root;
    }
    let mut path = proof.iter();
    let first = if old.is_power_of_two() { Some(old_root) } else { path.next() };
    let Some(first) = first else { return false };
    let (mut node, mut last) = (old - 1, new - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let (mut old_hash, mut new_hash) = (*first, *first);
    for sibling in path {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            old_hash = node_hash(sibling, &old_hash);
            new_hash = node_hash(sibling, &new_hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            new_hash = node_hash(&new_hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && old_hash == *old_root && new_hash == *new_root
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition of RFC 6962, word for word.
    fn naive(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Sha256::digest(b"").into(),
            [leaf] => *leaf,
            _ => {
                let (left, right) = leaves.split_at(split(leaves.len()));
                node_hash(&naive(left), &naive(right))
            }
        }
    }

    fn leaves(count: u8) -> Vec<Hash> {
        (0..count).map(|n| leaf_hash(&[n])).collect()
    }

    fn hex(hash: &Hash) -> String {
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn as_many_nodes_as_are_pushed() {
        let (mut frontier, mut nodes) = (Frontier::default(), 0);
        for size in 0..70 {
            assert_eq!(node_count(size), nodes);
            nodes += i64::try_from(frontier.push([0; 32]).len()).unwrap();
        }
    }

    #[test]
    fn published_vectors() {
        // From the Certificate Transparency reference implementation (merkle tree tests).
        let inputs: [&[u8]; 8] = [
            b"",
            &[0x00],
            &[0x10],
            &[0x20, 0x21],
            &[0x30, 0x31],
            &[0x40, 0x41, 0x42, 0x43],
            &[0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57],
            &[0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d, 0x6e, 0x6f],
        ];
        let leaves: Vec<Hash> = inputs.iter().map(|input| leaf_hash(input)).collect();
        assert_eq!(hex(&naive(&[])), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(hex(&leaves[0]), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
        assert_eq!(hex(&naive(&leaves)), "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328");
    }

    #[test]
    fn roots_and_proofs_agree_with_the_definition_for_every_size() {
        for size in 0..=130u8 {
            let leaves = leaves(size);
            let mut frontier = Frontier::default();
            leaves.iter().for_each(|leaf| drop(frontier.push(*leaf)));
            let root = naive(&leaves);
            assert_eq!(frontier.root(), root);
            for index in 0..size {
                let proof = inclusion_proof(index.into(), &leaves).unwrap();
                let (index, size) = (u64::from(index), u64::from(size));
                let leaf = leaves[usize::try_from(index).unwrap()];
                assert!(verify_inclusion(leaf, index, size, &proof, &root));
                assert!(!verify_inclusion(leaf_hash(b"other"), index, size, &proof, &root));
                let (prefix, old) = (&leaves[..usize::try_from(index).unwrap() + 1], index + 1);
                let proof = consistency_proof(prefix.len(), &leaves).unwrap();
                assert!(verify_consistency(old, size, &proof, &naive(prefix), &root));
                assert!(!verify_consistency(old, size, &proof, &leaf_hash(b"other"), &root));
            }
        }
    }

    #[test]
    fn completed_nodes_make_the_root() {
        let mut frontier = Frontier::default();
        let mut nodes = std::collections::HashMap::new();
        for leaf in leaves(77) {
            for (level, position, hash) in frontier.push(leaf) {
                nodes.insert((level, position), hash);
            }
        }
        let stored: Vec<Hash> = peaks(77).into_iter().map(|peak| nodes[&peak]).collect();
        assert_eq!(root_of_peaks(&stored), frontier.root());
    }
}
