//! Opening a hub's state, with errors that say what to do.

use std::fs::{File, OpenOptions, TryLockError};
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

const DATABASE_FILE: &str = "bastide.db";
const LOCK_FILE: &str = "serve.lock";

/// Opens the hub in a data folder; makes the folder when `create` says so.
pub async fn hub(settings: &Settings, create: bool) -> anyhow::Result<Hub> {
    let data = &settings.hub.data;
    if !create && !data.exists() {
        bail!("there is no hub in {}: run `bastide init` or `bastide serve` first", data.display());
    }
    std::fs::create_dir_all(data).with_context(|| format!("cannot make the folder {}", data.display()))?;
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
    let folder = data.join("keys");
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
pub fn lock(data: &Path) -> anyhow::Result<File> {
    std::fs::create_dir_all(data).with_context(|| format!("cannot make the folder {}", data.display()))?;
    let path = data.join(LOCK_FILE);
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = file.with_context(|| format!("cannot write to {}: is the folder yours?", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!(
            "another server is running on {}: stop it, or use another folder with --data",
            data.display()
        ),
        Err(TryLockError::Error(error)) => Err(error).context("cannot lock the data folder"),
    }
}
