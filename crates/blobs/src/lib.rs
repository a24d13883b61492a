//! Immutable bytes under keys, in a folder or an S3-compatible bucket. Knows nothing of the hub.
//!
//! A way in: `stage`, write, validate, `store`. When `store` returns, the bytes are whole, durable
//! and under their key; before, there is nothing under the key. Nothing is ever written over.

mod body;
mod buffer;
mod disk;
mod error;
mod faults;
mod folder;
mod key;
mod reader;
mod remote;
mod stage;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bastide_core::Timestamp;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

pub use body::RangeBody;
pub use buffer::CHUNK_BYTES;
pub use error::{BlobError, Result};
pub use faults::{Fault, Faults, Step};
pub use key::{BlobKey, Class, MAX_NAME_BYTES};
pub use reader::BlobReader;
pub use remote::{MULTIPART_OVER_BYTES, S3Config};
pub use stage::Staged;

use disk::Disk;
use folder::Folder;
use reader::Source;
use remote::Remote;

/// Blobs that are synced or uploaded at the same time. More only makes each slower, and an upload
/// may hold 64 MiB of memory.
pub const MAX_CONCURRENT_STORES: usize = 8;
/// Blobs that a listing is ahead of its reader.
const LIST_AHEAD: usize = 256;
/// Bytes compared at a time when a key is taken already.
pub(crate) const COMPARE_BYTES: usize = 1024 * 1024;

/// A store of blobs. Cheap to clone; clones share everything.
#[derive(Debug, Clone)]
pub struct Blobs {
    home: Home,
    slots: Arc<Semaphore>,
    faults: Faults,
}

#[derive(Debug, Clone)]
enum Home {
    Folder(Arc<Folder>),
    Remote(Arc<Remote>),
}

/// One blob as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub key: BlobKey,
    pub size: u64,
    pub modified: Timestamp,
}

impl Blobs {
    /// Makes the folders and checks that they can be written to. Blocks; for the start.
    pub fn folder(root: &Path) -> Result<Self> {
        Ok(Self::new(Home::Folder(Arc::new(Folder::open(root)?))))
    }

    /// Checks the bucket by writing to it. `scratch` holds uploads until they are validated.
    pub async fn s3(config: &S3Config, scratch: &Path) -> Result<Self> {
        Ok(Self::new(Home::Remote(Arc::new(Remote::open(config, scratch).await?))))
    }

    /// The same store, on which things go wrong as planned.
    pub fn faulty(inner: Self, faults: Faults) -> Self {
        Self { faults, ..inner }
    }

    fn new(home: Home) -> Self {
        Self { home, slots: Arc::new(Semaphore::new(MAX_CONCURRENT_STORES)), faults: Faults::default() }
    }

    /// A temporary file for a blob that is coming in.
    pub async fn stage(&self) -> Result<Staged> {
        let (folder, faults) = (self.temporary(), self.faults.clone());
        blocking(move || Staged::create(&folder, faults)).await
    }

    /// Gives staged bytes their key and returns their number. The same bytes may be stored twice
    /// under one key, other bytes may not. When the future is dropped the blob may still appear.
    pub async fn store(&self, mut staged: Staged, key: &BlobKey) -> Result<u64> {
        let slot = self.slot().await?;
        self.faults.check_async(Step::Put).await?;
        match &self.home {
            Home::Remote(remote) => remote.keep(staged, key, &self.faults).await,
            Home::Folder(folder) => {
                let (folder, key, faults) = (Arc::clone(folder), key.clone(), self.faults.clone());
                holding(slot, move || folder.keep(&mut staged, &key, &faults)).await
            }
        }
    }

    pub async fn put(&self, key: &BlobKey, bytes: Bytes) -> Result<u64> {
        if let Home::Remote(remote) = &self.home
            && bytes.len() as u64 <= MULTIPART_OVER_BYTES
        {
            let _slot = self.slot().await?;
            self.faults.check_async(Step::Put).await?;
            return remote.put(key, bytes, &self.faults).await;
        }
        let mut staged = self.stage().await?;
        staged.write(bytes).await?;
        self.store(staged, key).await
    }

    /// Takes over a finished file that other code wrote, with the guarantees of `store`. The file
    /// is gone afterwards, and untouched if this fails. Nobody may write to it any more.
    pub async fn adopt(&self, path: &Path, key: &BlobKey) -> Result<u64> {
        let slot = self.slot().await?;
        self.faults.check_async(Step::Put).await?;
        let (path, faults) = (path.to_owned(), self.faults.clone());
        match &self.home {
            Home::Folder(folder) => {
                let (folder, key) = (Arc::clone(folder), key.clone());
                holding(slot, move || folder.adopt(&path, &key, &faults)).await
            }
            Home::Remote(remote) => {
                let original = path.clone();
                let staged = blocking(move || Staged::existing(&original, faults)).await?;
                let stored = remote.keep(staged, key, &self.faults).await?;
                blocking(move || Ok(std::fs::remove_file(path)?)).await?;
                Ok(stored)
            }
        }
    }

