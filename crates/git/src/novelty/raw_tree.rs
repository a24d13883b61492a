//! Trees as their bytes have them, and going through several of them side by side.

use std::sync::Arc;

use bastide_core::Oid;

/// An entry of a tree, with a name of usual length.
const USUAL_ENTRY_BYTES: usize = 36;
/// Bytes that are compared at once.
const COMPARED_BYTES: usize = 128;
/// What follows a name: the byte that ends it, and an id.
const ID_BYTES: usize = 21;

/// A tree as its bytes have it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct RawTree {
    data: Vec<u8>,
    entries: Vec<RawEntry>,
    pub malformed: bool,
}

/// Where an entry is in the bytes: where it begins, where its mode ends, and where its name does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RawEntry {
    start: u32,
    space: u32,
    end: u32,
}

impl RawEntry {
    const fn start(self) -> usize {
        self.start as usize
    }

    /// Where the next one begins.
    const fn next(self) -> usize {
        self.end as usize + ID_BYTES
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub mode: &'a [u8],
    pub name: &'a [u8],
    pub oid: Oid,
}

impl Entry<'_> {
    pub fn is_tree(&self) -> bool {
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
    pub fn new(data: Vec<u8>) -> Self {
        let entries = Vec::with_capacity(data.len() / USUAL_ENTRY_BYTES);
        Self::read(data, entries, &Self::default())
    }

    /// The same, where another tree has most of it: what they share is not looked at again.
    pub fn like(data: Vec<u8>, other: &Self) -> Self {
        if other.malformed {
            return Self::new(data);
        }
        let shared = common_start(&data, &other.data);
        let kept = other.entries.partition_point(|entry| entry.next() <= shared);
        let mut entries = Vec::with_capacity(other.entries.len() + 1);
        entries.extend(other.entries.iter().take(kept));
        Self::read(data, entries, other)
    }

    /// Reads what comes after the first entries; `other` is in order, and may have the end in common.
    fn read(data: Vec<u8>, entries: Vec<RawEntry>, other: &Self) -> Self {
        let first = entries.len();
        let mut tree = Self { data, entries, malformed: false };
        let last = tree.parse(other);
        tree.malformed = last.is_none_or(|last| !tree.is_sorted(first.max(1), last));
        tree
    }

    /// The place of the entry from which on the rest is as it is in `other`.
    fn parse(&mut self, other: &Self) -> Option<usize> {
        let ending = common_end(&self.data, &other.data);
        let mut start = self.entries.last().map_or(0, |last| last.next());
        while start < self.data.len() {
            if self.data.len() - start <= ending
                && let Some(rest) = other.from(other.data.len() - (self.data.len() - start))
            {
                let last = self.entries.len();
                self.take_over(start, rest)?;
                return Some(last);
            }
            let entry = self.entry(start)?;
            self.entries.push(entry);
            start = entry.next();
        }
        Some(self.entries.len())
    }

    fn entry(&self, start: usize) -> Option<RawEntry> {
        let rest = self.data.get(start..)?;
        let space = start + rest.iter().take(8).position(|byte| *byte == b' ')?;
        let end = space + self.data.get(space..)?.iter().position(|byte| *byte == 0)?;
        self.data.get(end + 1..end + ID_BYTES)?;
        let name = self.data.get(space + 1..end)?;
        if name.is_empty() || name.contains(&b'/') {
            return None;
        }
        Some(RawEntry {
            start: start.try_into().ok()?,
            space: space.try_into().ok()?,
            end: end.try_into().ok()?,
        })
    }

    /// The entries from the one that begins here.
    fn from(&self, start: usize) -> Option<&[RawEntry]> {
        let at = self.entries.binary_search_by_key(&start, |entry| entry.start()).ok()?;
        self.entries.get(at..)
    }

    /// Adds the entries of another tree that has the same bytes from `start` on.
    fn take_over(&mut self, start: usize, rest: &[RawEntry]) -> Option<()> {
        let start = u32::try_from(start).ok()?;
        u32::try_from(self.data.len()).ok()?;
        let first = rest.first()?.start;
        let moved = |at: u32| at - first + start;
        self.entries.extend(rest.iter().map(|entry| RawEntry {
            start: moved(entry.start),
            space: moved(entry.space),
            end: moved(entry.end),
        }));
        Some(())
    }

    /// In git's order, and no name twice: the entries from the `first` to the `last`, each against the one before.
    fn is_sorted(&self, first: usize, last: usize) -> bool {
        (first..self.entries.len().min(last + 1)).all(|at| match (self.get(at - 1), self.get(at)) {
            (Some(one), Some(two)) => one.order(&two).is_lt() && one.name != two.name,
            _ => false,
        })
    }

    pub fn get(&self, at: usize) -> Option<Entry<'_>> {
        let RawEntry { start, space, end } = *self.entries.get(at)?;
        let (start, space, end) = (start as usize, space as usize, end as usize);
        Some(Entry {
            mode: self.data.get(start..space)?,
            name: self.data.get(space + 1..end)?,
            oid: Oid::from_slice(self.data.get(end + 1..end + ID_BYTES)?).ok()?,
        })
    }

    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> + Clone {
        (0..self.entries.len()).filter_map(|at| self.get(at))
    }

    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// What it takes in memory.
    pub fn weight(&self) -> usize {
        self.data.capacity() + self.entries.capacity() * size_of::<RawEntry>()
    }
}

