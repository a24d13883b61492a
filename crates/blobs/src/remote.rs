//! Blobs in an S3-compatible bucket, under `<prefix>/<class>/<name>`.
//!
//! Nothing is written over: small blobs are created with `If-None-Match: *`; for large ones, and in
//! stores that ignore that header (the start probes for it), the key is looked up first. That is
//! enough because keys are random: two writers never share one.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bastide_core::Timestamp;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path as ObjectPath;
use object_store::{
    ClientOptions, GetOptions, MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
    RetryConfig,
};

use crate::error::{BlobError, Result};
use crate::faults::{Faults, Step};
use crate::folder::{beside, prove_writable};
use crate::key::{BlobKey, Class, random_hex};
use crate::stage::{Staged, read_exact_at};
use crate::{Listed, blocking};

/// Larger blobs are uploaded in parts.
pub const MULTIPART_OVER_BYTES: u64 = 64 * 1024 * 1024;
/// One part, unless a blob would need more than `MAX_PARTS` of them.
const PART_BYTES: u64 = 16 * 1024 * 1024;
/// S3 takes 10,000.
const MAX_PARTS: u64 = 9_000;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Without any byte from the store. There is no limit for a whole transfer: clients may be slow.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
const RETRY_TIMEOUT: Duration = Duration::from_secs(30);
const RETRIES: usize = 4;

/// Where the bucket is and how to sign. Any store that speaks S3 with path-style addresses.
/// Uploads that die leave parts behind: give the bucket a rule that aborts incomplete multipart
/// uploads after a few days.
#[derive(Clone)]
pub struct S3Config {
    pub endpoint: String,
    pub bucket: String,
    pub region: String,
    pub access_key: String,
    pub secret_key: String,
    /// Folder inside the bucket; may be empty.
    pub prefix: String,
    /// Without TLS: for a store on this machine or a closed network.
    pub allow_http: bool,
}

impl fmt::Debug for S3Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Config")
            .field("endpoint", &self.endpoint)
            .field("bucket", &self.bucket)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl S3Config {
    fn connect(&self) -> Result<AmazonS3> {
        // Refused only when the process has one already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = ClientOptions::new()
            .with_timeout_disabled()
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_read_timeout(READ_TIMEOUT);
        let retry =
            RetryConfig { max_retries: RETRIES, retry_timeout: RETRY_TIMEOUT, ..RetryConfig::default() };
        let store = AmazonS3Builder::new()
            .with_client_options(client)
            .with_retry(retry)
            .with_endpoint(&self.endpoint)
            .with_bucket_name(&self.bucket)
            .with_region(&self.region)
            .with_access_key_id(&self.access_key)
            .with_secret_access_key(&self.secret_key)
            .with_allow_http(self.allow_http)
            .build()?;
        Ok(store)
    }
}

#[derive(Debug)]
pub(crate) struct Remote {
    store: AmazonS3,
    prefix: ObjectPath,
    scratch: PathBuf,
    /// The store keeps its word on `If-None-Match: *`.
    conditional: bool,
}

/// An object and its length, as it was when it was opened.
#[derive(Debug)]
pub(crate) struct RemoteBlob {
    store: AmazonS3,
    path: ObjectPath,
    len: u64,
    faults: Faults,
}

impl Remote {
    /// Writes, overwrites, reads and deletes a small object: wrong credentials or a wrong bucket
    /// show at the start and not at the first upload.
    pub async fn open(config: &S3Config, scratch: &Path) -> Result<Self> {
        let prefix = ObjectPath::parse(&config.prefix).map_err(object_store::Error::from)?;
        let mut remote =
            Self { store: config.connect()?, prefix, scratch: scratch.to_owned(), conditional: true };
        let folder = scratch.to_owned();
        blocking(move || prepare_scratch(&folder)).await?;
        remote.conditional = remote.probe().await?;
        if !remote.conditional {
            tracing::warn!("the object store ignores If-None-Match: keys are looked up before uploads");
        }
        Ok(remote)
    }

