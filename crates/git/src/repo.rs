//! One bare repository: its packs, its refs as a file for stock git, and reading its objects.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bastide_core::{EntryPath, Oid, RefName};
use bytes::Bytes;
use gix_object::{Find, FindHeader, Kind};
use gix_odb::store::init::{Options, Slots};

use crate::GitError;
use crate::cache::{BlobFacts, Memory};
use crate::object::{Commit, Entry, Pointer, Tree};
use crate::pack::LARGE_OFFSET;

/// Packs that an open repository has room for, at least. One that gets more is opened again, with
/// room for twice as many.
const PACK_SLOTS: usize = 256;
/// What the object database can number at most.
const MAX_PACK_SLOTS: usize = 32_000;
/// Largest single allocation that bytes of a pack can ask for.
pub(crate) const ALLOC_LIMIT: usize = 256 * 1024 * 1024;
/// Largest tree and commit that is read.
const MAX_TREE_BYTES: u64 = 64 * 1024 * 1024;
const MAX_COMMIT_BYTES: u64 = 8 * 1024 * 1024;

const CONFIG: &str = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n\
    [gc]\n\tauto = 0\n[receive]\n\tautogc = false\n[uploadpack]\n\tallowFilter = true\n\tallowAnySHA1InWant = false\n";

/// An open repository. Cheap to clone.
#[derive(Clone)]
pub struct Repo {
    folder: PathBuf,
    store: Arc<gix_odb::Store>,
    slots: usize,
    memory: Arc<Memory>,
    /// Readers of objects that nobody uses just now: making one costs more than reading most objects.
    readers: Arc<Mutex<Vec<Reader>>>,
}

type Reader = gix_odb::Cache<gix_odb::store::Handle<Arc<gix_odb::Store>>>;

/// Readers that are kept of one repository.
const IDLE_READERS: usize = 4;

/// A pack as its owner knows it: what a copy of it has to be like.
#[derive(Debug, Clone, Copy)]
pub struct KnownPack<'a> {
    pub name: &'a str,
    pub objects: u64,
    pub bytes: u64,
}

impl Repo {
    pub(crate) fn open(folder: &Path, memory: Arc<Memory>) -> Result<Self, GitError> {
        create(folder)?;
        let slots = (indexes(folder)?.len() * 2).clamp(PACK_SLOTS, MAX_PACK_SLOTS);
        Ok(Self {
            folder: folder.to_owned(),
            store: open_store(folder, slots)?,
            slots,
            memory,
            readers: Arc::default(),
        })
    }

    /// A repository that shares nothing with others but the objects of its alternates.
    pub(crate) fn open_apart(folder: &Path, slots: usize) -> Result<Self, GitError> {
        create(folder)?;
        let (store, memory) = (open_store(folder, slots.min(MAX_PACK_SLOTS))?, Arc::new(Memory::small()));
        Ok(Self { folder: folder.to_owned(), store, slots, memory, readers: Arc::default() })
    }

    /// Packs that this handle can open.
    pub(crate) const fn slots(&self) -> usize {
        self.slots
    }

    /// Is an object here?
    pub fn has(&self, oid: Oid) -> Result<bool, GitError> {
        let id = gix_hash::ObjectId::Sha1(*oid.as_bytes());
        let header = self.with_reader(|reader| reader.try_header(&id));
        Ok(header.map_err(|error| GitError::Odb(error.to_string()))?.is_some())
    }

    fn with_reader<T>(&self, read: impl FnOnce(&Reader) -> T) -> T {
        let idle = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let reader = idle.unwrap_or_else(|| self.store.to_cache_arc());
        let done = read(&reader);
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if readers.len() < IDLE_READERS {
            readers.push(reader);
        }
        done
    }

    pub(crate) fn store(&self) -> &Arc<gix_odb::Store> {
        &self.store
    }

    /// Puts the folder itself in order: it is a copy that anybody may have cleared away.
    pub fn restore(&self) -> Result<(), GitError> {
        create(&self.folder)
    }

