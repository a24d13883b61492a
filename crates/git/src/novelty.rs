//! What new commits bring: the paths that each has changed against all of its parents, read from bytes that anybody
//! may have written. Nothing is read leniently here: what is not to the letter as git writes it is a flaw.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;

use bastide_core::Oid;
use bastide_core::limits::MAX_PATH_SEGMENTS;
use gix_object::{Find, FindHeader, Kind};
use gix_odb::pack::cache::DecodeEntry;

use crate::edit::Change;
use crate::names::clash;
use crate::object::{Commit, Mode};
use crate::{GitError, Received, Repo};

/// Largest tree, commit and tag of a push.
const MAX_TREE_BYTES: u64 = 64 * 1024 * 1024;
const MAX_TEXT_BYTES: u64 = 8 * 1024 * 1024;
/// Bytes of trees, and of objects that others build upon, that are kept in memory.
const TREE_BYTES: usize = 64 * 1024 * 1024;
const BASE_BYTES: usize = 64 * 1024 * 1024;
/// An entry of a tree, with a name of usual length.
const USUAL_ENTRY_BYTES: usize = 36;
/// What is kept of the room to unpack objects in.
const BUFFER_BYTES: usize = 1024 * 1024;
/// Deltas upon deltas that are read ahead: what git makes at most.
const MAX_CHAIN: usize = 4095;

/// A new file in a commit, for the rules to judge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewFile {
    pub path: String,
    pub mode: Mode,
    pub oid: Oid,
}

/// Something in a tree that no rule has to be asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flaw {
    /// A name that is not text; shown as well as it can be.
    NotText {
        path: String,
    },
    Mode {
        path: String,
        mode: String,
    },
    Clash {
        old: String,
        new: String,
    },
    TooDeep {
        path: String,
    },
    /// A tree that git would not have written.
    Malformed {
        path: String,
    },
}

/// What one commit brings.
#[derive(Debug, Default)]
pub struct Novelty {
    /// Paths, as rows have them.
    pub changes: Vec<Change>,
    pub files: Vec<NewFile>,
    pub flaws: Vec<Flaw>,
    /// Every tree and file that differs from what all parents have in its place.
    pub objects: Vec<Oid>,
}

/// Reads one repository's objects in a row, with a memory for what deltas build upon.
pub struct Inspector {
    handle: gix_odb::Cache<gix_odb::store::Handle<Arc<gix_odb::Store>>>,
    /// The pack that most of it comes from.
    came: Option<Arc<Received>>,
    trees: Trees,
    /// Where objects are unpacked, one after the other.
    buffer: RefCell<Vec<u8>>,
    /// The object that was asked for last.
    last: Cell<Option<(Oid, Kind, u64)>>,
    /// Changes that may still be found before it is too much.
    room: usize,
    /// Is nobody waiting any more? Asked with every object.
    given_up: Option<Box<dyn Fn() -> bool + Send>>,
}

impl Inspector {
    /// `room`: how many changes there may be over all commits.
    pub fn new(repo: &Repo, room: usize) -> Self {
        let mut handle = repo.store().to_cache_arc();
        handle.set_pack_cache(|| Box::new(Bases::default()));
        let (buffer, last) = (RefCell::default(), Cell::default());
        Self { handle, came: None, trees: Trees::default(), buffer, last, room, given_up: None }
    }

    /// The same, and it knows how the objects of a pack build upon each other.
    #[must_use]
    pub fn of(self, came: Option<Arc<Received>>) -> Self {
        Self { came, ..self }
    }

    /// Ends with `TooSlow` as soon as this is true.
    pub fn unless(mut self, given_up: impl Fn() -> bool + Send + 'static) -> Self {
        self.given_up = Some(Box::new(given_up));
        self
    }

