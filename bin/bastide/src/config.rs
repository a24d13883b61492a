//! Settings: flags over `BASTIDE_*` variables over `bastide.toml` in the data folder.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use bastide_core::Visibility;
use bastide_core::limits::MAX_FILE_BYTES;
use clap::Args;
use serde::Deserialize;

use crate::server::MAX_CONNECTIONS;

const DEFAULT_DATA: &str = "data";
const DEFAULT_LISTEN: &str = "127.0.0.1:7860";
const FILE_NAME: &str = "bastide.toml";

const READ_RECORD_DAYS: RangeInclusive<i64> = 1..=36_500;
/// Less than what the object stores of clients take as a part is a mistake in the unit.
const LFS_MULTIPART_BYTES: RangeInclusive<u64> = 5 * 1024 * 1024..=MAX_FILE_BYTES;
/// An upload takes a while between its bytes and its commit: a shorter grace would take the bytes
/// away under it.
const GC_GRACE_SECONDS: RangeInclusive<i64> = 3600..=365 * 86_400;
/// With less not even an empty repository fits: a mistake in the unit.
const QUOTA_BYTES: RangeInclusive<u64> = 1_000_000..=i64::MAX as u64;

const WEBHOOK_TRIGGERS: RangeInclusive<i64> = 1..=1_000_000;
const WEBHOOK_LOG_DAYS: RangeInclusive<i64> = 1..=3650;
/// A pack of less holds no ordinary commit; the largest file is more than any git takes.
const PUSH_BYTES: RangeInclusive<u64> = 1024 * 1024..=MAX_FILE_BYTES;
const CONCURRENT_PUSHES: RangeInclusive<usize> = 1..=64;
const CONCURRENT_COMPARISONS: RangeInclusive<usize> = 1..=64;

/// A browser or a client takes several at a time.
const CONNECTIONS: RangeInclusive<usize> = 16..=1_000_000;
const GIT_PROCESSES: RangeInclusive<usize> = 1..=10_000;

/// Where the hub's state is: every command takes these.
#[derive(Debug, Clone, Args)]
pub struct Location {
    /// Folder of the hub's state.
    #[arg(long, env = "BASTIDE_DATA", default_value = DEFAULT_DATA, global = true)]
    pub data: PathBuf,
    /// PostgreSQL instead of SQLite: postgres://user:password@host/database.
    #[arg(long, env = "BASTIDE_DATABASE", hide_env_values = true, global = true)]
    pub database: Option<String>,
    /// S3-compatible storage instead of a folder: s3://bucket/prefix?endpoint=URL&region=NAME; keys from
    /// AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
    #[arg(long, env = "BASTIDE_STORAGE", hide_env_values = true, global = true)]
    pub storage: Option<String>,
}

/// What `serve` takes besides.
#[derive(Debug, Clone, Default, Args)]
pub struct ServeArgs {
    /// Address and port to listen on [default: 127.0.0.1:7860].
    #[arg(long, env = "BASTIDE_LISTEN")]
    pub listen: Option<SocketAddr>,
    /// How clients reach this hub [default: http:// and the listening address].
    #[arg(long, env = "BASTIDE_PUBLIC_URL")]
    pub public_url: Option<String>,
    /// Who sees a new repository when nobody says: public, internal or private [default: internal].
    #[arg(long, env = "BASTIDE_DEFAULT_VISIBILITY")]
    pub default_visibility: Option<Visibility>,
}