    /// Are there no more packs here than this handle can open?
    pub fn has_room(&self) -> Result<bool, GitError> {
        Ok(indexes(&self.folder)?.len() < self.slots || self.slots == MAX_PACK_SLOTS)
    }

    /// The bare repository itself, for stock git.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn packs(&self) -> PathBuf {
        self.folder.join("objects/pack")
    }

    /// Which of these packs are not here, or not whole.
    pub fn missing_packs<'a>(&self, wanted: impl IntoIterator<Item = KnownPack<'a>>) -> Vec<&'a str> {
        let missing = wanted.into_iter().filter(|pack| !self.is_whole(pack));
        missing.map(|pack| pack.name).collect()
    }

    fn is_whole(&self, known: &KnownPack<'_>) -> bool {
        let (pack, index) = self.pack_paths(known.name);
        is_whole(&pack, &index, known)
    }

    /// Packs here that are not among `named` and have not been touched for `age`: of merges and of
    /// changes that never came to be.
    pub fn stale_packs(&self, named: &HashSet<&str>, age: Duration) -> Result<Vec<String>, GitError> {
        let mut stale = Vec::new();
        for path in indexes(&self.folder)? {
            let Some(name) = path.file_stem().and_then(|stem| stem.to_str()) else { continue };
            if !named.contains(name) && is_older(&path, age) {
                stale.push(name.to_owned());
            }
        }
        Ok(stale)
    }

    /// Where a pack and its index belong: the index last, since it makes the pack visible.
    pub fn pack_paths(&self, name: &str) -> (PathBuf, PathBuf) {
        (self.packs().join(format!("{name}.pack")), self.packs().join(format!("{name}.idx")))
    }

    /// Puts a pack in: by hard link where that is possible.
    pub fn add_pack(&self, name: &str, pack: &Path, index: &Path) -> Result<(), GitError> {
        create(&self.folder)?;
        let (to_pack, to_index) = self.pack_paths(name);
        place(pack, &to_pack)?;
        place(index, &to_index)
    }

    /// Removes packs whose objects are in others. Whoever reads from them looks again and finds
    /// the others, as after any `git repack`.
    pub fn remove_packs(&self, names: &[String]) -> Result<(), GitError> {
        for name in names {
            let (pack, index) = self.pack_paths(name);
            for path in [index, pack] {
                match fs::remove_file(path) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Writes all refs for stock git: (name, target, what an annotated tag comes to).
    pub fn write_refs(&self, refs: &[(RefName, Oid, Option<Oid>)]) -> Result<(), GitError> {
        let text = packed_refs(refs);
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        file.write_all(text.as_bytes())?;
        file.persist(self.folder.join("packed-refs")).map_err(|error| error.error)?;
        Ok(())
    }

    /// An object's bytes and kind, when it has at most `limit` bytes.
    pub(crate) fn object(&self, oid: Oid, limit: u64) -> Result<(Kind, Vec<u8>), GitError> {
        let id = gix_hash::ObjectId::Sha1(*oid.as_bytes());
        self.with_reader(|reader| {
            let header = reader.try_header(&id).map_err(|error| GitError::Odb(error.to_string()))?;
            let header = header.ok_or(GitError::Missing(oid))?;
            if header.size > limit {
                return Err(GitError::TooLarge { oid, limit });
            }
            let mut data = Vec::new();
            let found = reader.try_find(&id, &mut data).map_err(|error| GitError::Odb(error.to_string()))?;
            let kind = found.ok_or(GitError::Missing(oid))?.kind;
            Ok((kind, data))
        })
    }

    pub fn tree(&self, oid: Oid) -> Result<Arc<Tree>, GitError> {
        self.memory.trees.get_or_insert_with(&oid, || match self.object(oid, MAX_TREE_BYTES)? {
            (Kind::Tree, data) => Ok(Arc::new(Tree::parse(oid, &data)?)),
            _ => Err(GitError::Kind(oid, "tree")),
        })
    }

    pub fn commit(&self, oid: Oid) -> Result<Arc<Commit>, GitError> {
        self.memory.commits.get_or_insert_with(&oid, || match self.object(oid, MAX_COMMIT_BYTES)? {
            (Kind::Commit, data) => Ok(Arc::new(Commit::parse(oid, &data)?)),
            _ => Err(GitError::Kind(oid, "commit")),
        })
    }

    pub fn blob(&self, oid: Oid, limit: u64) -> Result<Bytes, GitError> {
        match self.object(oid, limit)? {
            (Kind::Blob, data) => Ok(data.into()),
            _ => Err(GitError::Kind(oid, "file")),
        }
    }

    fn facts(&self, oid: Oid) -> Result<BlobFacts, GitError> {
        self.memory.blobs.get_or_insert_with(&oid, || {
            let id = gix_hash::ObjectId::Sha1(*oid.as_bytes());
            let header = self.with_reader(|reader| reader.try_header(&id));
            let header =
                header.map_err(|error| GitError::Odb(error.to_string()))?.ok_or(GitError::Missing(oid))?;
            let size = header.size;
            let pointer =
                if size <= Pointer::MAX_BYTES { Pointer::parse(&self.blob(oid, size)?) } else { None };
            Ok(BlobFacts { size, pointer })
        })
    }

    pub fn blob_size(&self, oid: Oid) -> Result<u64, GitError> {
        Ok(self.facts(oid)?.size)
    }

    /// The pointer that a blob is, if it is one.
    pub fn pointer(&self, oid: Oid) -> Result<Option<Pointer>, GitError> {
        Ok(self.facts(oid)?.pointer)
    }

    /// What stands at a path.
    pub fn find(&self, tree: Oid, path: &EntryPath) -> Result<Option<Entry>, GitError> {
        let mut segments = path.segments().peekable();
        let mut tree = self.tree(tree)?;
        while let Some(segment) = segments.next() {
            let Some(entry) = tree.find(segment) else { return Ok(None) };
            if segments.peek().is_none() {
                return Ok(Some(entry.clone()));
            }
            if !entry.is_tree() {
                return Ok(None);
            }
            tree = self.tree(entry.oid)?;
        }
        Ok(None)
    }

    /// Commits from `start` back, newest first: `take` of them after `skip`.
    pub fn history(&self, start: Oid, skip: usize, take: usize) -> Result<Vec<(Oid, Arc<Commit>)>, GitError> {
        let mut found = Vec::new();
        let mut passed = 0;
        self.walk_history(start, |oid| {
            if passed >= skip {
                found.push(oid);
            }
            passed += 1;
            found.len() < take
        })?;
        found.into_iter().map(|oid| Ok((oid, self.commit(oid)?))).collect()
    }

    /// Shows `visit` the commits from `start` back, newest first, each once, while it answers yes.
    pub fn walk_history(&self, start: Oid, mut visit: impl FnMut(Oid) -> bool) -> Result<(), GitError> {
        let mut seen = HashSet::from([start]);
        // Of equal times the one found first comes first: a child before its parent.
        let mut queue = BinaryHeap::from([(self.commit(start)?.time, Reverse(0), start)]);
        let mut order = 0;
        while let Some((_, _, oid)) = queue.pop() {
            for parent in &self.commit(oid)?.parents {
                if seen.insert(*parent) {
                    order += 1;
                    queue.push((self.commit(*parent)?.time, Reverse(order), *parent));
                }
            }
            if !visit(oid) {
                break;
            }
        }
        Ok(())
    }
}

fn open_store(folder: &Path, slots: usize) -> Result<Arc<gix_odb::Store>, GitError> {
    let options = Options {
        slots: Slots::Given(u16::try_from(slots).unwrap_or(u16::MAX)),
        alloc_limit_bytes: Some(ALLOC_LIMIT),
        current_dir: Some("/".into()),
        ..Options::default()
    };
    let objects = folder.join("objects");
    Ok(Arc::new(gix_odb::Store::at_opts(objects, gix_hash::Kind::Sha1, &mut std::iter::empty(), options)?))
}

pub(crate) fn create(folder: &Path) -> Result<(), GitError> {
    fs::create_dir_all(folder.join("objects/pack"))?;
    fs::create_dir_all(folder.join("refs/heads"))?;
    for (name, text) in [("HEAD", "ref: refs/heads/main\n"), ("config", CONFIG)] {
        // Whole or not at all, whatever a crash has left here.
        if fs::read(folder.join(name)).is_ok_and(|found| found == text.as_bytes()) {
            continue;
        }
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.persist(folder.join(name)).map_err(|error| error.error)?;
    }
    Ok(())
}

/// The indexes of packs in a repository.
fn indexes(folder: &Path) -> Result<Vec<PathBuf>, GitError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder.join("objects/pack"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "idx") {
            found.push(path);
        }
    }
    Ok(found)
}

