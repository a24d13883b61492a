//! Opening a hub's state, with errors that say what to do.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use anyhow::{Context, bail};
use bastide_blobs::{Blobs, S3Config};
use bastide_core::Clock;
use bastide_git::Cache;
use bastide_hub::{Hub, Parts};
use bastide_ledger::context;
use bastide_store::Db;
use bastide_vault::Keys;

use crate::config::Settings;
use crate::output;

const DATABASE_FILE: &str = "bastide.db";
const KEYS_FOLDER: &str = "keys";
const LOCK_FILE: &str = "serve.lock";
/// Everything of a hub is for its own user alone: the database names people and what they read.
const FOLDER_MODE: u32 = 0o700;
/// Bits that let a group or the world in.
const OTHERS: u32 = 0o077;

/// Opens the hub that is in a data folder. One that is not there is not made: a mistyped folder
/// would become an empty hub with keys of its own.
pub async fn existing(settings: &Settings) -> anyhow::Result<Hub> {
    let data = &settings.hub.data;
    // With the database elsewhere the keys are what is here.
    let mark = data.join(if settings.database.is_some() { KEYS_FOLDER } else { DATABASE_FILE });
    if !mark.exists() {
        bail!(
            "there is no hub in {}: name its folder with --data, or run `bastide init` or `bastide serve` first",
            data.display()
        );
    }
    hub(settings).await
}

/// Opens the hub in a data folder, or makes one.
pub async fn or_create(settings: &Settings) -> anyhow::Result<Hub> {
    make_folder(&settings.hub.data)?;
    if settings.storage.is_some() {
        let probed = blobs(settings)?.probe().await;
        probed.context(
            "cannot use `storage`: check its address, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        )?;
    }
    hub(settings).await
}

/// Makes the data folder, for its user alone.
fn make_folder(data: &Path) -> anyhow::Result<()> {
    let made = DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(data);
    made.with_context(|| format!("cannot make the folder {}: name another with --data", data.display()))
}

/// Others could read the database and every file. A folder that was made by hand is the operator's.
fn warn_if_open(data: &Path) {
    let mode = std::fs::metadata(data).map(|meta| meta.mode()).unwrap_or_default();
    if mode & OTHERS != 0 {
        let data = data.display();
        output::note(&format!(
            "warning: other users of this machine can look into {data}: run `chmod 700 {data}`"
        ));
    }
}

async fn hub(settings: &Settings) -> anyhow::Result<Hub> {
    let data = &settings.hub.data;
    warn_if_open(data);
    bastide_git::git_version().context("Bastide needs git 2.39 or newer (Debian: apt install git)")?;
    let db = database(settings).await?;
    let parts = Parts {
        config: settings.hub.clone(),
        keys: keys(&db, data).await?,
        db,
        blobs: blobs(settings)?,
        git: Cache::new(data.join("cache").join("git")),
        clock: Clock::System,
    };
    let hub = Hub::new(parts);
    hub.claim(&context::operator(hub.clock())).await?;
    Ok(hub)
}

/// New keys for a new database only.
async fn keys(db: &Db, data: &Path) -> anyhow::Result<Keys> {
    let folder = data.join(KEYS_FOLDER);
    let is_new = bastide_hub::claim::keys_of(db).await?.is_none();
    if is_new { Keys::load_or_create(&folder) } else { Keys::load(&folder) }.context("the hub's keys")
}

async fn database(settings: &Settings) -> anyhow::Result<Db> {
    match &settings.database {
        Some(url) => Db::open_postgres(url).await.context("cannot open the PostgreSQL database"),
        None => {
            let path = settings.hub.data.join(DATABASE_FILE);
            Db::open_sqlite(&path).await.with_context(|| format!("cannot open {}", path.display()))
        }
    }
}

fn blobs(settings: &Settings) -> anyhow::Result<Blobs> {
    let data = &settings.hub.data;
    match &settings.storage {
        Some(url) => Ok(Blobs::s3(&S3Config::parse(url)?, &data.join("scratch"))?),
        None => Blobs::folder(&data.join("blobs")).context("the folder of blobs"),
    }
}

/// Held while a server runs on a folder. Two servers on one folder would fight over its journal.
pub struct Lock(File);

impl Lock {
    /// Says in the lock file where the hub is, for commands beside it.
    pub fn announce(&self, url: &str) -> anyhow::Result<()> {
        let write = || self.0.set_len(0).and_then(|()| (&self.0).write_all(url.as_bytes()));
        write().with_context(|| format!("cannot write {LOCK_FILE}"))
    }
}

pub fn lock(data: &Path) -> anyhow::Result<Lock> {
    make_folder(data)?;
    let path = data.join(LOCK_FILE);
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = file.with_context(|| {
        format!("cannot write to {}: is the folder yours? Name another with --data", path.display())
    })?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => bail!(
            "another server is running on {}: stop it, or use another folder with --data",
            data.display()
        ),
        Err(TryLockError::Error(error)) => Err(error).context("cannot lock the data folder"),
    }
}

/// Where the server that runs on a folder is.
pub fn running(data: &Path) -> Option<String> {
    let mut file = File::open(data.join(LOCK_FILE)).ok()?;
    if !matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)) {
        return None;
    }
    let mut url = String::new();
    file.read_to_string(&mut url).ok()?;
    Some(url).filter(|url| !url.is_empty())
}