/// `bastide.toml`. Every key is optional. Their comments are the manual: docs/operating.md has the
/// same words.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// address and port to listen on
    pub listen: Option<SocketAddr>,
    /// how clients reach the hub: scheme, host and port, no path; answers carry links under it
    pub public_url: Option<String>,
    /// who sees a new repository when nobody says: public, internal (any signed-in user) or private
    pub default_visibility: Option<Visibility>,
    /// PostgreSQL instead of SQLite: postgres://user:password@host/name
    pub database: Option<String>,
    /// S3-compatible storage instead of a folder: s3://bucket/prefix?endpoint=URL&region=NAME
    pub storage: Option<String>,
    /// days that read records are kept; at least 1
    pub read_record_days: Option<i64>,
    /// LFS uploads larger than this many bytes are offered in parts; at least 5242880 (5 MiB)
    pub lfs_multipart_bytes: Option<u64>,
    /// seconds between the steps of `gc`: how long what nothing points at can be taken up again; at least 3600
    pub gc_grace_seconds: Option<i64>,
    /// bytes that the repositories of a user may take together, where `bastide quota` has set nothing else
    pub quota_bytes_user: Option<u64>,
    /// the same for an organization
    pub quota_bytes_org: Option<u64>,
    /// bytes that somebody without the right to write may bring to one repository by pull requests
    pub proposal_bytes: Option<u64>,
    /// bytes that all of them together may bring to one repository
    pub proposal_bytes_repo: Option<u64>,
    /// the same for all repositories of one user or organization
    pub proposal_bytes_owner: Option<u64>,
    /// pull requests that somebody without the right to write may have open in one repository
    pub proposals_open: Option<u64>,
    /// pull requests that a user may open in a day where it has no right to write
    pub proposals_per_day: Option<u64>,
    /// programs of git that may serve clones and fetches at the same time; others wait, and get 503 after 30 s
    pub git_processes: Option<usize>,
    /// networks of the proxies in front of the hub: what they add to `X-Forwarded-For` is believed, like ["10.1.0.0/16"]
    pub trusted_proxies: Option<Vec<String>>,
    /// networks and hosts besides the public internet that webhooks may send to, like ["10.1.0.0/16", "ci.lab:8080"]
    pub webhook_allow: Option<Vec<String>>,
    /// events that one webhook sends in a day; at least 1
    pub webhook_daily_triggers: Option<i64>,
    /// days that the log of a webhook is kept; at least 1
    pub webhook_log_days: Option<i64>,
    /// largest pack of one `git push`, in bytes; at least 1048576 (1 MiB)
    pub max_push_bytes: Option<u64>,
    /// pushes with a pack that are worked at at the same time: each may take 2 GiB of memory; 1 to 64
    pub concurrent_pushes: Option<usize>,
    /// comparisons and blames that are worked out at the same time: each may keep a core busy; 1 to 64
    pub concurrent_comparisons: Option<usize>,
    /// connections at the same time, and at most half of the files that may be open; at least 16
    pub max_connections: Option<usize>,
}

impl File {
    pub fn load(data: &Path) -> anyhow::Result<Self> {
        let path = data.join(FILE_NAME);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
                bail!("{} is not a folder: name another with --data", data.display())
            }
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        toml::from_str(&text).with_context(|| format!("{} is not valid", path.display()))
    }

    fn apply_numbers(&self, hub: &mut bastide_hub::Config) -> anyhow::Result<()> {
        if let Some(days) = self.read_record_days {
            hub.read_record_days = in_range("read_record_days", days, &READ_RECORD_DAYS)?;
        }
        if let Some(bytes) = self.lfs_multipart_bytes {
            hub.lfs_multipart_bytes = in_range("lfs_multipart_bytes", bytes, &LFS_MULTIPART_BYTES)?;
        }
        if let Some(seconds) = self.gc_grace_seconds {
            hub.gc_grace_seconds = in_range("gc_grace_seconds", seconds, &GC_GRACE_SECONDS)?;
        }
        if let Some(bytes) = self.max_push_bytes {
            hub.max_push_bytes = in_range("max_push_bytes", bytes, &PUSH_BYTES)?;
        }
        if let Some(pushes) = self.concurrent_pushes {
            hub.concurrent_pushes = in_range("concurrent_pushes", pushes, &CONCURRENT_PUSHES)?;
        }
        if let Some(comparisons) = self.concurrent_comparisons {
            hub.concurrent_comparisons =
                in_range("concurrent_comparisons", comparisons, &CONCURRENT_COMPARISONS)?;
        }
        let quota =
            |key, bytes: Option<u64>| bytes.map(|bytes| in_range(key, bytes, &QUOTA_BYTES)).transpose();
        hub.quota_bytes_user = quota("quota_bytes_user", self.quota_bytes_user)?;
        hub.quota_bytes_org = quota("quota_bytes_org", self.quota_bytes_org)?;
        // None at all is a choice, too.
        hub.proposal_bytes = self.proposal_bytes.unwrap_or(hub.proposal_bytes);
        hub.proposal_bytes_repo = self.proposal_bytes_repo.unwrap_or(hub.proposal_bytes_repo);
        hub.proposal_bytes_owner = self.proposal_bytes_owner.unwrap_or(hub.proposal_bytes_owner);
        if let Some(processes) = self.git_processes {
            hub.git_processes = in_range("git_processes", processes, &GIT_PROCESSES)?;
        }
        hub.proposals_open = self.proposals_open.unwrap_or(hub.proposals_open);
        hub.proposals_per_day = self.proposals_per_day.unwrap_or(hub.proposals_per_day);
        if let Some(triggers) = self.webhook_daily_triggers {
            hub.webhook_daily_triggers = in_range("webhook_daily_triggers", triggers, &WEBHOOK_TRIGGERS)?;
        }
        if let Some(days) = self.webhook_log_days {
            hub.webhook_log_days = in_range("webhook_log_days", days, &WEBHOOK_LOG_DAYS)?;
        }
        Ok(())
    }

    fn trusted_proxies(&self) -> anyhow::Result<Vec<bastide_core::network::Network>> {
        let entries = self.trusted_proxies.as_deref().unwrap_or_default().iter();
        entries.map(|text| text.parse().context("trusted_proxies")).collect()
    }

    fn webhook_allow(&self) -> anyhow::Result<Vec<bastide_hub::Allowed>> {
        let entries = self.webhook_allow.as_deref().unwrap_or_default().iter();
        let parse = |text: &String| bastide_hub::Allowed::parse(text).context("webhook_allow");
        entries.map(parse).collect()
    }
}

