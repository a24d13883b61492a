//! Rewriting history without some large files: every commit that had one of them, and every commit
//! after it, is written anew. Objects are changed as bytes, so that all that is not understood here
//! stays as it was; signatures over what is no more are left out.

use std::collections::{HashMap, HashSet};

use bastide_core::limits::MAX_PATH_SEGMENTS;
use bastide_core::{Oid, Sha256};
use gix_object::Kind;

use crate::object::{Commit, Mode, Pointer};
use crate::{GitError, PackWriter, Repo};

/// Largest object that is written anew.
const MAX_OBJECT_BYTES: u64 = 64 * 1024 * 1024;
/// Tags of tags that are followed.
const MAX_TAGS: usize = 10;
/// Headers of a commit that hold a signature over it.
const SIGNATURES: [&[u8]; 2] = [b"gpgsig", b"gpgsig-sha256"];
/// Where the signature of a tag begins, within its message.
const TAG_SIGNATURES: [&[u8]; 2] = [b"\n-----BEGIN PGP SIGNATURE-----", b"\n-----BEGIN SSH SIGNATURE-----"];

/// A commit that was written anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewed {
    pub old: Oid,
    pub new: Oid,
    pub tree: Oid,
    pub parents: Vec<Oid>,
}

/// What became of a history.
#[derive(Debug, Default)]
pub struct Rewritten {
    /// Parents before their children.
    pub commits: Vec<Renewed>,
    /// Where each root that changed is now, a commit or an annotated tag.
    pub roots: HashMap<Oid, Oid>,
}

impl Repo {
    /// Writes everything that `roots` reach anew, without the files that are pointers at `gone`. What
    /// had none of them keeps its id.
    pub fn rewrite_without(
        &self,
        roots: &[Oid],
        gone: &HashSet<Sha256>,
        pack: &mut PackWriter,
    ) -> Result<Rewritten, GitError> {
        let mut rewriter = Rewriter {
            repo: self,
            gone,
            pack,
            blobs: HashMap::new(),
            trees: HashMap::new(),
            commits: HashMap::new(),
            renewed: Vec::new(),
        };
        let mut changed = HashMap::new();
        for root in roots {
            let new = rewriter.root(*root, 0)?;
            if new != *root {
                changed.insert(*root, new);
            }
        }
        Ok(Rewritten { commits: rewriter.renewed, roots: changed })
    }
}

struct Rewriter<'a> {
    repo: &'a Repo,
    gone: &'a HashSet<Sha256>,
    pack: &'a mut PackWriter,
    /// Whether a file goes.
    blobs: HashMap<Oid, bool>,
    /// What becomes of a folder; `None` when nothing is left in it.
    trees: HashMap<Oid, Option<Oid>>,
    commits: HashMap<Oid, Oid>,
    renewed: Vec<Renewed>,
}

