//! Blobs in a folder: `<root>/<class>/ab/cd/<name>`, temporary files in `<root>/tmp`.
//!
//! A blob appears under its key whole and synced, or not at all; nothing is ever written over.
//! Everything here blocks: `Blobs` calls it from the blocking pool.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bastide_core::Timestamp;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::error::{BlobError, Result, missing};
use crate::faults::{Faults, Step};
use crate::key::{BlobKey, Class, random_hex};
use crate::stage::{Staged, read_exact_at};
use crate::{COMPARE_BYTES, Listed};

const TEMPORARY: &str = "tmp";

#[derive(Debug)]
pub(crate) struct Folder {
    root: PathBuf,
    /// Folders whose own entry in their parent is known to be on disk.
    durable: Mutex<HashSet<PathBuf>>,
}

impl Folder {
    /// Makes the folders and proves that they can be written to.
    pub fn open(root: &Path) -> Result<Self> {
        let not_writable = |source| BlobError::NotWritable { path: root.to_owned(), source };
        let folder = Self { root: root.to_owned(), durable: Mutex::default() };
        folder.prepare().map_err(not_writable)?;
        Ok(folder)
    }

    fn prepare(&self) -> io::Result<()> {
        fs::create_dir_all(self.temporary())?;
        for class in Class::ALL {
            fs::create_dir_all(self.root.join(class.folder()))?;
        }
        prove_writable(&self.temporary())?;
        File::open(&self.root)?.sync_all()
    }

    pub fn temporary(&self) -> PathBuf {
        self.root.join(TEMPORARY)
    }

    pub fn path(&self, key: &BlobKey) -> PathBuf {
        self.root.join(key.relative_path())
    }