    async fn probe(&self) -> Result<bool> {
        let path = self.prefix.clone().join("probe").join(random_hex()?);
        self.create(&path, Bytes::from_static(b"probe")).await?;
        let second = self.create(&path, Bytes::from_static(b"probe")).await;
        let read = self.store.get(&path).await?.bytes().await?;
        self.store.delete(&path).await?;
        if read.as_ref() != b"probe" {
            return Err(BlobError::Truncated { expected: 5, found: read.len() as u64 });
        }
        Ok(matches!(second, Err(BlobError::Exists)))
    }

    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    fn path(&self, key: &BlobKey) -> ObjectPath {
        self.prefix.clone().join(key.class().folder()).join(key.name())
    }

    async fn create(&self, path: &ObjectPath, bytes: Bytes) -> Result<()> {
        if !self.conditional && self.len(path).await.is_ok() {
            return Err(BlobError::Exists);
        }
        let mode = if self.conditional { PutMode::Create } else { PutMode::Overwrite };
        self.store.put_opts(path, PutPayload::from(bytes), PutOptions::from(mode)).await?;
        Ok(())
    }

    pub async fn keep(&self, mut staged: Staged, key: &BlobKey, faults: &Faults) -> Result<u64> {
        let staged = blocking(move || staged.settle().map(|()| staged)).await?;
        if staged.len() > MULTIPART_OVER_BYTES {
            return self.keep_in_parts(&staged, key, faults).await;
        }
        let bytes = read_part(&staged, 0, staged.len()).await?;
        self.put(key, bytes, faults).await
    }

    pub async fn put(&self, key: &BlobKey, bytes: Bytes, faults: &Faults) -> Result<u64> {
        let (path, len) = (self.path(key), bytes.len() as u64);
        faults.check_async(Step::Rename).await?;
        match self.create(&path, bytes.clone()).await {
            // Also the answer to our own retry, when the first try arrived and its answer did not.
            Err(BlobError::Exists) => self.confirm_same(&path, &Local::Memory(bytes)).await?,
            other => other?,
        }
        self.confirm_len(&path, len).await
    }

