//! A blob on its way in: a temporary file that is validated before it gets its key.
//!
//! It is gone when dropped, unless a store took it. Written in blocks on the blocking pool, so that
//! a slow disk never holds up the runtime.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::error::{BlobError, Result};
use crate::faults::{Faults, Step};
use crate::key::random_hex;

/// Bytes that are gathered before a write goes to the disk.
const WRITE_BYTES: usize = 1024 * 1024;
/// Nobody writes to a blob again, we least of all: caches share the file by hard links.
const BLOB_MODE: u32 = 0o440;

#[derive(Debug)]
pub struct Staged {
    path: PathBuf,
    file: Arc<File>,
    /// Taken in and not yet written.
    pending: Vec<u8>,
    written: u64,
    /// A write was dropped half-way or failed: nobody knows what the file holds.
    broken: bool,
    /// Ours to remove; a file of other code stays where it is until it is stored.
    remove: bool,
    faults: Faults,
}

impl Staged {
    pub(crate) fn create(folder: &Path, faults: Faults) -> Result<Self> {
        let path = folder.join(random_hex()?);
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(BLOB_MODE).open(&path)?;
        Ok(Self::over(path, file, 0, faults))
    }

    /// A finished file that other code wrote. Links are not followed and only a plain file is taken.
    pub(crate) fn existing(path: &Path, faults: Faults) -> Result<Self> {
        let no_follow = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(no_follow).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "only a plain file can be a blob").into());
        }
        let mut staged = Self::over(path.to_owned(), file, metadata.len(), faults);
        staged.remove = false;
        Ok(staged)
    }

    fn over(path: PathBuf, file: File, written: u64, faults: Faults) -> Self {
        let file = Arc::new(file);
        Self { path, file, pending: Vec::new(), written, broken: false, remove: true, faults }
    }

    /// Takes bytes in. After an error, or when the future was dropped, only dropping is left to do.
    pub async fn write(&mut self, data: impl AsRef<[u8]> + Send) -> Result<()> {
        self.take_in(data.as_ref()).await
    }

    async fn take_in(&mut self, mut data: &[u8]) -> Result<()> {
        while !data.is_empty() {
            let room = WRITE_BYTES.saturating_sub(self.pending.len());
            let (now, later) = data.split_at(room.min(data.len()));
            self.pending.extend_from_slice(now);
            data = later;
            if self.pending.len() >= WRITE_BYTES {
                self.flush().await?;
            }
        }
        Ok(())
    }

    /// Brings everything into the file, so that it can be read through the path that is returned.
    pub async fn flush(&mut self) -> Result<&Path> {
        if self.broken {
            return Err(BlobError::Unfinished);
        }
        if !self.pending.is_empty() {
            let block = std::mem::take(&mut self.pending);
            let (file, offset, faults) = (Arc::clone(&self.file), self.written, self.faults.clone());
            self.broken = true;
            let mut block = crate::blocking(move || {
                write_block(&file, &block, offset, &faults)?;
                Ok(block)
            })
            .await?;
            self.broken = false;
            self.written += block.len() as u64;
            block.clear();
            self.pending = block;
        }
        Ok(&self.path)
    }

    /// The same on a thread that may block.
    pub(crate) fn settle(&mut self) -> Result<()> {
        if self.broken {
            return Err(BlobError::Unfinished);
        }
        if !self.pending.is_empty() {
            self.broken = true;
            write_block(&self.file, &self.pending, self.written, &self.faults)?;
            self.broken = false;
            self.written += self.pending.len() as u64;
            self.pending = Vec::new();
        }
        Ok(())
    }

    /// Bytes taken in so far.
    pub fn len(&self) -> u64 {
        self.written + self.pending.len() as u64
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where the bytes are, for validators that read a `std::fs::File`. Call `flush` first: the
    /// last block may still be in memory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) const fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// The store has moved the file to its key.
    pub(crate) fn moved(&mut self) {
        self.remove = false;
    }

    /// The store has a copy: the original of other code goes as well.
    pub(crate) fn copied(&mut self) {
        self.remove = true;
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // A file that cannot be removed now is found by `sweep_temporary`.
        if self.remove && let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "temporary file was not removed");
        }
    }
}

fn write_block(file: &File, block: &[u8], offset: u64, faults: &Faults) -> Result<()> {
    if let Err(error) = faults.check(Step::Write) {
        let (half, _) = block.split_at(block.len() / 2);
        file.write_all_at(half, offset)?;
        return Err(error.into());
    }
    Ok(file.write_all_at(block, offset)?)
}

/// Exactly these bytes of a local file.
pub(crate) fn read_exact_at(file: &File, offset: u64, len: usize) -> Result<Bytes> {
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes.into())
}
