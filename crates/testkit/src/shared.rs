//! Several servers on one PostgreSQL and one bucket, each with a data folder of its own.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use bastide_core::{Clock, Visibility};
use bastide_git::Cache;
use bastide_hub::{Config, Hub, Parts};
use bastide_ledger::context;
use bastide_store::Db;
use bastide_vault::Keys;

use crate::{PUBLIC_URL, START_MS, TestHub, s3};

/// Names the server that tests may make databases on.
const POSTGRES: &str = "BASTIDE_TEST_POSTGRES";

pub struct Shared {
    url: String,
    bucket: s3::Server,
    keys: tempfile::TempDir,
    time: Arc<AtomicI64>,
}

impl Shared {
    /// A new database and a new bucket; none when there is no PostgreSQL to test with.
    pub async fn start(name: &str) -> Option<Self> {
        let url = postgres_database(name).await?;
        let keys = tempfile::tempdir().expect("a temporary folder");
        Some(Self { url, bucket: s3::Server::start().await, keys, time: Arc::new(AtomicI64::new(START_MS)) })
    }

    /// One more server.
    pub async fn server(&self) -> TestHub {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data = folder.path();
        let mut config = Config::new(data.to_owned(), PUBLIC_URL);
        config.default_visibility = Visibility::Public;
        let hub = Hub::new(Parts {
            config,
            db: Db::open_postgres(&self.url).await.expect("a database"),
            blobs: self.bucket.blobs_with(&data.join("scratch")),
            git: Cache::new(data.join("cache/git")),
            keys: Keys::load_or_create(&self.keys.path().join("keys")).expect("keys"),
            clock: Clock::Test(Arc::clone(&self.time)),
        });
        hub.claim(&context::operator(hub.clock())).await.expect("the keys of the database");
        let router = bastide_api::router(hub.clone());
        TestHub { hub, router, time: Arc::clone(&self.time), folder }
    }
}

/// A database for one test, on the server that `BASTIDE_TEST_POSTGRES` names.
async fn postgres_database(name: &str) -> Option<String> {
    let Ok(base) = std::env::var(POSTGRES) else {
        // Not by a macro of printing: those are silent in tests that pass.
        let _ = writeln!(std::io::stderr(), "PostgreSQL tests were skipped: set {POSTGRES}");
        return None;
    };
    let (client, connection) =
        tokio_postgres::connect(&base, tokio_postgres::NoTls).await.expect("a PostgreSQL to test with");
    tokio::spawn(connection);
    let name = format!("bastide_{}_{name}", std::process::id());
    client.batch_execute(&format!("DROP DATABASE IF EXISTS {name}")).await.expect("no old database");
    client.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("a new database");
    let (server, _) = base.rsplit_once('/').expect("a URL with a database");
    Some(format!("{server}/{name}"))
}