impl Rewriter<'_> {
    fn root(&mut self, oid: Oid, depth: usize) -> Result<Oid, GitError> {
        match self.repo.object(oid, MAX_OBJECT_BYTES)? {
            (Kind::Commit, _) => self.history(oid),
            (Kind::Tag, _) if depth >= MAX_TAGS => {
                Err(GitError::Damaged { oid, what: "tags of tags without end" })
            }
            (Kind::Tag, data) => {
                let target = crate::check::tag_target(oid, &data)?;
                let new = self.root(target, depth + 1)?;
                if new == target { Ok(oid) } else { self.pack.raw_tag(&tag_with_target(&data, new)) }
            }
            (Kind::Tree | Kind::Blob, _) => Err(GitError::Kind(oid, "commit")),
        }
    }

    /// The commits up to `head`, parents first. Without recursion: histories are long.
    fn history(&mut self, head: Oid) -> Result<Oid, GitError> {
        let mut open = vec![head];
        while let Some(oid) = open.last().copied() {
            if self.commits.contains_key(&oid) {
                open.pop();
                continue;
            }
            let commit = self.repo.commit(oid)?;
            let before = open.len();
            open.extend(commit.parents.iter().filter(|parent| !self.commits.contains_key(*parent)));
            if open.len() == before {
                open.pop();
                let new = self.commit(oid, &commit)?;
                self.commits.insert(oid, new);
            }
        }
        Ok(self.commits.get(&head).copied().unwrap_or(head))
    }

    /// One commit, whose parents are known.
    fn commit(&mut self, oid: Oid, commit: &Commit) -> Result<Oid, GitError> {
        let tree = match self.tree(commit.tree, 0)? {
            Some(tree) => tree,
            None => self.pack.tree(crate::Tree::default())?,
        };
        let parents: Vec<Oid> = commit
            .parents
            .iter()
            .map(|parent| self.commits.get(parent).copied().unwrap_or(*parent))
            .collect();
        if tree == commit.tree && parents == commit.parents {
            return Ok(oid);
        }
        let (_, data) = self.repo.object(oid, MAX_OBJECT_BYTES)?;
        let new = self.pack.raw_commit(&commit_with(&data, tree, &parents))?;
        self.renewed.push(Renewed { old: oid, new, tree, parents });
        Ok(new)
    }

    fn tree(&mut self, oid: Oid, depth: usize) -> Result<Option<Oid>, GitError> {
        if let Some(known) = self.trees.get(&oid) {
            return Ok(*known);
        }
        if depth > MAX_PATH_SEGMENTS {
            return Err(GitError::Damaged { oid, what: "folders nested too deep" });
        }
        let (kind, data) = self.repo.object(oid, MAX_OBJECT_BYTES)?;
        if kind != Kind::Tree {
            return Err(GitError::Kind(oid, "tree"));
        }
        let new = self.folder(oid, &data, depth)?;
        self.trees.insert(oid, new);
        Ok(new)
    }

    /// The entries of a folder, each kept, replaced or left out.
    fn folder(&mut self, oid: Oid, data: &[u8], depth: usize) -> Result<Option<Oid>, GitError> {
        let mut kept = Vec::with_capacity(data.len());
        let mut changed = false;
        let mut rest = data;
        while !rest.is_empty() {
            let entry = RawEntry::take(oid, &mut rest)?;
            let new = match entry.mode {
                Mode::Tree => self.tree(entry.oid, depth + 1)?,
                Mode::File | Mode::Executable => (!self.goes(entry.oid)?).then_some(entry.oid),
                Mode::Symlink | Mode::Submodule => Some(entry.oid),
            };
            changed |= new != Some(entry.oid);
            if let Some(new) = new {
                kept.extend_from_slice(entry.head);
                kept.extend_from_slice(new.as_bytes());
            }
        }
        if !changed {
            return Ok(Some(oid));
        }
        if kept.is_empty() { Ok(None) } else { self.pack.raw_tree(&kept).map(Some) }
    }

    fn goes(&mut self, blob: Oid) -> Result<bool, GitError> {
        if let Some(known) = self.blobs.get(&blob) {
            return Ok(*known);
        }
        let pointer: Option<Pointer> = self.repo.pointer(blob)?;
        let goes = pointer.is_some_and(|pointer| self.gone.contains(&pointer.sha256));
        self.blobs.insert(blob, goes);
        Ok(goes)
    }
}

/// An entry of a folder as its bytes are.
struct RawEntry<'a> {
    /// Mode and name, up to the id.
    head: &'a [u8],
    mode: Mode,
    oid: Oid,
}

impl<'a> RawEntry<'a> {
    fn take(tree: Oid, rest: &mut &'a [u8]) -> Result<Self, GitError> {
        let damaged = |what| GitError::Damaged { oid: tree, what };
        let bytes: &'a [u8] = rest;
        let end = bytes.iter().position(|byte| *byte == 0).ok_or_else(|| damaged("no name"))?;
        let (head, after) = bytes.split_at_checked(end + 1).ok_or_else(|| damaged("no name"))?;
        let (id, after) = after.split_at_checked(20).ok_or_else(|| damaged("no id"))?;
        let mode = head.split(|byte| *byte == b' ').next().and_then(Mode::parse);
        *rest = after;
        Ok(Self {
            head,
            mode: mode.ok_or_else(|| damaged("an unknown mode"))?,
            oid: Oid::from_slice(id).map_err(|_| damaged("no id"))?,
        })
    }
}

