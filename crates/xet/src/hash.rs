//! The hashes of the protocol: keyed BLAKE3 with public keys, and trees of hashes.
//! Keys and rules: Xet protocol 1.1.0, as `xet-core-structures` 1.8.0 implements it.

use bastide_core::XetHash;

const DATA_KEY: [u8; 32] = [
    102, 151, 245, 119, 91, 149, 80, 222, 49, 53, 203, 172, 165, 151, 24, 28, 157, 228, 33, 16, 155, 235, 43,
    88, 180, 208, 176, 75, 147, 173, 242, 41,
];
const NODE_KEY: [u8; 32] = [
    1, 126, 197, 199, 165, 71, 41, 150, 253, 148, 102, 102, 180, 138, 2, 230, 93, 221, 83, 111, 55, 199, 109,
    210, 248, 99, 82, 230, 74, 83, 113, 63,
];
const PROOF_KEY: [u8; 32] = [
    127, 24, 87, 214, 206, 86, 237, 102, 18, 127, 249, 19, 231, 165, 195, 243, 164, 205, 38, 213, 181, 219,
    73, 230, 65, 36, 152, 127, 40, 251, 148, 195,
];
/// Key of the last step from the tree's root to a file's hash.
const FILE_KEY: [u8; 32] = [0; 32];

/// A node of the tree has at most so many children, ...
const MAX_CHILDREN: usize = 9;
/// ... ends early at a child whose hash divides by this, ...
const CUT_MODULUS: u64 = 4;
/// ... but not before it has this many.
const MIN_CHILDREN: usize = 3;
/// One chunk in so many may be looked for across files.
const DEDUP_MODULUS: u64 = 1024;

fn keyed(key: &[u8; 32], data: &[u8]) -> XetHash {
    XetHash::from_bytes(*blake3::keyed_hash(key, data).as_bytes())
}

pub fn chunk_hash(data: &[u8]) -> XetHash {
    keyed(&DATA_KEY, data)
}

/// A chunk's hash under the key of one answer, so that the answer tells nothing to others.
pub fn dedup_key(chunk: &XetHash, key: &[u8; 32]) -> XetHash {
    keyed(key, chunk.as_bytes())
}

/// Shows that whoever made a shard knew the hashes of a term's chunks. It is public arithmetic:
/// a check against mistakes, never an access decision.
pub fn range_proof<'a>(chunks: impl IntoIterator<Item = &'a XetHash>) -> XetHash {
    let mut hasher = blake3::Hasher::new_keyed(&PROOF_KEY);
    for chunk in chunks {
        hasher.update(chunk.as_bytes());
    }
    XetHash::from_bytes(*hasher.finalize().as_bytes())
}

/// May this chunk be looked for across files, by its hash alone?
pub fn is_dedup_eligible(chunk: &XetHash) -> bool {
    last_word(chunk).is_multiple_of(DEDUP_MODULUS)
}

fn last_word(hash: &XetHash) -> u64 {
    let mut word = [0; 8];
    word.iter_mut().zip(hash.as_bytes().iter().skip(24)).for_each(|(to, from)| *to = *from);
    u64::from_le_bytes(word)
}

pub fn xorb_hash(chunks: impl IntoIterator<Item = (XetHash, u64)>) -> XetHash {
    let mut tree = Tree::default();
    chunks.into_iter().for_each(|(hash, len)| tree.push(hash, len));
    tree.root()
}

/// The hash of a file from its chunks, in order, in memory that grows with the tree's depth only.
#[derive(Debug, Default)]
pub struct FileHasher(Tree);

impl FileHasher {
    pub fn push(&mut self, chunk: XetHash, len: u64) {
        self.0.push(chunk, len);
    }

    pub fn finish(self) -> XetHash {
        if self.0.levels.is_empty() {
            return XetHash::from_bytes([0; 32]);
        }
        keyed(&FILE_KEY, self.0.root().as_bytes())
    }
}

/// A tree that is built from the left: each level holds the children that have no parent yet.
#[derive(Debug, Default)]
struct Tree {
    levels: Vec<TreeLevel>,
}

#[derive(Debug, Default)]
struct TreeLevel {
    children: Vec<(XetHash, u64)>,
    /// Nodes that this level has had in all.
    count: u64,
}

impl Tree {
    fn push(&mut self, hash: XetHash, len: u64) {
        self.push_at(0, hash, len);
    }

    fn push_at(&mut self, level: usize, hash: XetHash, len: u64) {
        if self.levels.len() <= level {
            self.levels.resize_with(level + 1, TreeLevel::default);
        }
        let Some(here) = self.levels.get_mut(level) else { return };
        here.count += 1;
        here.children.push((hash, len));
        let full = here.children.len() == MAX_CHILDREN;
        let cut = here.children.len() >= MIN_CHILDREN && last_word(&hash).is_multiple_of(CUT_MODULUS);
        if full || cut {
            let children = std::mem::take(&mut here.children);
            let (hash, len) = parent(&children);
            self.push_at(level + 1, hash, len);
        }
    }

    fn root(mut self) -> XetHash {
        let mut level = 0;
        while let Some(here) = self.levels.get_mut(level) {
            let children = std::mem::take(&mut here.children);
            if let ([(only, _)], 1) = (children.as_slice(), here.count) {
                return *only;
            }
            if !children.is_empty() {
                let (hash, len) = parent(&children);
                self.push_at(level + 1, hash, len);
            }
            level += 1;
        }
        XetHash::from_bytes([0; 32])
    }
}

fn parent(children: &[(XetHash, u64)]) -> (XetHash, u64) {
    let text: String = children.iter().map(|(hash, len)| format!("{hash} : {len}\n")).collect();
    (keyed(&NODE_KEY, text.as_bytes()), children.iter().map(|(_, len)| len).sum())
}
