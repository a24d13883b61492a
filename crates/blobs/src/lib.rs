//! Immutable bytes under keys, on a folder or in an S3-compatible store.
//!
//! What is written is durable when `store` returns, and is never written again: keys carry a
//! random suffix, so that deleting an old copy cannot hit a new one.

mod body;
mod error;
mod faults;
mod folder;
mod key;
mod object;
mod reader;
mod staged;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Semaphore;

pub use body::RangeBody;
pub use error::BlobError;
pub use faults::{Faults, Point};
pub use key::{BlobKey, Class};
pub use object::S3Config;
pub use reader::{BlobReader, READ_BYTES};
pub use staged::Staged;

/// Blobs that are made durable at the same time: more only makes each slower.
const CONCURRENT_STORES: usize = 8;

/// A store of blobs. Cheap to clone.
#[derive(Clone)]
pub struct Blobs {
    engine: Arc<Engine>,
    stores: Arc<Semaphore>,
    faults: Faults,
}

enum Engine {
    Folder(folder::Folder),
    Object(object::ObjectStore),
}

/// A blob in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub key: BlobKey,
    pub size: u64,
    pub modified_ms: i64,
}

impl Blobs {
    /// Blobs in a folder; makes it, and proves that it can be written.
    pub fn folder(root: &Path) -> Result<Self, BlobError> {
        Ok(Self::new(Engine::Folder(folder::Folder::open(root)?)))
    }

    /// Blobs in a bucket; `scratch` is a local folder for bytes on their way.
    pub fn s3(config: &S3Config, scratch: &Path) -> Result<Self, BlobError> {
        Ok(Self::new(Engine::Object(object::ObjectStore::open(config, scratch)?)))
    }

    /// Proves at a start that the store can be used: with another's keys or a wrong address the
    /// first upload would find out. (A folder is proved when it is opened.)
    pub async fn probe(&self) -> Result<(), BlobError> {
        match &*self.engine {
            Engine::Folder(_) => Ok(()),
            Engine::Object(object) => object.probe().await,
        }
    }

    fn new(engine: Engine) -> Self {
        let stores = Arc::new(Semaphore::new(CONCURRENT_STORES));
        Self { engine: Arc::new(engine), stores, faults: Faults::default() }
    }

    /// The same store, failing as `faults` says: for tests.
    #[must_use]
    pub fn with_faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    fn scratch(&self) -> &Path {
        match &*self.engine {
            Engine::Folder(folder) => folder.temporary(),
            Engine::Object(object) => object.scratch(),
        }
    }

    /// A place for bytes that are to become a blob.
    pub async fn stage(&self) -> Result<Staged, BlobError> {
        self.faults.check(Point::Stage)?;
        Staged::create(self.scratch(), self.faults.clone()).await
    }

    /// Makes staged bytes a durable blob. Fails when the key exists: keys are new every time.
    pub async fn store(&self, staged: Staged, key: &BlobKey) -> Result<u64, BlobError> {
        let size = staged.len();
        let path = staged.seal()?;
        self.put_file(&path, key).await?;
        Ok(size)
    }

    pub async fn put(&self, key: &BlobKey, bytes: Bytes) -> Result<u64, BlobError> {
        let mut staged = self.stage().await?;
        staged.write(&bytes).await?;
        self.store(staged, key).await
    }

    /// Makes a file that other code wrote a durable blob. The file itself stays.
    pub async fn put_file(&self, path: &Path, key: &BlobKey) -> Result<(), BlobError> {
        let _permit = self.stores.acquire().await.map_err(|_| BlobError::Closed)?;
        self.faults.check(Point::Sync)?;
        match &*self.engine {
            Engine::Folder(folder) => {
                let (folder, path, key) = (folder.clone(), path.to_owned(), key.clone());
                let faults = self.faults.clone();
                blocking(move || folder.link(&path, &key, &faults)).await
            }
            Engine::Object(object) => object.upload(path, key, &self.faults).await,
        }
    }

    pub async fn open(&self, key: &BlobKey) -> Result<BlobReader, BlobError> {
        match &*self.engine {
            // Opening a file takes microseconds: less than a hop to another thread.
            Engine::Folder(folder) => folder.open_blob(key, self.faults.clone()),
            Engine::Object(object) => object.open_blob(key, self.faults.clone()).await,
        }
    }

    /// The whole blob, when it has at most `limit` bytes.
    pub async fn get(&self, key: &BlobKey, limit: u64) -> Result<Bytes, BlobError> {
        let reader = self.open(key).await?;
        if reader.len() > limit {
            return Err(BlobError::TooLarge { key: key.clone(), limit });
        }
        let len = usize::try_from(reader.len()).map_err(|_| BlobError::Closed)?;
        reader.read_at(0, len).await
    }

    /// Puts a copy of a blob at `dest`, complete or not at all.
    pub async fn fetch_to(&self, key: &BlobKey, dest: &Path) -> Result<(), BlobError> {
        if let Engine::Folder(folder) = &*self.engine {
            let (folder, key, dest) = (folder.clone(), key.clone(), dest.to_owned());
            return blocking(move || folder.copy_out(&key, &dest)).await;
        }
        let reader = self.open(key).await?;
        // Beside its destination, so that the last step is a rename and never a copy.
        let mut staged = Staged::create(dest.parent().unwrap_or(dest), self.faults.clone()).await?;
        let mut at = 0;
        while at < reader.len() {
            let part = reader.read_at(at, reader.part(at)).await?;
            at += part.len() as u64;
            staged.write(&part).await?;
        }
        let path = staged.seal()?;
        tokio::fs::rename(&*path, dest).await.map_err(BlobError::from)
    }

    /// Removes a blob. One that is gone already is no error: deletion is repeated after a crash.
    pub async fn delete(&self, key: &BlobKey) -> Result<(), BlobError> {
        self.faults.check(Point::Delete)?;
        match &*self.engine {
            Engine::Folder(folder) => {
                let (folder, key) = (folder.clone(), key.clone());
                blocking(move || folder.delete(&key)).await
            }
            Engine::Object(object) => object.delete(key).await,
        }
    }

    /// Every blob of a class, in no order.
    pub async fn list(&self, class: Class) -> Result<Vec<Listed>, BlobError> {
        match &*self.engine {
            Engine::Folder(folder) => {
                let folder = folder.clone();
                blocking(move || folder.list(class)).await
            }
            Engine::Object(object) => object.list(class).await,
        }
    }

    /// Removes temporary files that a crash left behind.
    pub async fn sweep_temporary(&self, older_than: std::time::Duration) -> Result<usize, BlobError> {
        let folder: PathBuf = self.scratch().to_owned();
        blocking(move || staged::sweep(&folder, older_than)).await
    }
}

/// Runs file work on the blocking pool.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BlobError> + Send + 'static,
) -> Result<T, BlobError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| BlobError::Closed)?
}
