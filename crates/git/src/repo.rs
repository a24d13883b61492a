//! One bare repository: its packs, its refs as a file for stock git, and reading its objects.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bastide_core::{EntryPath, Oid, RefName};
use bytes::Bytes;
use gix_object::{Find, FindHeader, Kind};
use gix_odb::store::init::{Options, Slots};

use crate::GitError;
use crate::cache::{BlobFacts, Memory};
use crate::object::{Commit, Entry, Pointer, Tree};

/// Packs that a repository can have before the merging job has come round.
const PACK_SLOTS: u16 = 4096;
/// Largest single allocation that bytes of a pack can ask for.
const ALLOC_LIMIT: usize = 256 * 1024 * 1024;
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
    memory: Arc<Memory>,
}

impl Repo {
    pub(crate) fn open(folder: &Path, memory: Arc<Memory>) -> Result<Self, GitError> {
        create(folder)?;
        let options = Options {
            slots: Slots::Given(PACK_SLOTS),
            alloc_limit_bytes: Some(ALLOC_LIMIT),
            current_dir: Some("/".into()),
            ..Options::default()
        };
        let objects = folder.join("objects");
        let store = gix_odb::Store::at_opts(objects, gix_hash::Kind::Sha1, &mut std::iter::empty(), options)?;
        Ok(Self { folder: folder.to_owned(), store: Arc::new(store), memory })
    }

    /// The bare repository itself, for stock git.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn packs(&self) -> PathBuf {
        self.folder.join("objects/pack")
    }

    /// Which of these packs are not here yet.
    pub fn missing_packs<'a>(&self, wanted: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
        let here = |name: &&str| !self.packs().join(format!("{name}.idx")).exists();
        wanted.into_iter().filter(here).collect()
    }

    /// Where a pack and its index belong: the index last, since it makes the pack visible.
    pub fn pack_paths(&self, name: &str) -> (PathBuf, PathBuf) {
        (self.packs().join(format!("{name}.pack")), self.packs().join(format!("{name}.idx")))
    }

    /// Puts a pack in: by hard link where that is possible.
    pub fn add_pack(&self, name: &str, pack: &Path, index: &Path) -> Result<(), GitError> {
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
        let mut sorted: Vec<_> = refs.iter().collect();
        sorted.sort_by(|a, b| a.0.as_str().cmp(b.0.as_str()));
        let mut text = "# pack-refs with: peeled fully-peeled sorted \n".to_owned();
        for (name, target, peeled) in sorted {
            text.push_str(&format!("{target} {name}\n"));
            if let Some(peeled) = peeled {
                text.push_str(&format!("^{peeled}\n"));
            }
        }
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        file.write_all(text.as_bytes())?;
        file.persist(self.folder.join("packed-refs")).map_err(|error| error.error)?;
        Ok(())
    }

    /// An object's bytes and kind, when it has at most `limit` bytes.
    pub(crate) fn object(&self, oid: Oid, limit: u64) -> Result<(Kind, Vec<u8>), GitError> {
        let id = gix_hash::ObjectId::Sha1(*oid.as_bytes());
        let handle = self.store.to_cache_arc();
        let header = handle.try_header(&id).map_err(|error| GitError::Odb(error.to_string()))?;
        let header = header.ok_or(GitError::Missing(oid))?;
        if header.size > limit {
            return Err(GitError::TooLarge { oid, limit });
        }
        let mut data = Vec::new();
        let found = handle.try_find(&id, &mut data).map_err(|error| GitError::Odb(error.to_string()))?;
        let kind = found.ok_or(GitError::Missing(oid))?.kind;
        Ok((kind, data))
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
            let header = self.store.to_cache_arc().try_header(&id);
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
        let mut seen = HashSet::from([start]);
        // Of equal times the one found first comes first: a child before its parent.
        let mut queue = BinaryHeap::from([(self.commit(start)?.time, Reverse(0), start)]);
        let mut found = Vec::new();
        let mut order = 0;
        let mut passed = 0;
        while let Some((_, _, oid)) = queue.pop() {
            let commit = self.commit(oid)?;
            for parent in &commit.parents {
                if seen.insert(*parent) {
                    order += 1;
                    queue.push((self.commit(*parent)?.time, Reverse(order), *parent));
                }
            }
            if passed >= skip {
                found.push((oid, commit));
            }
            passed += 1;
            if found.len() == take {
                break;
            }
        }
        Ok(found)
    }
}

fn create(folder: &Path) -> Result<(), GitError> {
    fs::create_dir_all(folder.join("objects/pack"))?;
    fs::create_dir_all(folder.join("refs/heads"))?;
    for (name, text) in [("HEAD", "ref: refs/heads/main\n"), ("config", CONFIG)] {
        if !folder.join(name).exists() {
            fs::write(folder.join(name), text)?;
        }
    }
    Ok(())
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