/// The settings in their ready form.
#[derive(Debug, Clone)]
pub struct Settings {
    pub listen: SocketAddr,
    pub database: Option<String>,
    pub storage: Option<String>,
    pub hub: bastide_hub::Config,
    pub max_connections: usize,
    pub given: Given,
}

/// Which settings came from flags or variables: another process has to be given them, too.
#[derive(Debug, Clone, Copy)]
pub struct Given {
    pub listen: bool,
    pub public_url: bool,
    pub database: bool,
    pub storage: bool,
}

impl Settings {
    pub fn new(location: &Location, serve: &ServeArgs) -> anyhow::Result<Self> {
        let file = File::load(&location.data)?;
        let given = Given {
            listen: serve.listen.is_some(),
            public_url: serve.public_url.is_some(),
            database: location.database.is_some(),
            storage: location.storage.is_some(),
        };
        let listen = serve.listen.or(file.listen);
        let listen = listen.map_or_else(|| DEFAULT_LISTEN.parse().context("default address"), Ok)?;
        let public_url = serve.public_url.as_ref().or(file.public_url.as_ref());
        let local_port = public_url.is_none().then(|| listen.port());
        let public_url = public_url.cloned().unwrap_or_else(|| local_url(listen));
        let mut hub = bastide_hub::Config::new(location.data.clone(), check_url(&public_url)?);
        hub.local_port = local_port;
        hub.default_visibility =
            serve.default_visibility.or(file.default_visibility).unwrap_or(hub.default_visibility);
        file.apply_numbers(&mut hub)?;
        hub.webhook_allow = file.webhook_allow()?;
        hub.trusted_proxies = file.trusted_proxies()?;
        let database = location.database.clone().or(file.database);
        check_scheme("database", database.as_deref(), &["postgres://", "postgresql://"])?;
        let storage = location.storage.clone().or(file.storage);
        check_scheme("storage", storage.as_deref(), &["s3://"])?;
        let max_connections = file.max_connections.unwrap_or(MAX_CONNECTIONS);
        let max_connections = in_range("max_connections", max_connections, &CONNECTIONS)?;
        Ok(Self { listen, database, storage, hub, max_connections, given })
    }
}

/// How this machine reaches a hub that listens there: on every address is on the local one too.
fn local_url(listen: SocketAddr) -> String {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, listen.port()))
}

/// A number that would do harm is refused at the start.
fn in_range<N: PartialOrd + std::fmt::Display>(
    key: &str,
    value: N,
    range: &RangeInclusive<N>,
) -> anyhow::Result<N> {
    ensure!(
        range.contains(&value),
        "{key} is {value}, but has to be from {} to {}: change it in {FILE_NAME}",
        range.start(),
        range.end()
    );
    Ok(value)
}

/// The address itself is not shown: it can hold a password.
fn check_scheme(key: &str, url: Option<&str>, schemes: &[&str]) -> anyhow::Result<()> {
    let good = url.is_none_or(|url| schemes.iter().any(|scheme| url.starts_with(scheme)));
    ensure!(good, "{key} has to begin with {}", schemes.join(" or "));
    Ok(())
}

