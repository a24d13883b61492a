//! Blobs in an S3-compatible bucket. Bytes are validated in a local file first and uploaded
//! whole; keys are new every time, so an upload never has anything to replace.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use object_store::aws::{AmazonS3Builder, Checksum, S3ConditionalPut};
use object_store::path::Path as ObjectPath;
use object_store::{
    BackoffConfig, ClientOptions, ObjectStore as Store, ObjectStoreExt, PutMode, PutPayload, RetryConfig,
    WriteMultipart,
};
use tokio::io::AsyncReadExt;

use crate::faults::{Faults, Point};
use crate::reader::BlobReader;
use crate::{BlobError, BlobKey, Class, Listed};

/// Files above this size go up in parts of it.
const PART_BYTES: usize = 16 * 1024 * 1024;
const PARTS_AT_ONCE: usize = 4;
/// A wrong endpoint is tried again for longer otherwise.
const PROBE_TIMEOUT: Duration = Duration::from_secs(15);
const NO_ANSWER: &str = "it does not answer";
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// A store that fails is asked again for some seconds; then our client hears of it.
const RETRIES: usize = 6;
const RETRY_TIMEOUT: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// What stores say when a disk, a bucket or a quota is full, in the text of their errors.
const FULL: [&str; 4] = ["507 Insufficient Storage", "QuotaExceeded", "StorageFull", "InsufficientStorage"];

/// Where the bucket is.
#[derive(Clone, Default)]
pub struct S3Config {
    pub bucket: String,
    /// Folder inside the bucket; may be empty.
    pub prefix: String,
    /// Empty for AWS itself.
    pub endpoint: String,
    pub region: String,
    /// `None`: from `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`.
    pub access_key: Option<String>,
    pub secret_key: Option<String>,
}

impl S3Config {
    /// Parses `s3://bucket/prefix?endpoint=URL&region=NAME`.
    pub fn parse(url: &str) -> Result<Self, BlobError> {
        let bad = || {
            BlobError::Config(format!(
                "storage is '{url}', but has to be like s3://bucket/prefix?region=NAME"
            ))
        };
        let (path, query) = url
            .strip_prefix("s3://")
            .ok_or_else(bad)?
            .split_once('?')
            .unwrap_or((url.strip_prefix("s3://").unwrap_or_default(), ""));
        let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
        let mut config = Self { bucket: bucket.to_owned(), prefix: prefix.to_owned(), ..Self::default() };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("endpoint", value)) => value.clone_into(&mut config.endpoint),
                Some(("region", value)) => value.clone_into(&mut config.region),
                _ => return Err(bad()),
            }
        }
        if bucket.is_empty() { Err(bad()) } else { Ok(config) }
    }
}

pub struct ObjectStore {
    store: Arc<dyn Store>,
    prefix: String,
    scratch: PathBuf,
}

impl ObjectStore {
    pub fn open(config: &S3Config, scratch: &Path) -> Result<Self, BlobError> {
        std::fs::create_dir_all(scratch)?;
        // One provider of cryptography for TLS; a second call finds the first one's and is no error.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(&config.bucket)
            // A large part on a slow link takes long; a silent one is given up.
            .with_client_options(client_options(config))
            .with_retry(retry())
            // The store checks what arrives, and keeps what it checked it by.
            .with_checksum_algorithm(Checksum::SHA256)
            .with_conditional_put(S3ConditionalPut::ETagMatch);
        if let Some(key) = &config.access_key {
            builder = builder.with_access_key_id(key);
        }
        if let Some(key) = &config.secret_key {
            builder = builder.with_secret_access_key(key);
        }
        if !config.region.is_empty() {
            builder = builder.with_region(&config.region);
        }
        if !config.endpoint.is_empty() {
            builder = builder.with_endpoint(&config.endpoint);
        }
        let store = Arc::new(builder.build().map_err(BlobError::Object)?);
        Ok(Self { store, prefix: config.prefix.clone(), scratch: scratch.to_owned() })
    }

