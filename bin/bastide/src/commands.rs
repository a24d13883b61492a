//! The commands, one file each.

mod init;
mod ledger;
mod org;
mod serve;
mod store;
mod token;
mod user;

use std::process::ExitCode;

use bastide_core::Name;
use bastide_hub::Hub;
use bastide_hub::access::{Access, Admin, Namespace};
use bastide_ledger::context::{self, Context};
use clap::{Parser, Subcommand};

use crate::config::{Location, Settings};
use crate::open;

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
            Command::Ledger(args) => ledger::run(&self.location, args).await,
            Command::Gc(args) => store::gc(&self.location, args).await,
            Command::Fsck(args) => store::fsck(&self.location, args).await,
            Command::BenchSeed { owner, repos } => bench_seed(&self.location, &owner, repos).await,
            Command::CrashPoints => {
                println!("{}", bastide_hub::crash::POINTS.join("\n"));
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

async fn bench_seed(location: &Location, owner: &Name, repos: u64) -> anyhow::Result<ExitCode> {
    const BATCH: u64 = 5000;
    let (hub, context) = operator(location).await?;
    let owner = account(&hub, &context, owner).await?;
    for from in (0..repos).step_by(usize::try_from(BATCH)?) {
        hub.seed_repos(&context, &owner, from..repos.min(from + BATCH)).await?;
        eprint!("\r{from} of {repos}");
    }
    eprintln!("\r{repos} repositories");
    Ok(ExitCode::SUCCESS)
}

/// An existing hub and the operator, who is at its machine.
async fn operator(location: &Location) -> anyhow::Result<(Hub, Context)> {
    let hub = open::existing(&Settings::new(location, None)?).await?;
    let context = context::operator(hub.clock());
    Ok((hub, context))
}

async fn account(hub: &Hub, context: &Context, name: &Name) -> anyhow::Result<Access<Admin, Namespace>> {
    Ok(hub.access(context).namespace::<Admin>(name).await?)
}
