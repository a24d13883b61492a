//! Deleted and added files that are one file under another name: by equal content, and by similar
//! content within bounds. What the bounds leave out stays a deletion and an addition.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use bastide_core::Oid;

use super::files::{ChangedFile, FileSide};
use crate::object::Mode;
use crate::{GitError, Repo};

/// Deleted times added files up to which contents are compared.
const MAX_PAIRS: usize = 40_000;
/// Bytes of one file and of all files together that are read for this.
const MAX_FILE_BYTES: u64 = 512 * 1024;
const MAX_BYTES: u64 = 16 * 1024 * 1024;
/// Pieces that are compared in all pairs together.
const MAX_STEPS: usize = 20_000_000;
/// Hundredths of a file that are the same when it is taken for the same file.
const MIN_SIMILARITY: u64 = 50;
/// Longest piece of a file that is compared as one, as in git.
const PIECE_BYTES: usize = 64;

pub(super) fn pair_renames(repo: &Repo, files: &mut Vec<ChangedFile>) -> Result<(), GitError> {
    let mut pairing = Pairing::new(files);
    if pairing.deleted.is_empty() || pairing.added.is_empty() {
        return Ok(());
    }
    pairing.equal();
    pairing.similar(repo)?;
    let (pairs, old) = (pairing.pairs, std::mem::take(files));
    *files = join(old, &pairs);
    Ok(())
}

/// Puts the deleted side of each pair beside its added one.
fn join(files: Vec<ChangedFile>, pairs: &HashMap<usize, (usize, u8)>) -> Vec<ChangedFile> {
    let taken: HashMap<usize, FileSide> =
        pairs.values().filter_map(|(from, _)| Some((*from, files.get(*from)?.old.clone()?))).collect();
    let mut joined = Vec::with_capacity(files.len());
    for (at, mut file) in files.into_iter().enumerate() {
        if taken.contains_key(&at) {
            continue;
        }
        if let Some((from, similarity)) = pairs.get(&at) {
            file.old = taken.get(from).cloned();
            file.similarity = *similarity;
        }
        joined.push(file);
    }
    joined
}

struct Pairing {
    deleted: Vec<(usize, FileSide)>,
    added: Vec<(usize, FileSide)>,
    /// By the place of the added file: that of the deleted one, and how similar they are.
    pairs: HashMap<usize, (usize, u8)>,
}

impl Pairing {
    fn new(files: &[ChangedFile]) -> Self {
        let (mut deleted, mut added) = (Vec::new(), Vec::new());
        for (at, file) in files.iter().enumerate() {
            match (&file.old, &file.new) {
                (Some(old), None) if old.mode != Mode::Submodule => deleted.push((at, old.clone())),
                (None, Some(new)) if new.mode != Mode::Submodule => added.push((at, new.clone())),
                _ => {}
            }
        }
        Self { deleted, added, pairs: HashMap::new() }
    }

    fn pair(&mut self, from: usize, to: usize, similarity: u8) {
        self.pairs.insert(to, (from, similarity));
    }

    /// Equal content, under the same name in another folder first.
    fn equal(&mut self) {
        let mut free: HashMap<(Oid, bool), Vec<(usize, String)>> = HashMap::new();
        for (at, side) in self.deleted.iter().rev() {
            free.entry(key(side)).or_default().push((*at, side.path.clone()));
        }
        let mut rest = Vec::new();
        for same_name in [true, false] {
            rest.clear();
            for (to, side) in std::mem::take(&mut self.added) {
                let candidates = free.get_mut(&key(&side));
                let found = candidates.and_then(|free| take(free, &side.path, same_name));
                match found {
                    Some(from) => self.pair(from, to, 100),
                    None => rest.push((to, side)),
                }
            }
            self.added = std::mem::take(&mut rest);
        }
        let used: std::collections::HashSet<usize> = self.pairs.values().map(|(from, _)| *from).collect();
        self.deleted.retain(|(at, _)| !used.contains(at));
    }

