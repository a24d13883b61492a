//! The commands, one file each.

mod init;
mod ledger;
mod org;
mod quota;
mod serve;
mod store;
mod token;
mod user;

use std::path::Path;
use std::process::ExitCode;

use bastide_core::Name;
use bastide_hub::Hub;
use bastide_hub::access::{Access, Admin, Namespace};
use bastide_ledger::context::{self, Context};
use bastide_web::Steps;
use clap::{Parser, Subcommand};

use crate::config::{Location, ServeArgs, Settings};
use crate::{open, output};

/// A hub for models, data sets and AI apps that keeps secrets and says who read what.
#[derive(Debug, Parser)]
#[command(name = "bastide", version)]
pub struct Cli {
    #[command(flatten)]
    location: Location,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the hub.
    Serve(serve::Args),
    /// Make a hub with its first admin, and print one write token, once.
    Init(init::Args),
    /// Add, list and disable users.
    User(user::Args),
    /// Add and list organizations, and set who is in them.
    Org(org::Args),
    /// Create, list and revoke access tokens.
    Token(token::Args),
    /// Set, show and list how much users, organizations and repositories may store.
    Quota(quota::Args),
    /// Check, export and sign the ledger of everything that happened.
    Ledger(ledger::Args),
    /// Remove what nothing refers to any more, in two phases with grace.
    Gc(store::GcArgs),
    /// Check everything that is stored, and name what is wrong.
    Fsck(store::FsckArgs),
    /// Add many repositories without content, to measure with.
    #[command(hide = true)]
    BenchSeed {
        #[arg(long)]
        owner: Name,
        #[arg(long)]
        repos: u64,
    },
    /// Names of the points at which BASTIDE_CRASH_AT makes the hub die, for tests.
    #[command(hide = true)]
    CrashPoints,
}

impl Cli {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Serve(args) => serve::run(&self.location, args).await,
            Command::Init(args) => init::run(&self.location, args).await,
            Command::User(args) => user::run(&self.location, args).await,
            Command::Org(args) => org::run(&self.location, args).await,
            Command::Token(args) => token::run(&self.location, args).await,
            Command::Quota(args) => quota::run(&self.location, args).await,
            Command::Ledger(args) => ledger::run(&self.location, args).await,
            Command::Gc(args) => store::gc(&self.location, args).await,
            Command::Fsck(args) => store::fsck(&self.location, args).await,
            Command::BenchSeed { owner, repos } => bench_seed(&self.location, &owner, repos).await,
            Command::CrashPoints => {
                output::line(&bastide_hub::crash::POINTS.join("\n"))?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

async fn bench_seed(location: &Location, owner: &Name, repos: u64) -> anyhow::Result<ExitCode> {
    const BATCH: u64 = 5000;
    let (hub, context) = operator(location).await?;
    let owner = account(&hub, &context, owner).await?;
    let progress = output::Progress::new();
    for from in (0..repos).step_by(usize::try_from(BATCH)?) {
        hub.seed_repos(&context, &owner, from..repos.min(from + BATCH)).await?;
        progress.show("repositories", from, repos);
    }
    Ok(ExitCode::SUCCESS)
}

/// An existing hub and the operator, who is at its machine.
async fn operator(location: &Location) -> anyhow::Result<(Hub, Context)> {
    let hub = open::existing(&Settings::new(location, &ServeArgs::default())?).await?;
    let context = context::operator(hub.clock());
    Ok((hub, context))
}

async fn account(hub: &Hub, context: &Context, name: &Name) -> anyhow::Result<Access<Admin, Namespace>> {
    Ok(hub.access(context).namespace::<Admin>(name).await?)
}

/// What to type next, in a form that works wherever it is pasted on this machine.
fn steps(settings: &Settings) -> anyhow::Result<Steps> {
    let program = std::env::current_exe()?;
    let data = std::path::absolute(&settings.hub.data)?;
    let mut place = format!("--data {}", quoted(&data));
    // Their values can hold a password: the shell puts them in.
    for (given, flag, variable) in [
        (settings.given.database, "--database", "BASTIDE_DATABASE"),
        (settings.given.storage, "--storage", "BASTIDE_STORAGE"),
    ] {
        if given {
            place += &format!(" {flag} \"${variable}\"");
        }
    }
    let mut serve = String::new();
    if settings.given.listen {
        serve += &format!(" --listen {}", settings.listen);
    }
    if settings.given.public_url {
        serve += &format!(" --public-url {}", settings.hub.public_url);
    }
    Ok(Steps { url: settings.hub.public_url.clone(), program: quoted(&program), place, serve })
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_survive_the_shell() {
        assert_eq!(quoted(Path::new("/srv/a-b_1.x")), "/srv/a-b_1.x");
        assert_eq!(quoted(Path::new("/srv/ann's hub")), "'/srv/ann'\\''s hub'");
    }
}