/// How many bytes two texts begin with that are the same.
fn common_start(one: &[u8], two: &[u8]) -> usize {
    let pairs = one.chunks_exact(COMPARED_BYTES).zip(two.chunks_exact(COMPARED_BYTES));
    let whole = pairs.take_while(|(one, two)| one == two).count() * COMPARED_BYTES;
    let rest = one.iter().skip(whole).zip(two.iter().skip(whole));
    whole + rest.take_while(|(one, two)| one == two).count()
}

/// How many bytes two texts end with that are the same.
fn common_end(one: &[u8], two: &[u8]) -> usize {
    let pairs = one.rchunks_exact(COMPARED_BYTES).zip(two.rchunks_exact(COMPARED_BYTES));
    let whole = pairs.take_while(|(one, two)| one == two).count() * COMPARED_BYTES;
    let rest = one.iter().rev().skip(whole).zip(two.iter().rev().skip(whole));
    whole + rest.take_while(|(one, two)| one == two).count()
}

/// What stands at one name: in the new tree, and in each of the old ones. A file and a folder of one name are two.
pub(super) struct Step<'a> {
    pub new: Option<Entry<'a>>,
    pub old: Vec<Option<Entry<'a>>>,
}

/// Goes through trees side by side.
pub(super) struct Steps<'a> {
    new: (&'a RawTree, usize),
    old: Vec<(&'a RawTree, usize)>,
}

impl<'a> Steps<'a> {
    pub fn new(tree: &'a RawTree, old: &'a [Arc<RawTree>]) -> Self {
        Self { new: (tree, 0), old: old.iter().map(|tree| (&**tree, 0)).collect() }
    }

    /// Most entries are the same in a tree and the one before it: those are passed without a step.
    fn pass_same(&mut self) {
        let (new, at) = self.new;
        let [(old, old_at)] = self.old.as_mut_slice() else { return };
        let (Some(first), Some(old_first)) = (new.entries.get(at), old.entries.get(*old_at)) else { return };
        let rest = new.data.get(first.start()..).unwrap_or_default();
        let shared = common_start(rest, old.data.get(old_first.start()..).unwrap_or_default());
        let passed = new.entries.get(at..).unwrap_or_default();
        let passed = passed.partition_point(|entry| entry.next() - first.start() <= shared);
        // What has the same bytes is read in the same way, as far as it was read.
        let passed = passed.min(old.entries.len() - *old_at);
        self.new.1 += passed;
        *old_at += passed;
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
        self.pass_same();
        let heads = self.old.iter().chain([&self.new]).filter_map(|(tree, at)| tree.get(*at));
        let first = heads.min_by(Entry::order)?;
        let old = self.old.iter_mut().map(|cursor| take(cursor, &first)).collect();
        Some(Step { new: take(&mut self.new, &first), old })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(entries: &[(&str, &[u8], u8)]) -> Vec<u8> {
        let mut data = Vec::new();
        for (mode, name, id) in entries {
            data.extend_from_slice(mode.as_bytes());
            data.push(b' ');
            data.extend_from_slice(name);
            data.push(0);
            data.extend_from_slice(&[*id; 20]);
        }
        data
    }

    fn tree(entries: &[(&str, &[u8])]) -> RawTree {
        let entries: Vec<_> = entries.iter().map(|(mode, name)| (*mode, *name, 7)).collect();
        RawTree::new(bytes(&entries))
    }

    #[test]
    fn order_is_gits() {
        assert!(tree(&[("100644", b"a"), ("100644", b"a.b"), ("40000", b"a-x"), ("100644", b"b")]).malformed);
        assert!(!tree(&[("100644", b"a"), ("100644", b"a-x"), ("100644", b"a.b")]).malformed);
        assert!(!tree(&[("100644", b"a.b"), ("40000", b"a"), ("100644", b"a0")]).malformed);
        assert!(tree(&[("100644", b"a"), ("100644", b"a")]).malformed);
        assert!(tree(&[("100644", b"")]).malformed);
        assert!(!tree(&[]).malformed);
        let mut cut = tree(&[("100644", b"abc")]).data;
        cut.pop();
        assert!(RawTree::new(cut).malformed);
    }

    #[test]
    fn what_is_wrong_is_seen_beside_what_is_shared() {
        let base = tree(&[("100644", b"a"), ("100644", b"c"), ("100644", b"e")]);
        for (entries, malformed) in [
            (&[("100644", &b"a"[..]), ("100644", b"c"), ("100644", b"d"), ("100644", b"e")][..], false),
            (&[("100644", b"a"), ("100644", b"e")], false),
            (&[("100644", b"c"), ("100644", b"e")], false),
            (&[("100644", b"a"), ("100644", b"c")], false),
            (&[], false),
            (&[("100644", b"a"), ("100644", b"c"), ("100644", b"f"), ("100644", b"e")], true),
            (&[("100644", b"a"), ("100644", b"a"), ("100644", b"c"), ("100644", b"e")], true),
            (&[("100644", b"a"), ("100644", b"c"), ("100644", b"c"), ("100644", b"e")], true),
            (&[("100644", b"b"), ("100644", b"a"), ("100644", b"c"), ("100644", b"e")], true),
            (&[("100644", b"a"), ("100644", b"c"), ("100644", b"e"), ("100644", b"e")], true),
            (&[("100644", b"e"), ("100644", b"c"), ("100644", b"e")], true),
        ] {
            let whole = tree(entries);
            assert_eq!(whole.malformed, malformed, "{entries:?}");
            assert_eq!(RawTree::like(whole.data.clone(), &base), whole, "{entries:?}");
        }
    }

    fn any_tree() -> impl Strategy<Value = Vec<u8>> {
        let entry = (prop_oneof![Just("100644"), Just("40000")], "[a-c]{1,2}", 0..3u8);
        proptest::collection::vec(entry, 0..12).prop_map(|mut entries| {
            entries.sort_by(|one, two| one.1.cmp(&two.1));
            let entries: Vec<_> =
                entries.iter().map(|(mode, name, id)| (*mode, name.as_bytes(), *id)).collect();
            bytes(&entries)
        })
    }

    fn good_tree() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::btree_map("[a-c]{1,2}", 0..3u8, 0..12).prop_map(|entries| {
            let entries: Vec<_> = entries.iter().map(|(name, id)| ("100644", name.as_bytes(), *id)).collect();
            bytes(&entries)
        })
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(data in proptest::collection::vec(any::<u8>(), 0..400)) {
            let tree = RawTree::new(data);
            prop_assert!(tree.malformed || tree.entries.len() * 24 <= tree.data.len());
        }

        #[test]
        fn reading_beside_another_tree_changes_nothing(
            one in any_tree(),
            two in any_tree(),
            cut in 0..200usize,
        ) {
            let mut data = two;
            data.truncate(data.len().max(cut) - cut.min(data.len()));
            let base = RawTree::new(one);
            let (alone, beside) = (RawTree::new(data.clone()), RawTree::like(data, &base));
            prop_assert_eq!(alone.malformed, beside.malformed);
            prop_assert!(alone.malformed || alone == beside);
        }

        #[test]
        fn steps_are_what_differs(one in good_tree(), two in good_tree()) {
            let (new, old) = (RawTree::new(one), Arc::new(RawTree::new(two)));
            prop_assert!(!new.malformed && !old.malformed);
            let both = [Arc::clone(&old), Arc::clone(&old)];
            // With two old trees nothing is passed.
            let all = Steps::new(&new, &both).filter(|step| step.old.first() != Some(&step.new));
            let all: Vec<_> = all.map(|step| (step.new, step.old[0])).collect();
            let one = [old];
            let few = Steps::new(&new, &one).map(|step| (step.new, step.old[0])).collect::<Vec<_>>();
            prop_assert_eq!(all, few);
        }

        #[test]
        fn what_is_shared_is_counted_to_the_byte(
            one in proptest::collection::vec(0..2u8, 0..400),
            two in proptest::collection::vec(0..2u8, 0..400),
            shared in 0..400usize,
        ) {
            let mut two = two;
            let length = shared.min(one.len()).min(two.len());
            two[..length].copy_from_slice(&one[..length]);
            let start = one.iter().zip(&two).take_while(|(one, two)| one == two).count();
            prop_assert_eq!(common_start(&one, &two), start);
            let reverse = |bytes: &[u8]| bytes.iter().rev().copied().collect::<Vec<_>>();
            prop_assert_eq!(common_end(&reverse(&one), &reverse(&two)), start);
        }
    }
}
