//! Reads of one blob file. What the page cache holds is read at once on the calling thread
//! (`preadv2` with `RWF_NOWAIT`, which never waits for a disk); the rest goes to the blocking pool.
//!
//! A read gives every byte that was asked for, or an error.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::{Errno, ReadWriteFlags, preadv2, retry_on_intr};

use crate::buffer::Filling;
use crate::error::{BlobError, Result, missing};
use crate::faults::{Faults, Step};

/// Above this a copy from the page cache would hold up a runtime thread for too long.
const INLINE_BYTES: usize = 1024 * 1024;

#[derive(Debug)]
pub(crate) struct Disk {
    file: File,
    len: u64,
    /// Cleared when the file system turns out not to know `RWF_NOWAIT`.
    inline: AtomicBool,
    faults: Faults,
}

/// What a blocking read brought, and whether it had to wait for it.
pub(crate) struct Fetched {
    pub bytes: Bytes,
    pub cold: bool,
}

impl Disk {
    pub async fn open(path: &Path, faults: Faults) -> Result<Self> {
        let file = match open_cached(path) {
            Some(file) => file,
            None => {
                let path = path.to_owned();
                crate::blocking(move || open_blocking(&path)).await?
            }
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(BlobError::NotFound);
        }
        // Faults may sleep, so with a plan every read goes to the blocking pool.
        let inline = AtomicBool::new(!faults.active());
        Ok(Self { file, len: metadata.len(), inline, faults })
    }

    pub const fn len(&self) -> u64 {
        self.len
    }

    pub async fn read(self: &Arc<Self>, offset: u64, len: usize) -> Result<Bytes> {
        let mut filling = Filling::new(len);
        if len <= INLINE_BYTES {
            self.fill_cached(&mut filling, offset);
        }
        if filling.is_full() {
            return self.finish(filling, offset);
        }
        let disk = Arc::clone(self);
        crate::blocking(move || disk.fetch(filling, offset)).await.map(|fetched| fetched.bytes)
    }

    /// As much as the page cache has; never waits.
    pub fn fill_cached(&self, filling: &mut Filling, offset: u64) {
        while !filling.is_full() && self.inline.load(Ordering::Relaxed) {
            let at = offset + filling.filled() as u64;
            let mut target = [IoSliceMut::new(filling.rest())];
            match retry_on_intr(|| preadv2(&self.file, &mut target, at, ReadWriteFlags::NOWAIT)) {
                Ok(read) if read > 0 => filling.advance(read),
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => self.inline.store(false, Ordering::Relaxed),
                // Not cached, or at the end: the blocking read finds out which.
                _ => return,
            }
        }
    }

    /// Waits for the disk where it must.
    pub fn fetch(&self, mut filling: Filling, offset: u64) -> Result<Fetched> {
        self.fill_cached(&mut filling, offset);
        let cold = !filling.is_full();
        if let Some(cut) = self.faults.hit(Step::Read)? {
            return Err(self.truncated(offset, cut));
        }
        while !filling.is_full() {
            let at = offset + filling.filled() as u64;
            match self.file.read_at(filling.rest(), at) {
                Ok(0) => return Err(self.truncated(offset, filling.filled())),
                Ok(read) => filling.advance(read),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Fetched { bytes: self.finish(filling, offset)?, cold })
    }

    pub fn finish(&self, filling: Filling, offset: u64) -> Result<Bytes> {
        let filled = filling.filled();
        filling.finish().ok_or_else(|| self.truncated(offset, filled))
    }

    const fn truncated(&self, offset: u64, read: usize) -> BlobError {
        BlobError::Truncated { expected: self.len, found: offset.saturating_add(read as u64) }
    }
}

/// Opens without waiting for a disk, if the kernel has the whole path in memory. Anything else
/// (old kernel, a filter that knows no `openat2`, a cold folder) is left to the blocking pool.
fn open_cached(path: &Path) -> Option<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    openat2(CWD, path, flags, Mode::empty(), ResolveFlags::CACHED).ok().map(File::from)
}

fn open_blocking(path: &Path) -> Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let opened = rustix::fs::open(path, flags, Mode::empty());
    opened.map(File::from).map_err(|errno| missing(errno.into()))
}