fn is_older(path: &Path, age: Duration) -> bool {
    let modified = fs::metadata(path).and_then(|meta| meta.modified());
    modified.ok().and_then(|at| at.elapsed().ok()).is_some_and(|found| found >= age)
}

/// All refs as stock git keeps them in one file.
pub(crate) fn packed_refs(refs: &[(RefName, Oid, Option<Oid>)]) -> String {
    let mut sorted: Vec<_> = refs.iter().collect();
    sorted.sort_by(|a, b| a.0.as_str().cmp(b.0.as_str()));
    let mut text = "# pack-refs with: peeled fully-peeled sorted \n".to_owned();
    for (name, target, peeled) in sorted {
        text.push_str(&format!("{target} {name}\n"));
        if let Some(peeled) = peeled {
            text.push_str(&format!("^{peeled}\n"));
        }
    }
    text
}

/// Have a pack and its index the lengths that they should have?
pub(crate) fn is_whole(pack: &Path, index: &Path, known: &KnownPack<'_>) -> bool {
    let length = |path| fs::metadata(path).map_or(0, |meta| meta.len());
    length(pack) == known.bytes && is_index_length(length(index), known)
}

/// An index of version 2 has a fixed length for a number of objects, but for eight bytes more for
/// each that lies beyond the first 2 GiB of its pack.
fn is_index_length(length: u64, pack: &KnownPack<'_>) -> bool {
    const FIXED_BYTES: u64 = 8 + 256 * 4 + 2 * 20;
    const OBJECT_BYTES: u64 = 20 + 4 + 4;
    let least = FIXED_BYTES + OBJECT_BYTES * pack.objects;
    length == least || pack.bytes > LARGE_OFFSET && length > least && (length - least).is_multiple_of(8)
}

