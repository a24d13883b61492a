//! Pruning: the packs of a repository become one that holds what some commits and tags reach, and nothing else. The
//! new pack is checked by itself, in a folder where there is no other, before anybody may rely on it.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, Write};
use std::path::Path;
use std::process::Stdio;

use bastide_core::Oid;

use crate::index::PackIndex;
use crate::merge::pack_listed;
use crate::pack::{NewPack, indexed_objects};
use crate::process::git;
use crate::snapshot::link;
use crate::{GitError, Repo, Snapshot, SnapshotRef};

/// What git may have of memory for deltas, and from where on a file is not looked at for some.
const LIMITS: [&str; 6] =
    ["-c", "pack.windowMemory=64m", "-c", "core.bigFileThreshold=12m", "-c", "core.packedGitLimit=256m"];

/// What of a repository is to stay, found in a snapshot of it.
pub struct Wanted {
    /// What git says it is, with names: one object in a line.
    list: File,
    /// The same, in order.
    ids: Vec<Oid>,
    /// Those of them that branches and tags need, in order. `None` is all of them.
    own: Option<Vec<Oid>>,
    roots: Vec<Oid>,
    /// Commits that no ref reaches.
    pub left: usize,
    /// Bytes of all packs, and those of them that nothing needs.
    pub bytes: u64,
    pub dropped_bytes: u64,
    /// Objects that nothing needs.
    pub dropped: u64,
}

impl Wanted {
    /// Does an object stay?
    pub fn has(&self, oid: &Oid) -> bool {
        self.ids.binary_search(oid).is_ok()
    }

    /// Is it there for pull requests alone, or for what no ref reaches any more?
    fn is_beside(&self, oid: &Oid) -> bool {
        self.own.as_ref().is_some_and(|own| own.binary_search(oid).is_err())
    }
}

/// The pack that takes the place of all others.
pub struct Pruned {
    pub pack: NewPack,
    /// Bytes of it that neither a branch nor a tag needs.
    pub beside: u64,
}

impl Snapshot {
    /// Finds all that the refs and `commits` reach. A hole in it is an error.
    pub fn wanted(&self, commits: Vec<Oid>, scratch: &Path) -> Result<Wanted, GitError> {
        let mut roots: Vec<Oid> = self.refs().iter().map(|(_, target, _)| *target).collect();
        let reached = ids(&self.rev_list(&[], &roots, scratch)?)?;
        let refs = roots.len();
        roots.extend(commits.into_iter().filter(|commit| reached.binary_search(commit).is_err()));
        let left = roots.len() - refs;
        let own: Vec<Oid> =
            self.refs().iter().filter(|found| is_own(found)).map(|(_, oid, _)| *oid).collect();
        let own = match own.len() == roots.len() {
            true => None,
            false => Some(ids(&self.rev_list(&["--objects"], &own, scratch)?)?),
        };
        let mut list = self.rev_list(&["--objects"], &roots, scratch)?;
        let ids = ids(&list)?;
        list.rewind()?;
        let mut wanted = Wanted { list, ids, own, roots, left, bytes: 0, dropped_bytes: 0, dropped: 0 };
        self.weigh(&mut wanted)?;
        Ok(wanted)
    }

    /// What git lists from some roots, one in a line. A hole in it is an error.
    fn rev_list(&self, options: &[&str], roots: &[Oid], scratch: &Path) -> Result<File, GitError> {
        let mut list = tempfile::tempfile_in(scratch)?;
        if !roots.is_empty() {
            let mut command = git(self.folder());
            command.arg("rev-list").args(options).arg("--stdin");
            command.stdin(Stdio::from(lines(roots, scratch)?)).stdout(list.try_clone()?);
            end(command)?;
        }
        list.rewind()?;
        Ok(list)
    }

    /// Counts what the packs hold besides.
    fn weigh(&self, wanted: &mut Wanted) -> Result<(), GitError> {
        for name in self.packs() {
            let (pack, index) = self.pack_paths(name);
            let length = std::fs::metadata(pack)?.len();
            wanted.bytes += length;
            for (oid, size) in PackIndex::parse(std::fs::read(index)?)?.sizes(length)? {
                if !wanted.has(&oid) {
                    wanted.dropped += 1;
                    wanted.dropped_bytes += size;
                }
            }
        }
        Ok(())
    }

    /// One pack of what is wanted; `None` where that is nothing. Whole, readable and complete: what its objects name
    /// is in it.
    pub fn pack_wanted(&self, wanted: &Wanted, scratch: &Path) -> Result<Option<Pruned>, GitError> {
        if wanted.ids.is_empty() {
            return Ok(None);
        }
        let mut command = git(self.folder());
        command.args(LIMITS).args(["pack-objects", "--quiet", "--threads=1", "--window=5"]);
        command.arg("--delta-base-offset");
        let pack = pack_listed(command, wanted.list.try_clone()?, scratch)?;
        let index = std::fs::read(&pack.index)?;
        if indexed_objects(&index)? != wanted.ids {
            return Err(GitError::Pack("the new pack has not the objects that it should have"));
        }
        verify(&pack, &wanted.roots, scratch)?;
        let sizes = PackIndex::parse(index)?.sizes(pack.bytes)?;
        let beside = sizes.filter(|(oid, _)| wanted.is_beside(oid)).map(|(_, size)| size).sum();
        Ok(Some(Pruned { pack, beside }))
    }
}

/// Does a ref keep what it reaches for the repository's owner, and not for who proposes it?
fn is_own((name, _, _): &SnapshotRef) -> bool {
    name.is_branch() || name.is_tag()
}

/// Reads a pack whole, every object against its id, and walks through it from `roots`, with nothing beside it: what is
/// named is there. `--strict` would say no more about that. It would hold objects against what this git thinks of
/// their form: they were held against that when they came, and one that a newer git calls bad has to be kept all the
/// same, or the repository could never be pruned.
fn verify(pack: &NewPack, roots: &[Oid], scratch: &Path) -> Result<(), GitError> {
    let folder = tempfile::Builder::new().prefix("prune-").tempdir_in(scratch)?;
    let alone = Repo::open_apart(folder.path(), 1)?;
    let (to_pack, to_index) = alone.pack_paths(&pack.name);
    link(&pack.pack, &to_pack)?;
    link(&pack.index, &to_index)?;
    let mut read = git(alone.folder());
    read.args(LIMITS).args(["index-pack", "--threads=1", "--verify"]).arg(&std::path::absolute(&to_pack)?);
    end(read)?;
    let mut walk = git(alone.folder());
    walk.args(["rev-list", "--objects", "--quiet", "--stdin"]).stdin(Stdio::from(lines(roots, scratch)?));
    end(walk)
}

/// The ids at the beginnings of lines, in order.
fn ids(list: &File) -> Result<Vec<Oid>, GitError> {
    let mut ids = Vec::new();
    for line in BufReader::new(list).split(b'\n') {
        let line = line?;
        let id = line.get(..40).and_then(|id| std::str::from_utf8(id).ok()?.parse().ok());
        ids.push(id.ok_or_else(|| GitError::Program("rev-list names no object".into()))?);
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

fn lines(ids: &[Oid], scratch: &Path) -> Result<File, GitError> {
    let mut file = tempfile::tempfile_in(scratch)?;
    for id in ids {
        writeln!(file, "{id}")?;
    }
    file.rewind()?;
    Ok(file)
}

fn end(mut command: std::process::Command) -> Result<(), GitError> {
    let output = command.spawn()?.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(GitError::Program(said.lines().last().unwrap_or("git has failed without a word").to_owned()))
}
