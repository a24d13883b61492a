//! A whole hub in a temporary folder: the real router, no sockets, a clock that the test moves,
//! jobs that run when told to. A test that leaves jobs behind fails.

mod client;
pub mod s3;
mod shared;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bastide_blobs::Blobs;
use bastide_core::{Clock, Name, Role, TokenRole, Visibility};
use bastide_git::Cache;
use bastide_hub::access::Admin;
use bastide_hub::accounts::NewUser;
use bastide_hub::ledger::LedgerReport;
use bastide_hub::tokens::TokenRequest;
use bastide_hub::{Config, Hub, Parts, Problem};
use bastide_ledger::context::{self, Context};
use bastide_store::Db;
use bastide_vault::Keys;

pub use client::{Client, Reply};
pub use shared::Shared;

/// Where the test clock starts: a day in November 2026.
const START_MS: i64 = 1_795_500_000_000;
pub const PUBLIC_URL: &str = "http://hub.test";

/// A second hub on the folder of a test's hub, as another process would be.
pub struct Reopened {
    pub hub: Hub,
    router: axum::Router,
}

impl Reopened {
    pub fn client(&self, token: Option<&str>) -> Client {
        Client::new(self.router.clone(), token.map(ToOwned::to_owned))
    }
}

/// What a forger changed, and how to put it back.
pub struct Tampered {
    database: std::path::PathBuf,
    backup: std::path::PathBuf,
}

impl Tampered {
    /// Puts the tables back as they were.
    pub fn undo(self) {
        let connection = rusqlite::Connection::open(&self.database).expect("the database");
        let backup = self.backup.display();
        connection.execute_batch(&format!("ATTACH '{backup}' AS saved")).expect("the backup opens");
        let sql = "SELECT name FROM saved.sqlite_master WHERE type = 'table' AND sql LIKE 'CREATE TABLE%' \
            AND name NOT LIKE 'sqlite%'";
        let mut names = connection.prepare(sql).expect("the tables");
        let names = names.query_map([], |row| row.get::<_, String>(0)).expect("the tables");
        let mut sql = "PRAGMA foreign_keys = OFF; BEGIN;".to_owned();
        for name in names {
            let name = name.expect("a table");
            sql.push_str(&format!(
                "DELETE FROM main.{name}; INSERT INTO main.{name} SELECT * FROM saved.{name};"
            ));
        }
        connection.execute_batch(&format!("{sql} COMMIT")).expect("the backup goes back");
    }
}

/// A hub for one test.
pub struct TestHub {
    pub hub: Hub,
    pub router: axum::Router,
    time: Arc<AtomicI64>,
    folder: tempfile::TempDir,
}

