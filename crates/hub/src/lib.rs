//! The operations of the hub: accounts, access, repositories, commits, large files, jobs.
//!
//! The only place that decides. Knows no HTTP; the presentations know no SQL. Every operation
//! takes the `Context` of its caller and the permit (`Access`) for what it touches, changes
//! things in one transaction, and ends it with an event.

pub mod access;
pub mod accounts;
mod ancestry;
pub mod auth;
pub mod authors;
pub mod claim;
pub mod collections;
mod commit_count;
pub mod commits;
pub mod content;
pub mod copies;
pub mod crash;
pub mod diffs;
pub mod discussions;
pub mod fetch;
pub mod fsck;
pub mod gc;
pub mod history;
mod ingest;
pub mod jobs;
pub mod large;
pub mod large_files;
pub mod ledger;
pub mod lfs;
pub mod likes;
pub mod links;
pub mod lists;
mod litter;
pub mod locks;
mod metadata;
mod objects;
mod origins;
mod places;
pub mod preupload;
mod problem;
pub mod profiles;
pub mod pulls;
pub mod push;
pub mod reads;
pub mod reconstruct;
pub mod ref_rules;
pub mod repos;
pub mod revert;
mod revisions;
mod rules;
pub mod service;
pub mod storage;
pub mod tokens;
pub mod trees;
pub mod uploads;
pub mod webhooks;
mod weights;
mod witness;
mod writes;
pub mod xet;

use std::path::PathBuf;
use std::sync::Arc;

use bastide_blobs::Blobs;
use bastide_core::{Clock, Visibility};
use bastide_git::Cache;
use bastide_store::Db;
use bastide_vault::Keys;
pub use bastide_vault::Secret;

pub use bastide_ledger::Context;
pub use bastide_ledger::context::Origin;
pub use bastide_outbound::{Allowed, Resolver};
use bastide_outbound::{Outbound, Policy};
pub use bastide_store::db::Value as CursorValue;
pub use bastide_store::permit::Gated;
pub use bastide_store::refs::Ref;
pub use bastide_store::repos::Settings as RepoSettings;
pub use bastide_xet::plan::{ByteRange, ChunkRange, Fetch, WireTerm};
pub use problem::Problem;

/// What an operator decides, in its ready form.
#[derive(Debug, Clone)]
pub struct Config {
    /// How clients reach us: scheme, host and port, without a slash at the end.
    pub public_url: String,
    /// Where a hub without a `public_url` listens: see `url_for_host`.
    pub local_port: Option<u16>,
    /// Who sees a new repository when nobody says.
    pub default_visibility: Visibility,
    /// The folder of the journal, of temporary files and of caches.
    pub data: PathBuf,
    /// Days that read records are kept.
    pub read_record_days: i64,
    /// LFS uploads larger than this are offered in parts.
    pub lfs_multipart_bytes: u64,
    /// Seconds between the steps of collection: how long what nothing points at can be taken up again.
    pub gc_grace_seconds: i64,
    /// Bytes that somebody without the right to write may bring to one repository by pull requests.
    pub proposal_bytes: u64,
    /// Bytes that all of them together may bring to one repository, and to all repositories of one owner.
    pub proposal_bytes_repo: u64,
    pub proposal_bytes_owner: u64,
    /// Pull requests that somebody without the right to write may have open in one repository.
    pub proposals_open: u64,
    /// Pull requests that a user may open in a day where it cannot write.
    pub proposals_per_day: u64,
    /// Bytes that a user's repositories may use together, and those of an organization, where the operator
    /// has set no quota for them.
    pub quota_bytes_user: Option<u64>,
    pub quota_bytes_org: Option<u64>,
    /// Largest pack of a `git push`, in bytes.
    pub max_push_bytes: u64,
    /// Pushes with a pack that are worked at at the same time.
    pub concurrent_pushes: usize,
    /// Programs of git that may serve clones, fetches and pushes at the same time.
    pub git_processes: usize,
    /// Comparisons and blames that are worked out at the same time.
    pub concurrent_comparisons: usize,
    /// How long a fetch or a push waits for its turn: tests have their own.
    pub git_wait: std::time::Duration,
    /// Proxies that are believed who a request is from.
    pub trusted_proxies: Vec<bastide_core::network::Network>,
    /// What webhooks may be sent to besides the public internet.
    pub webhook_allow: Vec<Allowed>,
    /// Events that one webhook sends in a day.
    pub webhook_daily_triggers: i64,
    /// Days that a webhook's log is kept.
    pub webhook_log_days: i64,
    /// How names of webhooks' targets are looked up: tests have their own.
    pub webhook_resolver: Resolver,
}

impl Config {
    pub fn new(data: PathBuf, public_url: impl Into<String>) -> Self {
        Self {
            public_url: public_url.into(),
            local_port: None,
            default_visibility: Visibility::Internal,
            data,
            read_record_days: 180,
            lfs_multipart_bytes: 1 << 30,
            gc_grace_seconds: 86_400,
            proposal_bytes: 5 << 30,
            proposal_bytes_repo: 50 << 30,
            proposal_bytes_owner: 200 << 30,
            proposals_open: 20,
            proposals_per_day: 50,
            quota_bytes_user: None,
            quota_bytes_org: None,
            max_push_bytes: push::MAX_PUSH_BYTES,
            concurrent_pushes: push::CONCURRENT_PUSHES,
            git_processes: 16,
            concurrent_comparisons: diffs::CONCURRENT_COMPARISONS,
            git_wait: std::time::Duration::from_secs(30),
            trusted_proxies: Vec::new(),
            webhook_allow: Vec::new(),
            webhook_daily_triggers: 1000,
            webhook_log_days: 30,
            webhook_resolver: Resolver::System,
        }
    }
}