    /// Similar content: the most similar pairs first.
    fn similar(&mut self, repo: &Repo) -> Result<(), GitError> {
        if self.deleted.len().saturating_mul(self.added.len()) > MAX_PAIRS {
            return Ok(());
        }
        let mut reader = Reader { repo, left: MAX_BYTES, hasher: RandomState::new() };
        let deleted = reader.pieces_of(&self.deleted)?;
        let added = reader.pieces_of(&self.added)?;
        let mut steps = MAX_STEPS;
        let mut found = Vec::new();
        for new in &added {
            for old in &deleted {
                let Some(similarity) = similarity(old, new, &mut steps) else { continue };
                let same_name = file_name(old.path) == file_name(new.path);
                found.push((similarity, same_name, old.at, new.at));
            }
        }
        found.sort_by(|one, two| (two.0, two.1, one.3, one.2).cmp(&(one.0, one.1, two.3, two.2)));
        let mut used = std::collections::HashSet::new();
        for (similarity, _, from, to) in found {
            if !used.contains(&from) && !self.pairs.contains_key(&to) {
                used.insert(from);
                self.pairs.insert(to, (from, similarity));
            }
        }
        Ok(())
    }
}

/// Links and files are never the same thing.
fn key(side: &FileSide) -> (Oid, bool) {
    (side.oid, side.mode == Mode::Symlink)
}

/// Takes a candidate out: the last of the list (they are in reverse order), or one of that name.
fn take(free: &mut Vec<(usize, String)>, path: &str, same_name: bool) -> Option<usize> {
    if !same_name {
        return free.pop().map(|(at, _)| at);
    }
    let place = free.iter().rposition(|(_, other)| file_name(other) == file_name(path))?;
    Some(free.remove(place).0)
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// A file as a sorted list of its pieces: their hash, and how many bytes they have together.
struct Pieces<'a> {
    at: usize,
    path: &'a str,
    size: u64,
    pieces: Vec<(u64, u64)>,
}

struct Reader<'a> {
    repo: &'a Repo,
    left: u64,
    /// With a key of its own each time: nobody can make pieces that only look alike.
    hasher: RandomState,
}

impl Reader<'_> {
    fn pieces_of<'s>(&mut self, sides: &'s [(usize, FileSide)]) -> Result<Vec<Pieces<'s>>, GitError> {
        let mut found = Vec::new();
        for (at, side) in sides {
            if side.mode == Mode::Symlink {
                continue;
            }
            let size = self.repo.blob_size(side.oid)?;
            // A pointer says nothing of what its file is like.
            let wanted = size > 0 && size <= MAX_FILE_BYTES.min(self.left);
            if !wanted || self.repo.pointer(side.oid)?.is_some() {
                continue;
            }
            self.left -= size;
            let data = self.repo.blob(side.oid, MAX_FILE_BYTES)?;
            found.push(Pieces { at: *at, path: &side.path, size, pieces: self.pieces(&data) });
        }
        Ok(found)
    }

    fn pieces(&self, data: &[u8]) -> Vec<(u64, u64)> {
        let mut by_hash: HashMap<u64, u64> = HashMap::new();
        for line in data.split_inclusive(|byte| *byte == b'\n') {
            for piece in line.chunks(PIECE_BYTES) {
                *by_hash.entry(self.hasher.hash_one(piece)).or_default() += piece.len() as u64;
            }
        }
        let mut pieces: Vec<_> = by_hash.into_iter().collect();
        pieces.sort_unstable();
        pieces
    }
}

/// How much of the larger file is in both, when that is enough.
fn similarity(old: &Pieces<'_>, new: &Pieces<'_>, steps: &mut usize) -> Option<u8> {
    let (least, most) = (old.size.min(new.size), old.size.max(new.size));
    if least * 100 < most * MIN_SIMILARITY {
        return None;
    }
    *steps = steps.checked_sub(old.pieces.len() + new.pieces.len())?;
    let mut others = new.pieces.iter().peekable();
    let mut common = 0;
    for (hash, bytes) in &old.pieces {
        while others.next_if(|(other, _)| other < hash).is_some() {}
        if let Some((_, other)) = others.next_if(|(other, _)| other == hash) {
            common += bytes.min(other);
        }
    }
    let score = common * 100 / most;
    // Only equal files are wholly alike.
    (score >= MIN_SIMILARITY).then(|| u8::try_from(score.min(99)).unwrap_or(99))
}