/// Scheme, host and port only: clients break on a path.
fn check_url(url: &str) -> anyhow::Result<String> {
    let url = url.trim_end_matches('/');
    let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    match host {
        Some(host) if !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ']) => Ok(url.to_owned()),
        _ => bail!("public_url is '{url}', but it has to be like https://hub.example.org, without a path"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_urls_have_no_path() {
        assert_eq!(check_url("https://hub.example.org/").unwrap(), "https://hub.example.org");
        assert_eq!(check_url("http://localhost:7860").unwrap(), "http://localhost:7860");
        for bad in ["hub.example.org", "https://x/y", "ftp://x", "http://", "https://u@x"] {
            assert!(check_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_address_is_no_address_to_reach() {
        for (listen, url) in [
            ("0.0.0.0:7860", "http://127.0.0.1:7860"),
            ("[::]:80", "http://[::1]:80"),
            ("10.0.0.7:7860", "http://10.0.0.7:7860"),
        ] {
            assert_eq!(local_url(listen.parse().unwrap()), url);
        }
    }

    #[test]
    fn an_unknown_key_is_an_error_not_a_silence() {
        assert!(toml::from_str::<File>("listn = '1'").is_err());
    }

    fn settings(text: &str) -> anyhow::Result<Settings> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE_NAME), text).unwrap();
        let location = Location { data: folder.path().to_owned(), database: None, storage: None };
        Settings::new(&location, &ServeArgs::default())
    }

    #[test]
    fn numbers_have_edges() {
        for (good, bad) in [
            ("read_record_days = 1", "read_record_days = 0"),
            ("read_record_days = 36500", "read_record_days = 36501"),
            ("lfs_multipart_bytes = 5242880", "lfs_multipart_bytes = 5242879"),
            ("gc_grace_seconds = 3600", "gc_grace_seconds = 3599"),
            ("max_connections = 16", "max_connections = 15"),
            ("webhook_daily_triggers = 1", "webhook_daily_triggers = 0"),
            ("webhook_log_days = 3650", "webhook_log_days = 3651"),
            ("quota_bytes_user = 1000000", "quota_bytes_user = 999999"),
            ("quota_bytes_org = 1000000", "quota_bytes_org = 0"),
            ("gc_grace_seconds = 31536000", "gc_grace_seconds = 31536001"),
        ] {
            assert!(settings(good).is_ok(), "{good}");
            let error = settings(bad).unwrap_err().to_string();
            let (key, value) = bad.split_once(" = ").unwrap();
            assert!(error.starts_with(&format!("{key} is {value}, but has to be from ")), "{error}");
        }
    }

    #[test]
    fn comparisons_at_the_same_time_have_their_range() {
        for good in [1, 64] {
            let found = settings(&format!("concurrent_comparisons = {good}")).unwrap();
            assert_eq!(found.hub.concurrent_comparisons, good);
        }
        for bad in [0, 65] {
            let error = format!("{:#}", settings(&format!("concurrent_comparisons = {bad}")).unwrap_err());
            assert!(error.contains("concurrent_comparisons"), "{error}");
        }
    }

    #[test]
    fn what_webhooks_may_reach_is_parsed_at_the_start() {
        let good = settings("webhook_allow = ['10.1.0.0/16', 'ci.lab:8080', '[::1]:80']").unwrap();
        assert_eq!(good.hub.webhook_allow.len(), 3);
        let good = settings("trusted_proxies = ['127.0.0.1', 'fd00::/8']").unwrap();
        assert_eq!(good.hub.trusted_proxies.len(), 2);
        let error = format!("{:#}", settings("trusted_proxies = ['proxy.lab']").unwrap_err());
        assert!(error.starts_with("trusted_proxies: 'proxy.lab' is no network"), "{error}");
        let error = format!("{:#}", settings("webhook_allow = ['10.1.0.0/99']").unwrap_err());
        assert!(error.starts_with("webhook_allow: '10.1.0.0/99' is neither"), "{error}");
    }

    #[test]
    fn addresses_of_stores_are_checked_and_not_shown() {
        for (text, cure) in [
            ("database = 'mysql://ann:pass@x/y'", "database has to begin with postgres://"),
            ("storage = 'https://ann:pass@x'", "storage has to begin with s3://"),
        ] {
            let error = format!("{:#}", settings(text).unwrap_err());
            assert!(error.contains(cure) && !error.contains("pass"), "{error}");
        }
    }

    /// The comments of `File` and the table in docs/operating.md are one text, and every variable
    /// that a command reads is in the table.
    #[test]
    fn the_manual_has_every_setting() {
        let manual = include_str!("../../../docs/operating.md");
        let source = include_str!("config.rs");
        let body = source.split("pub struct File {").nth(1).unwrap().split("\n}").next().unwrap();
        let lines: Vec<&str> = body.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        assert_eq!(lines.len(), 48, "one line of comment for each key");
        for pair in lines.chunks(2) {
            let (comment, key) = (pair[0].trim_start_matches("/// "), pair[1].trim_start_matches("pub "));
            let row = format!("| `{}` |", key.split(':').next().unwrap());
            let row = manual.lines().find(|line| line.starts_with(&row)).unwrap_or_else(|| panic!("{row}"));
            assert!(row.ends_with(&format!(" | {comment} |")), "{row} is not '{comment}'");
        }
        let command = <crate::commands::Cli as clap::CommandFactory>::command();
        let arguments = command.get_subcommands().flat_map(clap::Command::get_arguments);
        for argument in arguments.chain(command.get_arguments()) {
            if let Some(variable) = argument.get_env() {
                assert!(manual.contains(&format!("`{}`", variable.display())), "{variable:?}");
            }
        }
    }
}
