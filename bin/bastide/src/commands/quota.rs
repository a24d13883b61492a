//! `bastide quota`: how much users, organizations and repositories may store.

use std::process::ExitCode;
use std::str::FromStr;

use bastide_core::{Invalid, Name, RepoKind, RepoPath};
use bastide_hub::access::Admin;
use bastide_hub::storage::{NamespaceUsage, Quota, Used, parse_size, size};
use bastide_hub::{Context, Hub};
use clap::Subcommand;
use serde_json::{Value, json};

use crate::config::Location;
use crate::output;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Set how much a user, an organization (NAME) or a repository (NAME/REPO, datasets/NAME/REPO) may store.
    Set {
        of: Holder,
        /// A size like 100GB, 1.5TB or 10MiB; or `none` for no limit, whatever the settings say.
        #[arg(value_parser = limit)]
        limit: Quota,
        #[arg(long)]
        json: bool,
    },
    /// What somebody stores, and how much they may.
    Show {
        of: Holder,
        #[arg(long)]
        json: bool,
    },
    /// Take a quota back: the settings decide again.
    Clear {
        of: Holder,
        #[arg(long)]
        json: bool,
    },
    /// What every user and organization stores, the largest first.
    List {
        #[arg(long)]
        json: bool,
    },
}

/// Whose quota it is.
#[derive(Debug, Clone)]
enum Holder {
    Namespace(Name),
    Repo(RepoPath),
}

impl FromStr for Holder {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if !text.contains('/') {
            return text.parse().map(Self::Namespace);
        }
        let (first, rest) = text.split_once('/').unwrap_or((text, ""));
        match RepoKind::from_plural(first) {
            Some(kind) if rest.contains('/') => RepoPath::parse(kind, rest),
            _ => RepoPath::parse(RepoKind::Model, text),
        }
        .map(Self::Repo)
    }
}

fn limit(text: &str) -> Result<Quota, Invalid> {
    if text == "none" { Ok(Quota::Unlimited) } else { parse_size(text).map(Quota::Bytes) }
}

/// What is shown of a quota.
struct Shown {
    name: String,
    used: Used,
    limit: Option<u64>,
    quota: Quota,
}

impl Shown {
    fn of_namespace(hub: &Hub, usage: NamespaceUsage) -> Self {
        let limit = hub.limit_of(usage.quota, usage.is_organization);
        Self { name: usage.name, used: usage.used, limit, quota: usage.quota }
    }

    fn json(&self) -> Value {
        let source = if self.quota == Quota::Default { "settings" } else { "operator" };
        json!({ "name": self.name, "usedBytes": self.used.owned(), "proposedBytes": self.used.proposed,
            "quotaBytes": self.limit, "setBy": source })
    }

    fn limit_text(&self) -> String {
        let limit = self.limit.map_or_else(|| "none".to_owned(), size);
        if self.quota == Quota::Default { format!("{limit} (by the settings)") } else { limit }
    }

    fn text(&self) -> String {
        let proposed = match self.used.proposed {
            0 => String::new(),
            bytes => format!(" (and {} that are proposed to it, which do not count)", size(bytes)),
        };
        format!(
            "{} stores {}{proposed}; its quota is {}.",
            self.name,
            size(self.used.owned()),
            self.limit_text()
        )
    }
}

pub async fn run(location: &Location, args: Args) -> anyhow::Result<ExitCode> {
    let (hub, context) = super::operator(location).await?;
    match args.command {
        Command::Set { of, limit, json } => set(&hub, &context, &of, limit, json).await?,
        Command::Clear { of, json } => set(&hub, &context, &of, Quota::Default, json).await?,
        Command::Show { of, json } => {
            let shown = show(&hub, &context, &of).await?;
            output::print(json, &shown.json(), || shown.text())?;
        }
        Command::List { json } => {
            let all = hub.all_usage(&context).await?;
            let all: Vec<Shown> = all.into_iter().map(|usage| Shown::of_namespace(&hub, usage)).collect();
            output::print(json, &all.iter().map(Shown::json).collect(), || {
                let row = |shown: &Shown| {
                    let used = shown.used;
                    vec![shown.name.clone(), size(used.owned()), size(used.proposed), shown.limit_text()]
                };
                output::table(
                    &["name", "stores", "proposed to it", "quota"],
                    &all.iter().map(row).collect::<Vec<_>>(),
                )
            })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn set(hub: &Hub, context: &Context, of: &Holder, quota: Quota, json: bool) -> anyhow::Result<()> {
    match of {
        Holder::Namespace(name) => {
            let access = super::account(hub, context, name).await?;
            hub.set_namespace_quota(context, &access, quota).await?;
        }
        Holder::Repo(path) => {
            let access = hub.access(context).repo::<Admin>(path).await?;
            hub.set_repo_quota(context, &access, quota).await?;
        }
    }
    let shown = show(hub, context, of).await?;
    Ok(output::print(json, &shown.json(), || shown.text())?)
}

async fn show(hub: &Hub, context: &Context, of: &Holder) -> anyhow::Result<Shown> {
    match of {
        Holder::Namespace(name) => {
            let access = super::account(hub, context, name).await?;
            Ok(Shown::of_namespace(hub, hub.namespace_usage(&access.lower()).await?))
        }
        Holder::Repo(path) => {
            let access = hub.access(context).repo::<Admin>(path).await?;
            let usage = hub.usage(&access).await?;
            let limit = match usage.repo_quota {
                Quota::Bytes(bytes) => Some(bytes),
                Quota::Default | Quota::Unlimited => None,
            };
            let name = access.repo().path.to_string();
            Ok(Shown { name, used: usage.repo, limit, quota: usage.repo_quota })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_three_kinds() {
        let shown = |text: &str| match text.parse::<Holder>().unwrap() {
            Holder::Namespace(name) => format!("namespace {name}"),
            Holder::Repo(path) => path.to_string(),
        };
        assert_eq!(shown("ann"), "namespace ann");
        assert_eq!(shown("ann/m"), "models/ann/m");
        assert_eq!(shown("datasets/ann/d"), "datasets/ann/d");
        assert_eq!(shown("spaces/ann/s"), "spaces/ann/s");
        for bad in ["", "a b", "x/y/z", "datasets/ann/d/e"] {
            assert!(bad.parse::<Holder>().is_err(), "{bad}");
        }
        assert_eq!(limit("none").unwrap(), Quota::Unlimited);
        assert_eq!(limit("1.5GB").unwrap(), Quota::Bytes(1_500_000_000));
        assert!(limit("much").is_err());
    }
}
