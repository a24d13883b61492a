//! `bastide user`: add, list, disable.

use std::process::ExitCode;

use bastide_core::Name;
use bastide_hub::accounts::NewUser;
use clap::Subcommand;
use serde_json::json;

use crate::config::Location;
use crate::output;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Add a user.
    Add {
        name: Name,
        #[arg(long)]
        email: String,
        #[arg(long)]
        full_name: Option<String>,
        /// May administer the hub itself.
        #[arg(long)]
        admin: bool,
        #[arg(long)]
        json: bool,
    },
    /// List all users.
    List {
        #[arg(long)]
        json: bool,
    },
    /// Disable a user: every token of theirs is dead at once.
    Disable {
        name: Name,
        #[arg(long)]
        json: bool,
    },
}

pub async fn run(location: &Location, args: Args) -> anyhow::Result<ExitCode> {
    let (hub, context) = super::operator(location).await?;
    match args.command {
        Command::Add { name, email, full_name, admin, json } => {
            let new = NewUser { name: name.clone(), full_name, email, is_admin: admin };
            let id = hub.add_user(&context, &new).await?;
            output::print(json, &json!({ "id": id, "name": name }), || {
                format!("Added {name}. Give them a token: bastide token create --user {name} --role write")
            })?;
        }
        Command::List { json } => list(&hub.list_accounts(&context, false).await?, json)?,
        Command::Disable { name, json } => {
            hub.disable_user(&context, &super::account(&hub, &context, &name).await?).await?;
            output::print(json, &json!({ "name": name, "disabled": true }), || {
                format!("{name} is disabled.")
            })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Users or organisations, as rows.
pub fn list(accounts: &[bastide_hub::accounts::Account], json: bool) -> std::io::Result<()> {
    let rows = accounts.iter().map(|account| {
        json!({ "id": account.id, "name": account.name, "fullName": account.full_name, "email": account.email,
            "admin": account.is_admin, "createdAt": account.created_at, "disabledAt": account.disabled_at })
    });
    output::print(json, &rows.collect(), || {
        let row = |account: &bastide_hub::accounts::Account| {
            let state = if account.disabled_at.is_some() { "disabled" } else { "active" };
            let email = account.email.clone().unwrap_or_default();
            vec![account.name.to_string(), email, account.created_at.to_string(), state.to_owned()]
        };
        output::table(&["name", "email", "created", "state"], &accounts.iter().map(row).collect::<Vec<_>>())
    })
}