    /// What an object is, and how long.
    pub fn header(&self, oid: Oid) -> Result<(Kind, u64), GitError> {
        if self.given_up.as_ref().is_some_and(|given_up| given_up()) {
            return Err(GitError::TooSlow);
        }
        if let Some((_, kind, size)) = self.last.get().filter(|(last, ..)| *last == oid) {
            return Ok((kind, size));
        }
        let id = gix_hash::ObjectId::Sha1(*oid.as_bytes());
        let found = self.handle.try_header(&id).map_err(|error| GitError::Odb(error.to_string()))?;
        let header = found.ok_or(GitError::Missing(oid))?;
        self.last.set(Some((oid, header.kind, header.size)));
        Ok((header.kind, header.size))
    }

    fn read(&self, oid: Oid, wanted: Kind, limit: u64) -> Result<Vec<u8>, GitError> {
        let (kind, size) = self.header(oid)?;
        if kind != wanted {
            return Err(GitError::Kind(oid, name(wanted)));
        }
        if size > limit {
            return Err(GitError::TooLarge { oid, limit });
        }
        let id = gix_hash::ObjectId::Sha1(*oid.as_bytes());
        // Unpacking takes several times the room of what comes out, which may be kept.
        let mut buffer = self.buffer.borrow_mut();
        let found =
            self.handle.try_find(&id, &mut buffer).map_err(|error| GitError::Odb(error.to_string()))?;
        let data = found.ok_or(GitError::Missing(oid))?.data.to_vec();
        buffer.clear();
        buffer.shrink_to(BUFFER_BYTES);
        Ok(data)
    }

    /// How long a file is.
    pub fn file_size(&self, oid: Oid) -> Result<u64, GitError> {
        match self.header(oid)? {
            (Kind::Blob, size) => Ok(size),
            _ => Err(GitError::Kind(oid, "file")),
        }
    }

    pub fn file(&self, oid: Oid, limit: u64) -> Result<Vec<u8>, GitError> {
        self.read(oid, Kind::Blob, limit)
    }

    pub fn commit(&self, oid: Oid) -> Result<Commit, GitError> {
        Commit::parse(oid, &self.read(oid, Kind::Commit, MAX_TEXT_BYTES)?)
    }

    /// The target and the text of an annotated tag; `None` when it is something else.
    pub fn tag(&self, oid: Oid) -> Result<Option<(Oid, String)>, GitError> {
        if self.header(oid)?.0 != Kind::Tag {
            return Ok(None);
        }
        let data = self.read(oid, Kind::Tag, MAX_TEXT_BYTES)?;
        let target = crate::check::tag_target(oid, &data)?;
        Ok(Some((target, String::from_utf8_lossy(&data).into_owned())))
    }

    fn tree(&mut self, oid: Oid) -> Result<Arc<RawTree>, GitError> {
        if let Some(tree) = self.trees.get(oid) {
            return Ok(tree);
        }
        // Git makes deltas of older trees against newer ones, and the oldest is read first. What it builds upon is
        // read from the ground up, so that each step is taken once, and not again for each that builds upon it.
        let Some(came) = self.came.clone() else { return self.read_tree(oid) };
        let chain = came.objects.chain(oid).take_while(|base| !self.trees.has(*base));
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
        let tree = Arc::new(RawTree::new(self.read(oid, Kind::Tree, MAX_TREE_BYTES)?));
        self.trees.put(oid, &tree);
        Ok(tree)
    }

    /// What a tree brings that none of its parents' trees has.
    pub fn novelty(&mut self, parents: &[Oid], tree: Oid) -> Result<Novelty, GitError> {
        let mut found = Novelty::default();
        let parents: Vec<Option<Oid>> = parents.iter().copied().map(Some).collect();
        if !parents.contains(&Some(tree)) {
            found.objects.push(tree);
            self.folder(&parents, tree, "", &mut found)?;
        }
        merge_changes(&mut found.changes);
        Ok(found)
    }