    async fn keep_in_parts(&self, staged: &Staged, key: &BlobKey, faults: &Faults) -> Result<u64> {
        let path = self.path(key);
        match self.len(&path).await {
            Ok(_) => self.confirm_same(&path, &Local::File(staged)).await?,
            Err(BlobError::NotFound) => {
                let mut upload = self.store.put_multipart(&path).await?;
                if let Err(error) = upload_parts(upload.as_mut(), staged, faults).await {
                    // Best effort; the bucket's own rule takes what is left.
                    let _ = upload.abort().await;
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
        self.confirm_len(&path, staged.len()).await
    }

    async fn confirm_len(&self, path: &ObjectPath, expected: u64) -> Result<u64> {
        match self.len(path).await? {
            found if found == expected => Ok(expected),
            found => Err(BlobError::Truncated { expected, found }),
        }
    }

    async fn confirm_same(&self, path: &ObjectPath, local: &Local<'_>) -> Result<()> {
        if self.len(path).await? != local.len() {
            return Err(BlobError::Exists);
        }
        let mut offset = 0;
        let mut stored = self.store.get(path).await?.into_stream();
        while let Some(piece) = stored.try_next().await? {
            if local.read(offset, piece.len() as u64).await? != piece {
                return Err(BlobError::Exists);
            }
            offset += piece.len() as u64;
        }
        Ok(())
    }

    async fn len(&self, path: &ObjectPath) -> Result<u64> {
        Ok(self.store.head(path).await?.size)
    }

    pub async fn size(&self, key: &BlobKey) -> Result<u64> {
        self.len(&self.path(key)).await
    }

    pub async fn reader(&self, key: &BlobKey, faults: Faults) -> Result<RemoteBlob> {
        let path = self.path(key);
        Ok(RemoteBlob { len: self.len(&path).await?, store: self.store.clone(), path, faults })
    }

    pub async fn delete(&self, key: &BlobKey) -> Result<()> {
        match self.store.delete(&self.path(key)).await {
            Err(object_store::Error::NotFound { .. }) => Ok(()),
            other => Ok(other?),
        }
    }

    /// Downloads to a name beside `target` and renames when every byte is there.
    pub async fn fetch_to(&self, key: &BlobKey, target: &Path, faults: Faults) -> Result<()> {
        let blob = Arc::new(self.reader(key, faults.clone()).await?);
        let partial = beside(target)?;
        let folder = target.parent().unwrap_or(Path::new(".")).to_owned();
        let mut staged = blocking(move || Staged::create(&folder, faults)).await?;
        let mut pieces = Arc::clone(&blob).stream(0..blob.len());
        while let Some(piece) = pieces.try_next().await? {
            staged.write(piece).await?;
        }
        if staged.len() != blob.len() {
            return Err(BlobError::Truncated { expected: blob.len(), found: staged.len() });
        }
        drop(partial);
        let target = target.to_owned();
        blocking(move || {
            staged.settle()?;
            std::fs::rename(staged.path(), &target)?;
            staged.moved();
            Ok(())
        })
        .await
    }

    pub fn list(&self, class: Class) -> BoxStream<'static, Result<Listed>> {
        let folder = self.prefix.clone().join(class.folder());
        let found = self.store.list(Some(&folder)).err_into();
        found.try_filter_map(move |object| std::future::ready(Ok(listed(class, &object)))).boxed()
    }
}

fn listed(class: Class, object: &object_store::ObjectMeta) -> Option<Listed> {
    let key = object.location.filename().and_then(|name| BlobKey::new(class, name).ok())?;
    let modified = Timestamp::from_millis(object.last_modified.timestamp_millis());
    Some(Listed { key, size: object.size, modified })
}

fn prepare_scratch(folder: &Path) -> Result<()> {
    let prepared = std::fs::create_dir_all(folder).and_then(|()| prove_writable(folder));
    prepared.map_err(|source| BlobError::NotWritable { path: folder.to_owned(), source })
}

async fn upload_parts(upload: &mut dyn MultipartUpload, staged: &Staged, faults: &Faults) -> Result<()> {
    let (len, mut offset) = (staged.len(), 0);
    let part = PART_BYTES.max(len.div_ceil(MAX_PARTS));
    while offset < len {
        let size = part.min(len - offset);
        upload.put_part(PutPayload::from(read_part(staged, offset, size).await?)).await?;
        offset += size;
    }
    faults.check_async(Step::Rename).await?;
    upload.complete().await?;
    Ok(())
}

async fn read_part(staged: &Staged, offset: u64, len: u64) -> Result<Bytes> {
    let file = Arc::clone(staged.file());
    blocking(move || read_exact_at(&file, offset, usize::try_from(len).unwrap_or(usize::MAX))).await
}

/// What is being stored, to compare with what is there.
enum Local<'a> {
    Memory(Bytes),
    File(&'a Staged),
}

impl Local<'_> {
    fn len(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File(staged) => staged.len(),
        }
    }

    async fn read(&self, offset: u64, len: u64) -> Result<Bytes> {
        match self {
            Self::File(staged) => read_part(staged, offset, len).await,
            Self::Memory(bytes) => {
                let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                let upto = from.saturating_add(usize::try_from(len).unwrap_or(usize::MAX)).min(bytes.len());
                Ok(bytes.slice(from..upto))
            }
        }
    }
}

impl RemoteBlob {
    pub const fn len(&self) -> u64 {
        self.len
    }

    pub async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        let expected = range.end.saturating_sub(range.start);
        let cut = self.faults.hit_async(Step::Read).await?;
        let bytes = self.store.get_range(&self.path, range).await?;
        let found = cut.unwrap_or(bytes.len()) as u64;
        if found == expected { Ok(bytes) } else { Err(BlobError::Truncated { expected, found }) }
    }

    /// One request for the whole range. The caller counts the bytes.
    pub fn stream(self: Arc<Self>, range: Range<u64>) -> BoxStream<'static, Result<Bytes>> {
        let pieces = async move {
            let cut = self.faults.hit_async(Step::Read).await?;
            let options = GetOptions::new().with_range(Some(range));
            let pieces = self.store.get_opts(&self.path, options).await?.into_stream();
            Ok(pieces.err_into().take(cut.unwrap_or(usize::MAX)))
        };
        futures_util::stream::once(pieces).try_flatten().boxed()
    }
}