impl TestHub {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// A hub whose settings `change` has changed.
    pub async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let blobs = Blobs::folder(&folder.path().join("blobs")).expect("a folder for blobs");
        Self::build(folder, blobs, change).await
    }

    /// A hub over other blobs: an object store, or one that fails on demand.
    pub async fn over(blobs: impl FnOnce(&Path) -> Blobs) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let blobs = blobs(folder.path());
        Self::build(folder, blobs, |_| {}).await
    }

    async fn build(folder: tempfile::TempDir, blobs: Blobs, change: impl FnOnce(&mut Config)) -> Self {
        let data = folder.path();
        let mut config = Config::new(data.to_owned(), PUBLIC_URL);
        change(&mut config);
        let time = Arc::new(AtomicI64::new(START_MS));
        let hub = open(data, config, blobs, &time).await.expect("a new hub");
        let router = bastide_api::router(hub.clone());
        Self { hub, router, time, folder }
    }

    /// Another hub on the same folder.
    pub async fn reopened(&self) -> Reopened {
        let blobs = Blobs::folder(&self.data().join("blobs")).expect("the folder for blobs");
        let hub = open(self.data(), self.hub.config.clone(), blobs, &self.time).await.expect("its own keys");
        Reopened { router: bastide_api::router(hub.clone()), hub }
    }

    /// What a start on the same folder comes to.
    pub async fn try_reopen(&self) -> Result<(), Problem> {
        let blobs = Blobs::folder(&self.data().join("blobs")).expect("the folder for blobs");
        open(self.data(), self.hub.config.clone(), blobs, &self.time).await.map(drop)
    }

    /// Changes the database behind the hub's back.
    pub fn tamper(&self, sql: &str) -> Tampered {
        let database = self.data().join("bastide.db");
        let backup = self.data().join("saved.db");
        let _ = std::fs::remove_file(&backup);
        let connection = rusqlite::Connection::open(&database).expect("the database");
        connection.execute("VACUUM INTO ?1", [backup.to_str().expect("a path")]).expect("a backup");
        connection.execute_batch(sql).expect("a forgery that the database takes");
        Tampered { database, backup }
    }

    /// What somebody can do who may write to the database and knows how we hash: changes events and
    /// makes the tree anew over what is there then. The hub's key they do not have.
    pub async fn forge(&self, sql: &str) -> Tampered {
        let undo = self.tamper(sql);
        let path = self.data().join("bastide.db");
        let db = Db::open_sqlite(&path).await.expect("the database");
        let mut read = db.read().await.expect("a reader");
        let events = bastide_store::ledger::events_from(&mut read, 0, u32::MAX).await.expect("events");
        let connection = rusqlite::Connection::open(&path).expect("the database");
        connection.execute_batch("DELETE FROM ledger_node").expect("no tree");
        let mut tree = bastide_ledger::Frontier::default();
        for stored in events {
            let leaf = stored.event.expect("an event").leaf_hash();
            let sql = "UPDATE event SET leaf = ?1 WHERE seq = ?2";
            connection.execute(sql, rusqlite::params![leaf, stored.seq]).expect("a leaf");
            for (level, position, hash) in tree.push(leaf) {
                let sql = "INSERT INTO ledger_node (level, position, hash) VALUES (?1, ?2, ?3)";
                connection.execute(sql, rusqlite::params![level, position, hash]).expect("a node");
            }
        }
        undo
    }

    /// A number from the database, behind the hub's back.
    pub fn count(&self, sql: &str) -> i64 {
        let connection = rusqlite::Connection::open(self.data().join("bastide.db")).expect("the database");
        connection.query_row(sql, [], |row| row.get(0)).expect("a number")
    }

    pub fn data(&self) -> &Path {
        self.folder.path()
    }

    pub fn advance_seconds(&self, seconds: i64) {
        self.time.fetch_add(seconds * 1000, Ordering::SeqCst);
    }

    pub fn operator(&self) -> Context {
        context::operator(self.hub.clock())
    }

    pub fn anonymous(&self) -> Client {
        Client::new(self.router.clone(), None)
    }

    /// A new user, with a write token.
    pub async fn user(&self, name: &str) -> Client {
        let name: Name = name.parse().expect("a name");
        let email = format!("{name}@example.org");
        let new = NewUser { name: name.clone(), full_name: None, email, is_admin: false };
        self.hub.add_user(&self.operator(), &new).await.expect("a new user");
        self.token(name.as_str(), TokenRole::Write).await
    }

    /// One more token for a user.
    pub async fn token(&self, user: &str, role: TokenRole) -> Client {
        self.make_token(user, TokenRequest { name: format!("{role} for tests"), role, days: None }).await
    }

    /// A write token with a name to find it by, and an end of its own.
    pub async fn token_with(&self, user: &str, name: &str, days: Option<i64>) -> Client {
        self.make_token(user, TokenRequest { name: name.to_owned(), role: TokenRole::Write, days }).await
    }

    async fn make_token(&self, user: &str, request: TokenRequest) -> Client {
        let context = self.operator();
        let access = self.hub.access(&context).namespace::<Admin>(&user.parse().expect("a name")).await;
        let token =
            self.hub.create_token(&context, &access.expect("access"), request).await.expect("a token");
        Client::new(self.router.clone(), Some(token.text.as_str().to_owned()))
    }

    /// A new organisation with these members besides its owner.
    pub async fn org(&self, name: &str, owner: &str, members: &[(&str, Role)]) {
        let context = self.operator();
        let gate = self.hub.access(&context);
        let owner = gate.namespace::<Admin>(&owner.parse().expect("a name")).await.expect("the owner");
        let name: Name = name.parse().expect("a name");
        self.hub.add_org(&context, &name, &owner).await.expect("a new organisation");
        let org = gate.namespace::<Admin>(&name).await.expect("the organisation");
        for (user, role) in members {
            let user = user.parse().expect("a name");
            self.hub.set_member(&context, &org, &user, Some(*role)).await.expect("a member");
        }
    }

    /// Checks the ledger as the operator would.
    pub async fn verify_ledger(&self) -> LedgerReport {
        self.hub.verify_ledger(&self.operator(), &[], |_, _| {}).await.expect("a ledger that can be read")
    }

    /// Runs every job that is due.
    pub async fn run_jobs(&self) -> usize {
        self.hub.run_due_jobs().await.expect("jobs that succeed")
    }

    /// Queues and sends what webhooks are told of; how many were sent.
    pub async fn run_webhooks(&self) -> usize {
        self.hub.run_webhooks().await.expect("deliveries that are written down")
    }

    /// The end of a test: no job is left, none has failed, and the ledger holds.
    pub async fn finish(self) {
        self.run_jobs().await;
        let (waiting, failed) = self.hub.job_counts().await.expect("job counts");
        assert_eq!((waiting, failed), (0, 0), "jobs that wait, jobs that failed");
        self.hub.checkpoint().await.expect("a checkpoint");
        let report = self.verify_ledger().await;
        assert!(report.problems.is_empty(), "the ledger is wrong: {:?}", report.problems);
    }
}

async fn open(data: &Path, config: Config, blobs: Blobs, time: &Arc<AtomicI64>) -> Result<Hub, Problem> {
    let hub = Hub::new(Parts {
        config,
        db: Db::open_sqlite(&data.join("bastide.db")).await.expect("a database"),
        blobs,
        git: Cache::new(data.join("cache/git")),
        keys: Keys::load_or_create(&data.join("keys")).expect("keys"),
        clock: Clock::Test(Arc::clone(time)),
    });
    hub.claim(&context::operator(hub.clock())).await?;
    Ok(hub)
}

impl TestHub {
    /// A hub where new repositories are public.
    pub async fn open() -> Self {
        Self::with(|config| config.default_visibility = Visibility::Public).await
    }
}
