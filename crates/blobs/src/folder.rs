//! Blobs in a folder: `class/ab/cd/name`, linked into place when they are on disk.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::faults::{Faults, Point};
use crate::reader::BlobReader;
use crate::{BlobError, BlobKey, Class, Listed};

#[derive(Clone)]
pub struct Folder {
    root: PathBuf,
    temporary: PathBuf,
}

impl Folder {
    pub fn open(root: &Path) -> Result<Self, BlobError> {
        let temporary = root.join("tmp");
        let unusable = |error: io::Error| {
            BlobError::Config(format!("cannot write to {}: {error}; is the folder yours?", root.display()))
        };
        fs::create_dir_all(&temporary).map_err(unusable)?;
        let probe = temporary.join(format!("probe-{}", std::process::id()));
        fs::write(&probe, b"").and_then(|()| fs::remove_file(&probe)).map_err(unusable)?;
        Ok(Self { root: root.to_owned(), temporary })
    }

    pub fn temporary(&self) -> &Path {
        &self.temporary
    }

    fn path(&self, key: &BlobKey) -> PathBuf {
        self.root.join(key.path())
    }

    /// Gives a durable file its name. A hard link never replaces what is there; files from
    /// another file system are copied first.
    pub fn link(&self, from: &Path, key: &BlobKey, faults: &Faults) -> Result<(), BlobError> {
        let to = self.path(key);
        let folder = to.parent().unwrap_or(&self.root);
        self.make_folder(folder)?;
        faults.check(Point::Link)?;
        File::open(from)?.sync_all()?;
        match fs::hard_link(from, &to) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(BlobError::Exists(key.clone()));
            }
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => self.copy_in(from, &to)?,
            Err(error) => return Err(error.into()),
        }
        sync_folder(folder)
    }

    fn copy_in(&self, from: &Path, to: &Path) -> Result<(), BlobError> {
        let name = to.file_name().unwrap_or_default();
        let beside = self.temporary.join(name);
        fs::copy(from, &beside)?;
        File::open(&beside)?.sync_all()?;
        let linked = fs::hard_link(&beside, to);
        fs::remove_file(&beside)?;
        Ok(linked?)
    }

    /// Makes the two levels above a blob, each durable in its parent.
    fn make_folder(&self, folder: &Path) -> Result<(), BlobError> {
        // Durable even when another has made it a moment ago and not yet synced its parent.
        if !folder.is_dir() {
            fs::create_dir_all(folder)?;
        }
        let above = folder.ancestors().skip(1).take_while(|above| above.starts_with(&self.root));
        above.take(3).try_for_each(sync_folder)
    }

    pub fn open_blob(&self, key: &BlobKey, faults: Faults) -> Result<BlobReader, BlobError> {
        let file = File::open(self.path(key)).map_err(|error| missing(error, key))?;
        let len = file.metadata()?.len();
        Ok(BlobReader::file(key.clone(), file, len, faults))
    }

    pub fn copy_out(&self, key: &BlobKey, dest: &Path) -> Result<(), BlobError> {
        let from = self.path(key);
        match fs::hard_link(&from, dest) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            // Which of the two is not there? A missing folder of the destination is another matter.
            Err(error) if error.kind() == io::ErrorKind::NotFound && from.exists() => Err(error.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(missing(error, key)),
            Err(_) => {
                let mut name = dest.file_name().unwrap_or_default().to_owned();
                name.push(format!(".part-{}", key.name().rsplit('.').next().unwrap_or_default()));
                let beside = dest.with_file_name(name);
                copy_new(&from, &beside, dest).inspect_err(|_| {
                    let _ = fs::remove_file(&beside);
                })?;
                Ok(())
            }
        }
    }

    pub fn delete(&self, key: &BlobKey) -> Result<(), BlobError> {
        match fs::remove_file(self.path(key)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    pub fn list(&self, class: Class) -> Result<Vec<Listed>, BlobError> {
        let mut found = Vec::new();
        for first in folders(&self.root.join(class.as_str()))? {
            for second in folders(&first)? {
                for entry in fs::read_dir(second)? {
                    let entry = entry?;
                    let Ok(meta) = entry.metadata() else { continue };
                    // What is not a blob of ours is left alone.
                    let Some(name) = entry.file_name().to_str().map(ToOwned::to_owned) else { continue };
                    let Ok(key) = BlobKey::new(class, &name) else { continue };
                    let modified_ms = meta.mtime() * 1000 + meta.mtime_nsec() / 1_000_000;
                    found.push(Listed { key, size: meta.len(), modified_ms });
                }
            }
        }
        Ok(found)
    }
}

fn copy_new(from: &Path, beside: &Path, dest: &Path) -> io::Result<()> {
    fs::copy(from, beside)?;
    fs::rename(beside, dest)
}

fn folders(path: &Path) -> Result<Vec<PathBuf>, BlobError> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
    Ok(paths.into_iter().filter(|path| path.is_dir()).collect())
}

fn missing(error: io::Error, key: &BlobKey) -> BlobError {
    if error.kind() == io::ErrorKind::NotFound { BlobError::NotFound(key.clone()) } else { error.into() }
}

fn sync_folder(path: &Path) -> Result<(), BlobError> {
    Ok(File::open(path)?.sync_all()?)
}
