//! The walk of `fsck`: everything that can be reached is there, is what it says, and hashes to
//! its name.

use std::collections::HashSet;

use bastide_core::Oid;
use gix_object::Kind;

use crate::object::{Commit, Mode, Tree};
use crate::pack::blob_id;
use crate::{GitError, Repo};

/// Largest object that is hashed again.
const MAX_OBJECT_BYTES: u64 = 1 << 31;

/// An object that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub oid: Oid,
    pub what: String,
}

impl Repo {
    /// Checks all that `roots` (commits or annotated tags) reach. Calls `large` with the content
    /// of every file that is small enough to be a pointer.
    pub fn check(&self, roots: &[Oid], mut small_file: impl FnMut(Oid, &[u8])) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut seen: HashSet<Oid> = HashSet::new();
        let mut open: Vec<Oid> = roots.to_vec();
        while let Some(oid) = open.pop() {
            if !seen.insert(oid) {
                continue;
            }
            match self.check_object(oid, &mut small_file) {
                Ok(below) => open.extend(below),
                Err(error) => faults.push(Fault { oid, what: error.to_string() }),
            }
        }
        faults
    }

    fn check_object(&self, oid: Oid, small_file: &mut impl FnMut(Oid, &[u8])) -> Result<Vec<Oid>, GitError> {
        let (kind, data) = self.object(oid, MAX_OBJECT_BYTES)?;
        if blob_id(kind, &data)? != oid {
            return Err(GitError::Damaged { oid, what: "its content has another hash" });
        }
        Ok(match kind {
            Kind::Blob => {
                if data.len() as u64 <= crate::Pointer::MAX_BYTES {
                    small_file(oid, &data);
                }
                Vec::new()
            }
            Kind::Tree => {
                let tree = Tree::parse(oid, &data)?;
                let inside = tree.entries.iter().filter(|entry| entry.mode != Mode::Submodule);
                inside.map(|entry| entry.oid).collect()
            }
            Kind::Commit => {
                let commit = Commit::parse(oid, &data)?;
                commit.parents.iter().copied().chain([commit.tree]).collect()
            }
            Kind::Tag => {
                let text = String::from_utf8_lossy(&data);
                let target = text.lines().next().and_then(|line| line.strip_prefix("object "));
                let target = target.and_then(|id| id.parse().ok());
                vec![target.ok_or(GitError::Damaged { oid, what: "a tag of nothing" })?]
            }
        })
    }
}
