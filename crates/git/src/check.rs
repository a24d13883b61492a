//! The walk of `fsck`: everything that can be reached is there, is what it says, and hashes to
//! its name.

use std::collections::HashSet;

use bastide_core::Oid;
use gix_object::Kind;

use crate::object::{Commit, Mode, Pointer, Tree};
use crate::pack::blob_id;
use crate::process::git;
use crate::{GitError, Repo};

/// Largest object that is hashed again.
const MAX_OBJECT_BYTES: u64 = 1 << 31;

/// Tags of tags that are followed.
const MAX_TAGS: usize = 10;

/// An object that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub oid: Oid,
    pub what: String,
}

/// What some roots reach.
#[derive(Debug, Default)]
pub struct Reached {
    pub faults: Vec<Fault>,
    pub commits: HashSet<Oid>,
    /// Every file that is a pointer.
    pub pointers: HashSet<Pointer>,
}

impl Repo {
    /// Checks all that `roots` (commits or annotated tags) reach, and says what of it are commits and
    /// pointers.
    pub fn reach(&self, roots: &[Oid]) -> Reached {
        let mut reached = Reached::default();
        let (commits, pointers) = (&mut reached.commits, &mut reached.pointers);
        reached.faults = self.visit(roots, |kind, oid, data| match kind {
            Kind::Commit => {
                commits.insert(oid);
            }
            Kind::Blob if data.len() as u64 <= Pointer::MAX_BYTES => pointers.extend(Pointer::parse(data)),
            Kind::Blob | Kind::Tree | Kind::Tag => {}
        });
        reached
    }

    /// The commit that a ref's target comes to.
    pub fn peel(&self, target: Oid) -> Result<Oid, GitError> {
        let mut oid = target;
        for _ in 0..MAX_TAGS {
            match self.object(oid, MAX_OBJECT_BYTES)? {
                (Kind::Commit, _) => return Ok(oid),
                (Kind::Tag, data) => oid = tag_target(oid, &data)?,
                (Kind::Tree | Kind::Blob, _) => return Err(GitError::Kind(oid, "commit")),
            }
        }
        Err(GitError::Damaged { oid: target, what: "tags of tags without end" })
    }

    /// Reads a pack and its index whole, and checks every object and every checksum, with stock git.
    pub fn verify_pack(&self, name: &str) -> Result<(), GitError> {
        let (_, index) = self.pack_paths(name);
        let output = git(self.folder()).arg("verify-pack").arg("--").arg(index).output()?;
        if output.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&output.stderr);
        Err(GitError::Program(text.lines().next().unwrap_or("verify-pack failed").to_owned()))
    }

    /// Checks all that `roots` (commits or annotated tags) reach. Calls `large` with the content
    /// of every file that is small enough to be a pointer.
    pub fn check(&self, roots: &[Oid], mut small_file: impl FnMut(Oid, &[u8])) -> Vec<Fault> {
        self.visit(roots, |kind, oid, data| {
            if kind == Kind::Blob && data.len() as u64 <= Pointer::MAX_BYTES {
                small_file(oid, data);
            }
        })
    }

    fn visit(&self, roots: &[Oid], mut found: impl FnMut(Kind, Oid, &[u8])) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut seen: HashSet<Oid> = HashSet::new();
        let mut open: Vec<Oid> = roots.to_vec();
        while let Some(oid) = open.pop() {
            if !seen.insert(oid) {
                continue;
            }
            match self.check_object(oid, &mut found) {
                Ok(below) => open.extend(below),
                Err(error) => faults.push(Fault { oid, what: error.to_string() }),
            }
        }
        faults
    }

    fn check_object(&self, oid: Oid, found: &mut impl FnMut(Kind, Oid, &[u8])) -> Result<Vec<Oid>, GitError> {
        let (kind, data) = self.object(oid, MAX_OBJECT_BYTES)?;
        if blob_id(kind, &data)? != oid {
            return Err(GitError::Damaged { oid, what: "its content has another hash" });
        }
        found(kind, oid, &data);
        Ok(match kind {
            Kind::Blob => Vec::new(),
            Kind::Tree => {
                let tree = Tree::parse(oid, &data)?;
                let inside = tree.entries.iter().filter(|entry| entry.mode != Mode::Submodule);
                inside.map(|entry| entry.oid).collect()
            }
            Kind::Commit => {
                let commit = Commit::parse(oid, &data)?;
                commit.parents.iter().copied().chain([commit.tree]).collect()
            }
            Kind::Tag => vec![tag_target(oid, &data)?],
        })
    }
}

pub(crate) fn tag_target(oid: Oid, data: &[u8]) -> Result<Oid, GitError> {
    let text = String::from_utf8_lossy(data);
    let target = text.lines().next().and_then(|line| line.strip_prefix("object "));
    let target = target.and_then(|id| id.parse().ok());
    target.ok_or(GitError::Damaged { oid, what: "a tag of nothing" })
}