    fn folder(
        &mut self,
        parents: &[Option<Oid>],
        tree: Oid,
        prefix: &str,
        found: &mut Novelty,
    ) -> Result<(), GitError> {
        if prefix.split('/').count() > MAX_PATH_SEGMENTS {
            found.flaws.push(Flaw::TooDeep { path: prefix.to_owned() });
            return Ok(());
        }
        let tree = self.tree(tree)?;
        if tree.malformed {
            found.flaws.push(Flaw::Malformed { path: prefix.to_owned() });
            return Ok(());
        }
        let mut old = Vec::with_capacity(parents.len());
        for parent in parents {
            old.push(parent.map(|oid| self.tree(oid)).transpose()?.unwrap_or_default());
        }
        let mut added = Vec::new();
        for step in Steps::new(&tree, &old) {
            // What a merge takes from its other parents comes together with the first one's names here.
            if let (Some(new), None) = (step.new, step.old.first().copied().flatten()) {
                added.push(new);
            }
            if step.old.contains(&step.new) {
                continue;
            }
            self.step(&step, prefix, found)?;
        }
        note_clash(&tree, &added, prefix, found);
        Ok(())
    }

    fn step(&mut self, step: &Step<'_>, prefix: &str, found: &mut Novelty) -> Result<(), GitError> {
        let Some(one) = step.new.or_else(|| step.old.iter().flatten().next().copied()) else { return Ok(()) };
        let shown = String::from_utf8_lossy(one.name);
        let path = if prefix.is_empty() { shown.into_owned() } else { format!("{prefix}/{shown}") };
        // Long paths count for more: all of them are in memory at the end.
        self.room = self.room.checked_sub(1 + path.len() / 128).ok_or(GitError::TooManyChanges)?;
        let is_tree = one.is_tree();
        let old = step.old.first().copied().flatten().map(|entry| entry.oid);
        found.changes.push(Change { path: path.clone(), old, new: step.new.map(|new| new.oid), is_tree });
        // What was in a folder that has gone went with it.
        let Some(new) = step.new else { return Ok(()) };
        if std::str::from_utf8(new.name).is_err() {
            found.flaws.push(Flaw::NotText { path });
            return Ok(());
        }
        let Some(mode) = Mode::exact(new.mode) else {
            let mode = String::from_utf8_lossy(new.mode).into_owned();
            found.flaws.push(Flaw::Mode { path, mode });
            return Ok(());
        };
        if mode != Mode::Submodule {
            found.objects.push(new.oid);
        }
        if mode != Mode::Tree {
            found.files.push(NewFile { path, mode, oid: new.oid });
            return Ok(());
        }
        let below: Vec<Option<Oid>> = step.old.iter().map(|old| old.map(|old| old.oid)).collect();
        self.folder(&below, new.oid, &path, found)
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

/// A path that was a folder and is a file, or the other way round, is one change.
fn merge_changes(changes: &mut Vec<Change>) {
    changes.sort_by(|one, two| one.path.cmp(&two.path));
    changes.dedup_by(|later, kept| {
        let same = later.path == kept.path;
        if same && later.new.is_some() {
            std::mem::swap(later, kept);
        }
        same
    });
}

fn note_clash(tree: &RawTree, added: &[Entry<'_>], prefix: &str, found: &mut Novelty) {
    let added: Vec<&str> = added.iter().filter_map(|entry| std::str::from_utf8(entry.name).ok()).collect();
    if added.is_empty() {
        return;
    }
    let names = (0..tree.entries.len()).filter_map(|at| std::str::from_utf8(tree.get(at)?.name).ok());
    if let Some((old, new)) = clash(names, &added) {
        let full = |name: &str| if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
        found.flaws.push(Flaw::Clash { old: full(old), new: full(new) });
    }
}

/// A tree as its bytes have it.
#[derive(Default)]
struct RawTree {
    data: Vec<u8>,
    entries: Vec<RawEntry>,
    malformed: bool,
}

/// Where an entry is in the bytes.
struct RawEntry {
    start: u32,
    space: u32,
    end: u32,
}

/// Trees that were read: those that nobody has asked for in a while are thrown away when it is too much.
#[derive(Default)]
struct Trees {
    fresh: HashMap<Oid, Arc<RawTree>>,
    old: HashMap<Oid, Arc<RawTree>>,
    bytes: usize,
}

impl Trees {
    fn has(&self, oid: Oid) -> bool {
        self.fresh.contains_key(&oid) || self.old.contains_key(&oid)
    }

    fn get(&mut self, oid: Oid) -> Option<Arc<RawTree>> {
        if let Some(tree) = self.fresh.get(&oid) {
            return Some(Arc::clone(tree));
        }
        let tree = self.old.remove(&oid)?;
        self.put(oid, &tree);
        Some(tree)
    }

    fn put(&mut self, oid: Oid, tree: &Arc<RawTree>) {
        if self.bytes > TREE_BYTES / 2 {
            self.old = std::mem::take(&mut self.fresh);
            self.bytes = 0;
        }
        self.bytes += tree.data.len() + tree.entries.len() * size_of::<RawEntry>();
        self.fresh.insert(oid, Arc::clone(tree));
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry<'a> {
    mode: &'a [u8],
    name: &'a [u8],
    oid: Oid,
}

impl Entry<'_> {
    fn is_tree(&self) -> bool {
        self.mode == b"40000"
    }

    /// Folders sort as if their names ended in '/'.
    fn order(&self, other: &Self) -> std::cmp::Ordering {
        let shared = self.name.len().min(other.name.len());
        let heads = (self.name.get(..shared), other.name.get(..shared));
        let next = |entry: &Self| entry.name.get(shared).copied().or_else(|| entry.is_tree().then_some(b'/'));
        heads
            .0
            .cmp(&heads.1)
            .then_with(|| next(self).cmp(&next(other)))
            .then(self.name.len().cmp(&other.name.len()))
    }
}

impl RawTree {
    fn new(data: Vec<u8>) -> Self {
        let entries = Vec::with_capacity(data.len() / USUAL_ENTRY_BYTES);
        let mut tree = Self { data, entries, malformed: false };
        tree.malformed = tree.parse().is_none() || !tree.is_sorted();
        tree
    }

    fn parse(&mut self) -> Option<()> {
        let mut start = 0;
        while start < self.data.len() {
            let rest = self.data.get(start..)?;
            let space = start + rest.iter().take(8).position(|byte| *byte == b' ')?;
            let end = space + self.data.get(space..)?.iter().position(|byte| *byte == 0)?;
            self.data.get(end + 1..end + 21)?;
            let name = self.data.get(space + 1..end)?;
            if name.is_empty() || name.contains(&b'/') {
                return None;
            }
            self.entries.push(RawEntry {
                start: start.try_into().ok()?,
                space: space.try_into().ok()?,
                end: end.try_into().ok()?,
            });
            start = end + 21;
        }
        Some(())
    }

    /// In git's order, and no name twice.
    fn is_sorted(&self) -> bool {
        (1..self.entries.len()).all(|at| match (self.get(at - 1), self.get(at)) {
            (Some(one), Some(two)) => one.order(&two).is_lt() && one.name != two.name,
            _ => false,
        })
    }

    fn get(&self, at: usize) -> Option<Entry<'_>> {
        let RawEntry { start, space, end } = *self.entries.get(at)?;
        let (start, space, end) = (start as usize, space as usize, end as usize);
        Some(Entry {
            mode: self.data.get(start..space)?,
            name: self.data.get(space + 1..end)?,
            oid: Oid::from_slice(self.data.get(end + 1..end + 21)?).ok()?,
        })
    }
}

/// What stands at one name: in the new tree, and in each of the old ones. A file and a folder of one name are two.
struct Step<'a> {
    new: Option<Entry<'a>>,
    old: Vec<Option<Entry<'a>>>,
}

/// Goes through trees side by side.
struct Steps<'a> {
    new: (&'a RawTree, usize),
    old: Vec<(&'a RawTree, usize)>,
}

impl<'a> Steps<'a> {
    fn new(tree: &'a RawTree, old: &'a [Arc<RawTree>]) -> Self {
        Self { new: (tree, 0), old: old.iter().map(|tree| (&**tree, 0)).collect() }
    }
}

fn take<'a>(cursor: &mut (&'a RawTree, usize), first: &Entry<'a>) -> Option<Entry<'a>> {
    let entry = cursor.0.get(cursor.1).filter(|entry| entry.order(first).is_eq())?;
    cursor.1 += 1;
    Some(entry)
}

impl<'a> Iterator for Steps<'a> {
    type Item = Step<'a>;

