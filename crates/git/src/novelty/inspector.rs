//! Reads one repository's objects in a row: those of the pack that has come straight from it, all others by their id.

use std::sync::Arc;

use bastide_core::Oid;
use gix_object::{Find, FindHeader, Kind};

use super::delta;
use super::memory::{Bases, Trees};
use super::packed::Packed;
use super::raw_tree::RawTree;
use crate::object::Commit;
use crate::{GitError, Received, Repo};

/// Largest tree, commit and tag of a push.
const MAX_TREE_BYTES: u64 = 64 * 1024 * 1024;
const MAX_TEXT_BYTES: u64 = 8 * 1024 * 1024;
/// What is kept of the room to unpack objects in.
const BUFFER_BYTES: usize = 1024 * 1024;
/// Deltas upon deltas that are read ahead: what git makes at most.
const MAX_CHAIN: usize = 4095;

/// Reads one repository's objects in a row, with a memory for what deltas build upon.
pub struct Inspector {
    handle: gix_odb::Cache<gix_odb::store::Handle<Arc<gix_odb::Store>>>,
    /// The pack that most of it comes from, and how it is read.
    came: Option<(Arc<Received>, Packed)>,
    trees: Trees,
    /// Where objects are unpacked, one after the other.
    buffer: Vec<u8>,
    /// The object that was asked for last.
    last: Option<(Oid, Kind, u64)>,
    /// Is nobody waiting any more? Asked with every object.
    given_up: Option<Box<dyn Fn() -> bool + Send>>,
}

impl Inspector {
    pub fn new(repo: &Repo) -> Self {
        let mut handle = repo.store().to_cache_arc();
        handle.set_pack_cache(|| Box::new(Bases::default()));
        Self { handle, came: None, trees: Trees::default(), buffer: Vec::new(), last: None, given_up: None }
    }

    /// The same, and it reads what is in a pack from there.
    pub fn of(self, came: Option<&Arc<Received>>) -> Result<Self, GitError> {
        let came = came.map(|came| Ok::<_, GitError>((Arc::clone(came), Packed::open(Arc::clone(came))?)));
        Ok(Self { came: came.transpose()?, ..self })
    }

    /// Ends with `TooSlow` as soon as this is true.
    pub fn unless(mut self, given_up: impl Fn() -> bool + Send + 'static) -> Self {
        self.given_up = Some(Box::new(given_up));
        self
    }

    fn still_wanted(&self) -> Result<(), GitError> {
        if self.given_up.as_ref().is_some_and(|given_up| given_up()) {
            return Err(GitError::TooSlow);
        }
        Ok(())
    }

    /// What an object is, and how long.
    pub fn header(&mut self, oid: Oid) -> Result<(Kind, u64), GitError> {
        self.still_wanted()?;
        if let Some((_, kind, size)) = self.last.filter(|(last, ..)| *last == oid) {
            return Ok((kind, size));
        }
        let (kind, size) = match self.packed_header(oid) {
            Some(found) => found,
            None => self.stored_header(oid)?,
        };
        self.last = Some((oid, kind, size));
        Ok((kind, size))
    }

    fn packed_header(&mut self, oid: Oid) -> Option<(Kind, u64)> {
        let (_, packed) = self.came.as_mut()?;
        let stored = packed.find(oid)?;
        packed.header(&stored)
    }

    fn stored_header(&self, oid: Oid) -> Result<(Kind, u64), GitError> {
        let id = gix_hash::ObjectId::Sha1(*oid.as_bytes());
        let found = self.handle.try_header(&id).map_err(|error| GitError::Odb(error.to_string()))?;
        let header = found.ok_or(GitError::Missing(oid))?;
        Ok((header.kind, header.size))
    }

    fn read(&mut self, oid: Oid, wanted: Kind, limit: u64) -> Result<Vec<u8>, GitError> {
        let (kind, size) = self.header(oid)?;
        if kind != wanted {
            return Err(GitError::Kind(oid, name(wanted)));
        }
        if size > limit {
            return Err(GitError::TooLarge { oid, limit });
        }
        match self.packed_whole(oid, limit) {
            Some(data) => Ok(data),
            None => self.stored(oid),
        }
    }

    /// An object that stands in the pack as it is.
    fn packed_whole(&mut self, oid: Oid, limit: u64) -> Option<Vec<u8>> {
        let (_, packed) = self.came.as_mut()?;
        let stored = packed.find(oid).filter(|stored| stored.kind.is_some())?;
        packed.bytes(&stored, limit)
    }