    /// Gives a staged file its key: file synced, moved without overwriting, folder synced.
    pub fn keep(&self, staged: &mut Staged, key: &BlobKey, faults: &Faults) -> Result<u64> {
        staged.settle()?;
        faults.check(Step::Fsync)?;
        staged.file().sync_all()?;
        let target = self.path(key);
        self.make_parents(&target, faults)?;
        faults.check(Step::Rename)?;
        let moved = match move_new(staged.path(), &target) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                confirm_same(staged, &target)?;
                false
            }
            Err(error) => return Err(error.into()),
        };
        if let Err(error) = sync_parent(&target, faults) {
            if moved {
                // It may or may not survive a crash: nobody may count on it, so it goes. A blob that
                // was there before is somebody else's.
                let _ = fs::rename(&target, staged.path());
            }
            return Err(error.into());
        }
        if moved {
            staged.moved();
        }
        Ok(staged.len())
    }

    /// Takes over a file from anywhere; one on another file system is copied first.
    pub fn adopt(&self, path: &Path, key: &BlobKey, faults: &Faults) -> Result<u64> {
        let mut original = Staged::existing(path, faults.clone())?;
        match self.keep(&mut original, key, faults) {
            Err(BlobError::Io(error)) if error.kind() == io::ErrorKind::CrossesDevices => {}
            Ok(stored) => {
                // Nothing is left to remove unless the same blob was there already.
                if path.exists() {
                    original.copied();
                }
                return Ok(stored);
            }
            other => return other,
        }
        let mut copy = Staged::create(&self.temporary(), faults.clone())?;
        faults.check(Step::Write)?;
        io::copy(&mut File::open(path)?, &mut copy.file().as_ref())?;
        if copy.file().metadata()?.len() != original.len() {
            return Err(BlobError::Unfinished);
        }
        self.keep(&mut copy, key, faults)?;
        original.copied();
        Ok(original.len())
    }

    /// A new folder is durable once its parent is synced. Known ones are remembered, because
    /// another task may have made the folder a moment ago and not have synced its parent yet.
    fn make_parents(&self, target: &Path, faults: &Faults) -> Result<()> {
        let mut folders: Vec<&Path> = target.ancestors().skip(1).take(2).collect();
        folders.reverse();
        for folder in folders {
            if self.durable().contains(folder) {
                continue;
            }
            match fs::create_dir(folder) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error.into()),
                _ => sync_parent(folder, faults)?,
            }
            self.durable().insert(folder.to_owned());
        }
        Ok(())
    }

    fn durable(&self) -> std::sync::MutexGuard<'_, HashSet<PathBuf>> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hard link where that works, else a copy; `target` is replaced in one step.
    pub fn fetch_to(&self, key: &BlobKey, target: &Path) -> Result<()> {
        let source = self.path(key);
        let beside = beside(target)?;
        let placed = match fs::hard_link(&source, &beside) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(error),
            // Another file system, or one without hard links.
            Err(_) => fs::copy(&source, &beside).map(|_| ()),
        };
        let placed = placed.and_then(|()| fs::rename(&beside, target));
        // A rename between two links of one file does nothing and leaves both.
        let _ = fs::remove_file(&beside);
        if placed.is_err() && !source.exists() {
            return Err(BlobError::NotFound);
        }
        Ok(placed?)
    }

    pub fn delete(&self, key: &BlobKey) -> Result<()> {
        match fs::remove_file(self.path(key)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    pub fn size(&self, key: &BlobKey) -> Result<u64> {
        Ok(fs::symlink_metadata(self.path(key)).map_err(missing)?.len())
    }

    /// Hands every blob of a class to `take` until it wants no more.
    pub fn walk(&self, class: Class, take: &mut dyn FnMut(Listed) -> bool) -> io::Result<()> {
        for outer in subfolders(&self.root.join(class.folder()))? {
            for inner in subfolders(&outer)? {
                for entry in fs::read_dir(inner)? {
                    if let Some(listed) = self.listed(class, &entry?)?
                        && !take(listed)
                    {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// Files that no key leads to are not blobs; they are somebody else's and stay.
    fn listed(&self, class: Class, entry: &fs::DirEntry) -> io::Result<Option<Listed>> {
        let key = entry.file_name().to_str().and_then(|name| BlobKey::new(class, name).ok());
        let Some(key) = key.filter(|key| self.path(key) == entry.path()) else {
            tracing::warn!(path = %entry.path().display(), "not a blob, left alone");
            return Ok(None);
        };
        match entry.metadata() {
            Ok(metadata) if metadata.is_file() => {
                Ok(Some(Listed { key, size: metadata.len(), modified: modified(&metadata)? }))
            }
            // Deleted since the folder was read.
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(None),
        }
    }
}

/// Removes what uploads that died left behind.
pub(crate) fn sweep(temporary: &Path, older_than: Timestamp) -> Result<u64> {
    let mut removed = 0;
    for entry in fs::read_dir(temporary)? {
        let entry = entry?;
        // An upload may end, and take its file away, while we look.
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_file() && modified(&metadata)? < older_than && fs::remove_file(entry.path()).is_ok() {
            removed += 1;
        }
    }
    Ok(removed)
}

pub(crate) fn prove_writable(folder: &Path) -> io::Result<()> {
    let probe = folder.join(random_hex()?);
    let written = fs::write(&probe, b"probe").and_then(|()| File::open(&probe)?.sync_all());
    let removed = fs::remove_file(&probe);
    written.and(removed)
}

/// A name next to `target`, so that a rename can put the finished file in its place.
pub(crate) fn beside(target: &Path) -> io::Result<PathBuf> {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", random_hex()?));
    Ok(target.with_file_name(name))
}

/// Moves a file to a name that is not taken. Where the file system cannot rename like that
/// (NFS), a hard link does not overwrite either.
fn move_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            fs::hard_link(from, to)?;
            fs::remove_file(from)
        }
        other => Ok(other?),
    }
}

/// Storing the same bytes again is no error: it is what a retry does. Their first writer may not
/// have synced them yet, so that is done here too.
fn confirm_same(staged: &Staged, target: &Path) -> Result<()> {
    let stored = File::open(target)?;
    let len = staged.len();
    if stored.metadata()?.len() != len {
        return Err(BlobError::Exists);
    }
    let mut offset = 0;
    while offset < len {
        let block = usize::try_from(len - offset).map_or(COMPARE_BYTES, |rest| rest.min(COMPARE_BYTES));
        if read_exact_at(staged.file(), offset, block)? != read_exact_at(&stored, offset, block)? {
            return Err(BlobError::Exists);
        }
        offset += block as u64;
    }
    Ok(stored.sync_all()?)
}

fn sync_parent(path: &Path, faults: &Faults) -> io::Result<()> {
    faults.check(Step::Fsync)?;
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

fn subfolders(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn modified(metadata: &fs::Metadata) -> io::Result<Timestamp> {
    let since = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_before_1970_is_the_beginning() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("old");
        fs::write(&path, "x").unwrap();
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(SystemTime::UNIX_EPOCH - std::time::Duration::from_secs(9))
            .unwrap();
        assert_eq!(modified(&fs::metadata(&path).unwrap()).unwrap(), Timestamp::from_millis(0));
    }
}
