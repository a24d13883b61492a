//! Settings: flags over `BASTIDE_*` variables over `bastide.toml` in the data folder.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use bastide_core::Visibility;
use clap::Args;
use serde::Deserialize;

const DEFAULT_DATA: &str = "data";
const DEFAULT_LISTEN: &str = "127.0.0.1:7860";
const FILE_NAME: &str = "bastide.toml";

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
#[derive(Debug, Clone, Args)]
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

/// `bastide.toml`. Every key is optional.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Address and port to listen on.
    pub listen: Option<SocketAddr>,
    /// How clients reach this hub: scheme, host, port.
    pub public_url: Option<String>,
    /// Who sees a new repository when nobody says: public, internal or private.
    pub default_visibility: Option<Visibility>,
    /// PostgreSQL instead of SQLite.
    pub database: Option<String>,
    /// S3-compatible storage instead of a folder.
    pub storage: Option<String>,
    /// Days that read records are kept.
    pub read_record_days: Option<i64>,
    /// LFS uploads larger than this many bytes are offered in parts.
    pub lfs_multipart_bytes: Option<u64>,
    /// Seconds between a thing becoming garbage and its bytes being removed.
    pub gc_grace_seconds: Option<i64>,
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
}

/// The settings in their ready form.
#[derive(Debug, Clone)]
pub struct Settings {
    pub listen: SocketAddr,
    pub database: Option<String>,
    pub storage: Option<String>,
    pub hub: bastide_hub::Config,
}

impl Settings {
    pub fn new(location: &Location, serve: Option<&ServeArgs>) -> anyhow::Result<Self> {
        let file = File::load(&location.data)?;
        let listen = serve.and_then(|args| args.listen).or(file.listen);
        let listen = listen.map_or_else(|| DEFAULT_LISTEN.parse().context("default address"), Ok)?;
        let public_url = serve.and_then(|args| args.public_url.clone()).or(file.public_url);
        let public_url = check_url(&public_url.unwrap_or_else(|| format!("http://{listen}")))?;
        let mut hub = bastide_hub::Config::new(location.data.clone(), public_url);
        let visibility = serve.and_then(|args| args.default_visibility).or(file.default_visibility);
        hub.default_visibility = visibility.unwrap_or(hub.default_visibility);
        hub.read_record_days = file.read_record_days.unwrap_or(hub.read_record_days);
        hub.lfs_multipart_bytes = file.lfs_multipart_bytes.unwrap_or(hub.lfs_multipart_bytes);
        hub.gc_grace_seconds = file.gc_grace_seconds.unwrap_or(hub.gc_grace_seconds);
        Ok(Self {
            listen,
            database: location.database.clone().or(file.database),
            storage: location.storage.clone().or(file.storage),
            hub,
        })
    }
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
    fn an_unknown_key_is_an_error_not_a_silence() {
        assert!(toml::from_str::<File>("listn = '1'").is_err());
    }
}