    fn stored(&mut self, oid: Oid) -> Result<Vec<u8>, GitError> {
        let id = gix_hash::ObjectId::Sha1(*oid.as_bytes());
        // Unpacking takes several times the room of what comes out, which may be kept.
        let found = self.handle.try_find(&id, &mut self.buffer);
        let found = found.map_err(|error| GitError::Odb(error.to_string()))?;
        let data = found.ok_or(GitError::Missing(oid))?.data.to_vec();
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_BYTES);
        Ok(data)
    }

    /// How long a file is.
    pub fn file_size(&mut self, oid: Oid) -> Result<u64, GitError> {
        match self.header(oid)? {
            (Kind::Blob, size) => Ok(size),
            _ => Err(GitError::Kind(oid, "file")),
        }
    }

    pub fn file(&mut self, oid: Oid, limit: u64) -> Result<Vec<u8>, GitError> {
        self.read(oid, Kind::Blob, limit)
    }

    /// The first bytes of a file: so many, or more.
    pub fn start_of_file(&mut self, oid: Oid, bytes: usize, limit: u64) -> Result<Vec<u8>, GitError> {
        let start = self.came.as_mut().and_then(|(_, packed)| {
            let stored = packed.find(oid).filter(|stored| stored.kind == Some(Kind::Blob))?;
            packed.start(&stored, bytes)
        });
        start.map_or_else(|| self.file(oid, limit), Ok)
    }

    pub fn commit(&mut self, oid: Oid) -> Result<Commit, GitError> {
        Commit::parse(oid, &self.read(oid, Kind::Commit, MAX_TEXT_BYTES)?)
    }

    /// The target and the text of an annotated tag; `None` when it is something else.
    pub fn tag(&mut self, oid: Oid) -> Result<Option<(Oid, String)>, GitError> {
        if self.header(oid)?.0 != Kind::Tag {
            return Ok(None);
        }
        let data = self.read(oid, Kind::Tag, MAX_TEXT_BYTES)?;
        let target = crate::check::tag_target(oid, &data)?;
        Ok(Some((target, String::from_utf8_lossy(&data).into_owned())))
    }

    pub(super) fn tree(&mut self, oid: Oid) -> Result<Arc<RawTree>, GitError> {
        if let Some(tree) = self.trees.get(oid) {
            return Ok(tree);
        }
        let Some((came, _)) = &self.came else { return self.read_tree(oid) };
        // What it builds upon is read from the ground up, so that each step is taken once, and not again for each that
        // builds upon it.
        let chain = came.objects.chain(&oid).take_while(|base| !self.trees.has(*base));
        let chain: Vec<Oid> = chain.take(MAX_CHAIN).collect();
        for base in chain.into_iter().rev() {
            // Nothing has asked for this one: if it cannot be read, that is no fault by itself.
            if self.read_tree(base).is_err() {
                break;
            }
        }
        self.read_tree(oid)
    }

    fn read_tree(&mut self, oid: Oid) -> Result<Arc<RawTree>, GitError> {
        self.still_wanted()?;
        let tree = match self.packed_tree(oid) {
            Some(tree) => tree,
            None => RawTree::new(self.read(oid, Kind::Tree, MAX_TREE_BYTES)?),
        };
        let tree = Arc::new(tree);
        self.trees.put(oid, &tree);
        Ok(tree)
    }

    /// A tree of the pack, where it stands as it is or builds upon one that is in memory: so it is a tree as well.
    fn packed_tree(&mut self, oid: Oid) -> Option<RawTree> {
        let (_, packed) = self.came.as_mut()?;
        let stored = packed.find(oid)?;
        if stored.kind.is_some() {
            let data = (stored.kind == Some(Kind::Tree)).then(|| packed.bytes(&stored, MAX_TREE_BYTES));
            return data?.map(RawTree::new);
        }
        let base = self.trees.get(packed.base(&stored)?)?;
        let delta = packed.bytes(&stored, MAX_TREE_BYTES)?;
        Some(RawTree::like(delta::apply(base.data(), &delta, MAX_TREE_BYTES)?, &base))
    }
}

const fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Commit => "commit",
        Kind::Tree => "tree",
        Kind::Blob => "file",
        Kind::Tag => "tag",
    }
}