/// The parts that a hub is made of.
pub struct Parts {
    pub config: Config,
    pub db: Db,
    pub blobs: Blobs,
    pub git: Cache,
    pub keys: Keys,
    pub clock: Clock,
}

/// A whole hub. Cheap to clone.
#[derive(Clone)]
pub struct Hub(Arc<Inner>);

pub struct Inner {
    pub config: Config,
    pub(crate) db: Db,
    pub(crate) blobs: Blobs,
    pub(crate) git: Cache,
    pub(crate) keys: Keys,
    pub(crate) clock: Clock,
    pub(crate) last_uses: auth::LastUses,
    pub(crate) locks: objects::RepoLocks,
    /// Copies of repositories are brought up to date by one at a time.
    pub(crate) fetches: objects::RepoLocks,
    pub(crate) indexes: large::IndexCache,
    pub(crate) journal: reads::Journal,
    pub(crate) flushing: tokio::sync::Mutex<()>,
    pub(crate) witness: witness::Witness,
    pub(crate) signing: tokio::sync::Mutex<()>,
    pub(crate) validations: tokio::sync::Semaphore,
    pub(crate) hashing: tokio::sync::Semaphore,
    pub(crate) hash_turns: objects::RepoLocks,
    pub(crate) ingest_turns: Arc<tokio::sync::Semaphore>,
    pub(crate) remembered: weights::Remembered,
    pub(crate) conflicts: Arc<pulls::ConflictCache>,
    pub(crate) terms: Arc<tokio::sync::Semaphore>,
    pub(crate) pushes: places::Places,
    pub(crate) git_programs: places::Places,
    /// Short ones, which are not to wait for those that last.
    pub(crate) comparisons: Arc<tokio::sync::Semaphore>,
    pub(crate) git_greetings: places::Places,
    /// Long requests of fetches, which are kept in files.
    pub(crate) git_requests: places::Places,
    pub(crate) outbound: Outbound,
    pub(crate) walked: webhooks::Walked,
}

impl Config {
    /// The address under which somebody reached this hub, who named `host` in the request.
    ///
    /// What a stranger writes there is never repeated, but for one case: a hub without a
    /// `public_url` answers those who come by `localhost` or a bare IP address, and by our port,
    /// in the words that they used. Neither can lead anybody to a name that is not theirs.
    pub fn url_for_host(&self, host: Option<&str>) -> Option<String> {
        let host = host?;
        let (name, port) = host.rsplit_once(':').unwrap_or((host, "80"));
        let ours = self.local_port.is_some_and(|ours| port == ours.to_string());
        let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).map_or_else(
            || name.parse::<std::net::Ipv4Addr>().is_ok(),
            |name| name.parse::<std::net::Ipv6Addr>().is_ok(),
        );
        (ours && (bare || name.eq_ignore_ascii_case("localhost"))).then(|| format!("http://{host}"))
    }
}

impl Hub {
    /// The address of this hub as a caller knows it: links in answers start with it.
    pub fn url<'a>(&'a self, context: &'a Context) -> &'a str {
        context.origin().hub_url.as_deref().unwrap_or(&self.config.public_url)
    }

    pub fn new(parts: Parts) -> Self {
        let Parts { config, db, blobs, git, keys, clock } = parts;
        Self(Arc::new(Inner {
            journal: reads::Journal::new(config.data.join("journal")),
            witness: witness::Witness::new(config.data.join("checkpoints.txt")),
            pushes: places::Places::new(config.concurrent_pushes, push::SHARE),
            comparisons: Arc::new(tokio::sync::Semaphore::new(config.concurrent_comparisons)),
            git_programs: places::Places::new(config.git_processes, fetch::SHARE),
            git_greetings: places::Places::new(config.git_processes, fetch::SHARE),
            git_requests: places::Places::new(fetch::request::IN_FILES, fetch::SHARE),
            outbound: Outbound::new(
                Policy::new(config.webhook_allow.clone()),
                config.webhook_resolver.clone(),
            ),
            walked: webhooks::Walked::default(),
            config,
            db,
            blobs,
            git,
            keys,
            clock,
            last_uses: auth::LastUses::default(),
            locks: objects::RepoLocks::default(),
            fetches: objects::RepoLocks::default(),
            indexes: large::IndexCache::default(),
            flushing: tokio::sync::Mutex::new(()),
            signing: tokio::sync::Mutex::new(()),
            validations: tokio::sync::Semaphore::new(xet::CONCURRENT_VALIDATIONS),
            hashing: tokio::sync::Semaphore::new(xet::CONCURRENT_HASHES),
            hash_turns: objects::RepoLocks::default(),
            ingest_turns: Arc::new(tokio::sync::Semaphore::new(ingest::CONCURRENT_WORKERS)),
            remembered: weights::Remembered::default(),
            conflicts: Arc::default(),
            terms: Arc::new(tokio::sync::Semaphore::new(large::MAX_TERMS_IN_MEMORY)),
        }))
    }

    /// Reads and checks a card, without keeping it.
    pub fn read_card(
        &self,
        content: &str,
        kind: bastide_core::RepoKind,
    ) -> Result<bastide_inspect::card::Card, Problem> {
        if content.len() > bastide_core::limits::MAX_CARD_BYTES {
            return Err(Problem::TooLarge("a card has at most 2 MiB".into()));
        }
        Ok(bastide_inspect::card::read(content, kind))
    }

    pub fn clock(&self) -> &Clock {
        &self.clock
    }
}

impl std::ops::Deref for Hub {
    type Target = Inner;
    fn deref(&self) -> &Inner {
        &self.0
    }
}