    /// Proves that the bucket is there, that it can be written to with these keys, and that it
    /// refuses to replace what is there, which many stores do not.
    pub async fn probe(&self) -> Result<(), BlobError> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|_| BlobError::Closed)?;
        let name = format!("{}/probe-{:016x}", self.prefix, u64::from_be_bytes(random));
        let path = ObjectPath::from(name.trim_start_matches('/'));
        let put = || self.store.put_opts(&path, PutPayload::from_static(b"probe"), PutMode::Create.into());
        let first = tokio::time::timeout(PROBE_TIMEOUT, put());
        first.await.map_err(|_| BlobError::Config(NO_ANSWER.into()))?.map_err(BlobError::Object)?;
        let second = put().await;
        self.store.delete(&path).await.map_err(BlobError::Object)?;
        match second {
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Ok(())
            }
            Err(error) => Err(BlobError::Object(error)),
            Ok(_) => Err(BlobError::Config("it ignores `If-None-Match: *` on PUT".into())),
        }
    }

    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    fn path(&self, key: &BlobKey) -> ObjectPath {
        ObjectPath::from(format!("{}/{}", self.prefix, key.path()).trim_start_matches('/'))
    }

    pub async fn upload(&self, from: &Path, key: &BlobKey, faults: &Faults) -> Result<(), BlobError> {
        let path = self.path(key);
        let size = tokio::fs::metadata(from).await?.len();
        faults.check(Point::Link)?;
        let sent = if size <= PART_BYTES as u64 {
            let payload = PutPayload::from(tokio::fs::read(from).await?);
            let sent = self.store.put_opts(&path, payload, PutMode::Create.into()).await;
            sent.map(drop).map_err(|error| wrap(error, key))
        } else {
            self.upload_parts(from, &path, key).await
        };
        match sent {
            Ok(()) => {
                self.has(&path, size, key).await?.then_some(()).ok_or(BlobError::Truncated(key.clone()))
            }
            // Keys are new every time. What is there is most likely ours: the answer to the first
            // try was lost, and the library tried again.
            Err(BlobError::Exists(_)) if self.has(&path, size, key).await? => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Law 6: nothing is acknowledged that the bucket does not say it has.
    async fn has(&self, path: &ObjectPath, size: u64, key: &BlobKey) -> Result<bool, BlobError> {
        Ok(self.store.head(path).await.map_err(|error| wrap(error, key))?.size == size)
    }

    async fn upload_parts(&self, from: &Path, path: &ObjectPath, key: &BlobKey) -> Result<(), BlobError> {
        let wrap = |error| wrap(error, key);
        let mut file = tokio::fs::File::open(from).await?;
        // Beginning and ending are in tasks of their own, which end well or take everything back
        // even when nobody waits for them any more.
        let begun = tokio::spawn(Upload::begin(Arc::clone(&self.store), path.clone())).await;
        let mut upload = begun.map_err(|_| BlobError::Closed)?.map_err(wrap)?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            let read = file.read(&mut buffer).await?;
            if read == 0 {
                break;
            }
            let parts = upload.0.as_mut().ok_or(BlobError::Closed)?;
            parts.wait_for_capacity(PARTS_AT_ONCE).await.map_err(wrap)?;
            parts.write(buffer.get(..read).unwrap_or_default());
        }
        let parts = upload.0.take().ok_or(BlobError::Closed)?;
        tokio::spawn(parts.finish()).await.map_err(|_| BlobError::Closed)?.map_err(wrap)?;
        Ok(())
    }

    pub async fn open_blob(&self, key: &BlobKey, faults: Faults) -> Result<BlobReader, BlobError> {
        let path = self.path(key);
        let meta = self.store.head(&path).await.map_err(|error| wrap(error, key))?;
        Ok(BlobReader::object(key.clone(), Arc::clone(&self.store), path, meta.size, faults))
    }

    pub async fn delete(&self, key: &BlobKey) -> Result<(), BlobError> {
        match self.store.delete(&self.path(key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(BlobError::Object(error)),
        }
    }

    pub async fn list(&self, class: Class) -> Result<Vec<Listed>, BlobError> {
        let folder = ObjectPath::from(format!("{}/{}", self.prefix, class.as_str()).trim_start_matches('/'));
        let objects: Vec<_> =
            self.store.list(Some(&folder)).try_collect().await.map_err(BlobError::Object)?;
        let listed = objects.into_iter().filter_map(|object| {
            let key = BlobKey::new(class, object.location.filename()?).ok()?;
            Some(Listed { key, size: object.size, modified_ms: object.last_modified.timestamp_millis() })
        });
        Ok(listed.collect())
    }
}

fn client_options(config: &S3Config) -> ClientOptions {
    ClientOptions::new()
        .with_timeout_disabled()
        .with_read_timeout(READ_TIMEOUT)
        .with_allow_http(config.endpoint.starts_with("http://"))
}

fn retry() -> RetryConfig {
    let backoff = BackoffConfig { max_backoff: LONGEST_PAUSE, ..BackoffConfig::default() };
    RetryConfig { backoff, max_retries: RETRIES, retry_timeout: RETRY_TIMEOUT }
}

/// An upload in parts. Dropped before its end, it is taken back: parts that belong to no object
/// take space that nobody sees.
struct Upload(Option<WriteMultipart>);

impl Upload {
    async fn begin(store: Arc<dyn Store>, path: ObjectPath) -> object_store::Result<Self> {
        let upload = store.put_multipart(&path).await?;
        Ok(Self(Some(WriteMultipart::new_with_chunk_size(upload, PART_BYTES))))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(upload) = self.0.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            // When this fails too, the bucket's rule for incomplete uploads is left.
            runtime.spawn(async move { drop(upload.abort().await) });
        }
    }
}

fn wrap(error: object_store::Error, key: &BlobKey) -> BlobError {
    match error {
        object_store::Error::NotFound { .. } => BlobError::NotFound(key.clone()),
        object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. } => {
            BlobError::Exists(key.clone())
        }
        other if is_full(&other) => BlobError::Full,
        other => BlobError::Object(other),
    }
}

fn is_full(error: &object_store::Error) -> bool {
    let mut next: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        if FULL.iter().any(|word| text.contains(word)) {
            return true;
        }
        next = error.source();
    }
    false
}