/// What a crash can leave among the packs: whatever is not one, and the halves of copies.
fn is_litter(path: &Path) -> bool {
    const KEPT: [&str; 5] = ["pack", "idx", "rev", "bitmap", "keep"];
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let temporary = name.starts_with(".tmp") || name.starts_with("tmp_");
    temporary || !KEPT.contains(&ending) && name != "multi-pack-index"
}

/// Removes temporary files of this age from a repository's folder.
pub(crate) fn sweep(folder: &Path, age: Duration) -> usize {
    let entries = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let packs = entries(&folder.join("objects/pack")).filter(|path| is_litter(path));
    let beside = entries(folder).filter(|path| {
        path.is_file() && path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".tmp"))
    });
    packs.chain(beside).filter(|path| is_older(path, age) && fs::remove_file(path).is_ok()).count()
}

fn place(from: &Path, to: &Path) -> Result<(), GitError> {
    use std::io::ErrorKind::AlreadyExists;
    if to.exists() {
        return Ok(());
    }
    match fs::hard_link(from, to) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == AlreadyExists => Ok(()),
        Err(_) => {
            let beside = tempfile::Builder::new().tempfile_in(to.parent().unwrap_or(to))?;
            fs::copy(from, beside.path())?;
            beside.persist(to).map_err(|error| error.error)?;
            Ok(())
        }
    }
}