    fn next(&mut self) -> Option<Step<'a>> {
        // Most entries are the same everywhere: those are passed without a step.
        loop {
            let new = self.new.0.get(self.new.1);
            let same = new.is_some() && self.old.first().is_some_and(|(tree, at)| tree.get(*at) == new);
            if !same || self.old.len() != 1 {
                break;
            }
            self.new.1 += 1;
            self.old.iter_mut().for_each(|cursor| cursor.1 += 1);
        }
        let heads = self.old.iter().chain([&self.new]).filter_map(|(tree, at)| tree.get(*at));
        let first = heads.min_by(Entry::order)?;
        let old = self.old.iter_mut().map(|cursor| take(cursor, &first)).collect();
        Some(Step { new: take(&mut self.new, &first), old })
    }
}

/// Objects that others build upon, by their place: the later half is thrown away when it is too much.
#[derive(Default)]
struct Bases {
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
    use proptest::prelude::*;

    fn tree(entries: &[(&str, &[u8])]) -> RawTree {
        let mut data = Vec::new();
        for (mode, name) in entries {
            data.extend_from_slice(mode.as_bytes());
            data.push(b' ');
            data.extend_from_slice(name);
            data.push(0);
            data.extend_from_slice(&[7; 20]);
        }
        RawTree::new(data)
    }