/// A commit with another tree and other parents, and without its signature.
fn commit_with(data: &[u8], tree: Oid, parents: &[Oid]) -> Vec<u8> {
    let mut out = format!("tree {tree}\n").into_bytes();
    for parent in parents {
        out.extend_from_slice(format!("parent {parent}\n").as_bytes());
    }
    let (headers, message) = split_headers(data);
    let mut in_signature = false;
    for line in headers.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b" ") {
            // Goes on with what the line before began.
            if !in_signature {
                out.extend_from_slice(line);
            }
            continue;
        }
        let key = line.split(|byte| *byte == b' ').next().unwrap_or_default();
        in_signature = SIGNATURES.contains(&key);
        if !in_signature && key != b"tree" && key != b"parent" {
            out.extend_from_slice(line);
        }
    }
    out.extend_from_slice(message);
    out
}

fn tag_with_target(data: &[u8], target: Oid) -> Vec<u8> {
    let mut out = format!("object {target}\n").into_bytes();
    let after = data.iter().position(|byte| *byte == b'\n').map_or(data.len(), |end| end + 1);
    let rest = data.get(after..).unwrap_or_default();
    let signed = TAG_SIGNATURES.iter().filter_map(|mark| find(rest, mark)).min();
    out.extend_from_slice(rest.get(..signed.map_or(rest.len(), |at| at + 1)).unwrap_or_default());
    out
}

/// The headers of a commit, and the rest from its empty line on.
fn split_headers(data: &[u8]) -> (&[u8], &[u8]) {
    find(data, b"\n\n").map_or((data, &[][..]), |at| data.split_at_checked(at + 1).unwrap_or((data, &[])))
}

fn find(data: &[u8], wanted: &[u8]) -> Option<usize> {
    data.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_keeps_all_but_its_tree_its_parents_and_its_signature() {
        let old = b"tree 1111111111111111111111111111111111111111\nparent 2222222222222222222222222222222222222222\n\
            author A <a@b> 5 +0200\ncommitter C <c@d> 6 -0300\nencoding latin1\ngpgsig -----BEGIN\n abc\n -----END\n\
            x-other one\n two\n\nm\xe9ssage\n\ngpgsig in it\n";
        let id = |byte| Oid::from_bytes([byte; 20]);
        let new = commit_with(old, id(0xaa), &[id(0xbb), id(0xcc)]);
        let expected = format!(
            "tree {}\nparent {}\nparent {}\nauthor A <a@b> 5 +0200\ncommitter C <c@d> 6 -0300\nencoding latin1\n\
             x-other one\n two\n\nm",
            id(0xaa),
            id(0xbb),
            id(0xcc)
        );
        assert_eq!(new, [expected.as_bytes(), b"\xe9ssage\n\ngpgsig in it\n"].concat());
    }

    #[test]
    fn a_tag_keeps_all_but_its_target_and_its_signature() {
        let old = b"object 1111111111111111111111111111111111111111\ntype commit\ntag v1\ntagger T <t@u> 5 +0000\n\n\
            words\n-----BEGIN PGP SIGNATURE-----\nabc\n-----END PGP SIGNATURE-----\n";
        let new = tag_with_target(old, Oid::from_bytes([0xaa; 20]));
        let expected = format!(
            "object {}\ntype commit\ntag v1\ntagger T <t@u> 5 +0000\n\nwords\n",
            Oid::from_bytes([0xaa; 20])
        );
        assert_eq!(String::from_utf8(new).unwrap(), expected);
    }
}
