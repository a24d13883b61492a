//! Merging packs: many small ones become one, with deltas, by stock git.

use std::collections::HashSet;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use bastide_core::Oid;
use tempfile::TempPath;

use crate::pack::{NewPack, indexed_objects};
use crate::process::git;
use crate::{GitError, Repo};

/// One pack that holds every object of the packs `names`. Checked before it is returned.
pub fn merge_packs(repo: &Repo, names: &[&str], folder: &Path) -> Result<NewPack, GitError> {
    let mut command = git(repo.folder());
    command.args(["pack-objects", "--stdin-packs", "--quiet", "--threads=1", "--window=5"]);
    let list: String = names.iter().map(|name| format!("{name}.pack\n")).collect();
    let merged = pack_objects(command, list.into_bytes(), folder)?;
    let objects = indexed_objects(&std::fs::read(&merged.index)?)?;
    refuse_loss(repo, names, &objects)?;
    Ok(merged)
}

/// Runs a `git pack-objects` that reads `list`, and puts its pack into `folder`.
pub(crate) fn pack_objects(command: Command, list: Vec<u8>, folder: &Path) -> Result<NewPack, GitError> {
    pack_from(command, Stdio::piped(), list, folder)
}

/// The same for a list in a file.
pub(crate) fn pack_listed(command: Command, list: File, folder: &Path) -> Result<NewPack, GitError> {
    pack_from(command, list.into(), Vec::new(), folder)
}

fn pack_from(mut command: Command, stdin: Stdio, list: Vec<u8>, folder: &Path) -> Result<NewPack, GitError> {
    let work = tempfile::tempdir_in(folder)?;
    let base = std::path::absolute(work.path())?.join("merged");
    let mut child = command.arg(&base).stdin(stdin).spawn()?;
    // By a thread of its own: git answers before it has read everything.
    let writer = child.stdin.take().map(|mut stdin| std::thread::spawn(move || stdin.write_all(&list)));
    let output = child.wait_with_output()?;
    // What could not be written is seen by what git says.
    writer.map(std::thread::JoinHandle::join);
    if !output.status.success() {
        return Err(GitError::Program(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    let checksum = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let _: Oid = checksum.parse().map_err(|_| GitError::Pack("git names no merged pack"))?;
    let keep = |ending: &str| -> Result<TempPath, GitError> {
        let from = work.path().join(format!("merged-{checksum}.{ending}"));
        let to = tempfile::Builder::new().prefix("merged-").tempfile_in(folder)?.into_temp_path();
        std::fs::rename(from, &to)?;
        Ok(to)
    };
    let (pack, index) = (keep("pack")?, keep("idx")?);
    let objects = indexed_objects(&std::fs::read(&index)?)?.len() as u64;
    let bytes = std::fs::metadata(&pack)?.len();
    Ok(NewPack { name: format!("pack-{checksum}"), pack, index, objects, bytes })
}

/// Every object of the old packs is in the new one, or nothing is merged.
fn refuse_loss(repo: &Repo, names: &[&str], merged: &[Oid]) -> Result<(), GitError> {
    let merged: HashSet<&Oid> = merged.iter().collect();
    for name in names {
        let (_, index) = repo.pack_paths(name);
        let objects = indexed_objects(&std::fs::read(index)?)?;
        if !objects.iter().all(|oid| merged.contains(oid)) {
            return Err(GitError::Pack("merging would lose objects"));
        }
    }
    Ok(())
}
