//! Bytes on their way to becoming a blob: a temporary file that is gone unless it is stored.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::ops::Deref;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::faults::{Faults, Point};
use crate::{BlobError, blocking};

/// Writes up to this size go to the file in place: a hop to another thread costs more.
const INLINE_WRITE_BYTES: usize = 256 * 1024;

pub struct Staged {
    file: Option<File>,
    path: Temporary,
    len: u64,
    faults: Faults,
}

/// A path whose file is removed with it.
pub struct Temporary(PathBuf);

impl Deref for Temporary {
    type Target = Path;
    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename there is nothing to remove, and that is well.
        let _ = fs::remove_file(&self.0);
    }
}

impl Staged {
    pub(crate) async fn create(folder: &Path, faults: Faults) -> Result<Self, BlobError> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| BlobError::Config(error.to_string()))?;
        let name: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let path = Temporary(folder.join(name));
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&*path)?;
        Ok(Self { file: Some(file), path, len: 0, faults })
    }

    pub const fn len(&self) -> u64 {
        self.len
    }

    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where the bytes are, for code that reads them again before they are stored.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        self.faults.check(Point::Write)?;
        let mut file = self.file.take().ok_or(BlobError::Closed)?;
        self.len += bytes.len() as u64;
        if bytes.len() <= INLINE_WRITE_BYTES {
            file.write_all(bytes)?;
            self.file = Some(file);
            return Ok(());
        }
        let bytes = bytes.to_vec();
        let file = blocking(move || {
            file.write_all(&bytes)?;
            Ok(file)
        });
        self.file = Some(file.await?);
        Ok(())
    }

    /// A second handle on the same file, for writing from a blocking thread.
    pub fn writer(&self) -> Result<File, BlobError> {
        Ok(self.file.as_ref().ok_or(BlobError::Closed)?.try_clone()?)
    }

    /// Says how many bytes `writer` wrote.
    pub const fn written(&mut self, len: u64) {
        self.len = len;
    }

    /// Cuts the file: a tail that is not wanted.
    pub fn truncate(&mut self, len: u64) -> Result<(), BlobError> {
        self.file.as_ref().ok_or(BlobError::Closed)?.set_len(len)?;
        self.len = len;
        Ok(())
    }

    /// Ends writing. Storing makes it durable.
    pub(crate) fn seal(mut self) -> Result<Temporary, BlobError> {
        self.file.take().ok_or(BlobError::Closed)?;
        Ok(self.path)
    }
}

/// Removes what is older than a crash can explain.
pub fn sweep(folder: &Path, older_than: Duration) -> Result<usize, BlobError> {
    let mut swept = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // What is gone by now was stored or dropped meanwhile.
        let Ok(meta) = entry.metadata() else { continue };
        let age = meta.modified().ok().and_then(|at| at.elapsed().ok());
        if age.is_some_and(|age| age >= older_than) {
            swept += usize::from(fs::remove_file(entry.path()).is_ok());
        }
    }
    Ok(swept)
}