    #[test]
    fn order_is_gits() {
        assert!(
            !tree(&[("100644", b"a"), ("100644", b"a.b"), ("40000", b"a-x"), ("100644", b"b")]).is_sorted()
        );
        assert!(tree(&[("100644", b"a"), ("100644", b"a-x"), ("100644", b"a.b")]).is_sorted());
        assert!(tree(&[("100644", b"a.b"), ("40000", b"a"), ("100644", b"a0")]).is_sorted());
        assert!(tree(&[("100644", b"a"), ("100644", b"a")]).malformed);
        assert!(tree(&[("100644", b"")]).malformed);
        assert!(!tree(&[]).malformed);
        let mut cut = tree(&[("100644", b"abc")]).data;
        cut.pop();
        assert!(RawTree::new(cut).malformed);
    }

    #[test]
    fn one_path_is_one_change() {
        let change = |path: &str, new: u8, is_tree| {
            let new = (new > 0).then(|| Oid::from_bytes([new; 20]));
            Change { path: path.into(), old: None, new, is_tree }
        };
        let mut changes = vec![change("a", 0, false), change("b", 1, false), change("a", 2, true)];
        merge_changes(&mut changes);
        assert_eq!(changes, [change("a", 2, true), change("b", 1, false)]);
        let mut changes = vec![change("a", 2, false), change("a", 0, true)];
        merge_changes(&mut changes);
        assert_eq!(changes, [change("a", 2, false)]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(data in proptest::collection::vec(any::<u8>(), 0..400)) {
            let tree = RawTree::new(data);
            prop_assert!(tree.malformed || tree.entries.len() * 24 <= tree.data.len());
        }
    }
}