    pub async fn open(&self, key: &BlobKey) -> Result<BlobReader> {
        let source = match &self.home {
            Home::Folder(folder) => {
                Source::Disk(Arc::new(Disk::open(&folder.path(key), self.faults.clone()).await?))
            }
            Home::Remote(remote) => Source::Remote(Arc::new(remote.reader(key, self.faults.clone()).await?)),
        };
        Ok(BlobReader(source))
    }

    /// Opens a blob whose length is known: another length is damage.
    pub async fn open_sized(&self, key: &BlobKey, expected: u64) -> Result<BlobReader> {
        let reader = self.open(key).await?;
        match reader.len() {
            found if found == expected => Ok(reader),
            found => Err(BlobError::Truncated { expected, found }),
        }
    }

    /// Brings a blob to a local path, for programs that want a file: a hard link where possible, so
    /// it must not be written to. What is there is replaced in one step. Not synced: it is a cache.
    pub async fn fetch_to(&self, key: &BlobKey, target: &Path) -> Result<()> {
        match &self.home {
            Home::Remote(remote) => remote.fetch_to(key, target, self.faults.clone()).await,
            Home::Folder(folder) => {
                let (folder, key, target) = (Arc::clone(folder), key.clone(), target.to_owned());
                let faults = self.faults.clone();
                blocking(move || {
                    faults.check(Step::Read)?;
                    folder.fetch_to(&key, &target)
                })
                .await
            }
        }
    }

    /// Deletes a blob; one that is not there is no error. Open readers of a folder keep theirs.
    pub async fn delete(&self, key: &BlobKey) -> Result<()> {
        self.faults.check_async(Step::Delete).await?;
        match &self.home {
            Home::Remote(remote) => remote.delete(key).await,
            Home::Folder(folder) => {
                let (folder, key) = (Arc::clone(folder), key.clone());
                blocking(move || folder.delete(&key)).await
            }
        }
    }

    pub async fn size(&self, key: &BlobKey) -> Result<u64> {
        match &self.home {
            Home::Remote(remote) => remote.size(key).await,
            Home::Folder(folder) => {
                let (folder, key) = (Arc::clone(folder), key.clone());
                blocking(move || folder.size(&key)).await
            }
        }
    }

    pub async fn exists(&self, key: &BlobKey) -> Result<bool> {
        match self.size(key).await {
            Ok(_) => Ok(true),
            Err(BlobError::NotFound) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Every blob of a class, in no particular order, with bounded memory. What is stored or
    /// deleted meanwhile may or may not show.
    pub fn list(&self, class: Class) -> BoxStream<'static, Result<Listed>> {
        match &self.home {
            Home::Remote(remote) => remote.list(class),
            Home::Folder(folder) => walk(Arc::clone(folder), class),
        }
    }

    /// Removes temporary files that were last written before this moment; says how many.
    pub async fn sweep_temporary(&self, older_than: Timestamp) -> Result<u64> {
        let folder = self.temporary();
        blocking(move || folder::sweep(&folder, older_than)).await
    }

    fn temporary(&self) -> PathBuf {
        match &self.home {
            Home::Folder(folder) => folder.temporary(),
            Home::Remote(remote) => remote.scratch().to_owned(),
        }
    }

    async fn slot(&self) -> Result<OwnedSemaphorePermit> {
        let slots = Arc::clone(&self.slots);
        slots.acquire_owned().await.map_err(|error| BlobError::Io(std::io::Error::other(error)))
    }
}

/// Runs a folder walk on the blocking pool; it ends when the stream is dropped.
fn walk(folder: Arc<Folder>, class: Class) -> BoxStream<'static, Result<Listed>> {
    let (sender, receiver) = mpsc::channel(LIST_AHEAD);
    tokio::task::spawn_blocking(move || {
        let walked = folder.walk(class, &mut |listed| sender.blocking_send(Ok(listed)).is_ok());
        if let Err(error) = walked {
            let _ = sender.blocking_send(Err(error.into()));
        }
    });
    stream::unfold(receiver, |mut receiver| async { receiver.recv().await.map(|item| (item, receiver)) }).boxed()
}

/// The one home of blocking work.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(task_died)?
}

/// The slot goes along, because the work goes on when its caller is dropped.
async fn holding<T: Send + 'static>(
    slot: OwnedSemaphorePermit,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    blocking(move || {
        let done = work();
        drop(slot);
        done
    })
    .await
}

pub(crate) fn task_died(error: tokio::task::JoinError) -> BlobError {
    BlobError::Io(std::io::Error::other(error))
}
