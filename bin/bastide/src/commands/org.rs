//! `bastide org`: add, list, members.

use std::process::ExitCode;

use bastide_core::{Name, Role, Visibility};
use bastide_hub::access::Read;
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
    /// Add an organization; its owner becomes its first admin.
    Add {
        name: Name,
        #[arg(long)]
        owner: Name,
        #[arg(long)]
        json: bool,
    },
    /// Give a user a role in an organization: no_access, read, contributor, write, admin; or remove them.
    Member {
        org: Name,
        user: Name,
        /// The role, or `remove`.
        #[arg(value_parser = role_or_remove)]
        role: Standing,
        #[arg(long)]
        json: bool,
    },
    /// Who is in an organization.
    Members {
        org: Name,
        #[arg(long)]
        json: bool,
    },
    /// Who sees new repositories of an organization when nobody says.
    DefaultVisibility {
        org: Name,
        visibility: Visibility,
        #[arg(long)]
        json: bool,
    },
    /// List all organizations.
    List {
        #[arg(long)]
        json: bool,
    },
}

/// A role in an organization, or none any more.
#[derive(Debug, Clone, Copy)]
struct Standing(Option<Role>);

fn role_or_remove(text: &str) -> Result<Standing, bastide_core::Invalid> {
    if text == "remove" { Ok(Standing(None)) } else { text.parse().map(|role| Standing(Some(role))) }
}

pub async fn run(location: &Location, args: Args) -> anyhow::Result<ExitCode> {
    let (hub, context) = super::operator(location).await?;
    match args.command {
        Command::Add { name, owner, json } => {
            let owner = super::account(&hub, &context, &owner).await?;
            let id = hub.add_org(&context, &name, &owner).await?;
            let text = || format!("Added {name} with {} as its admin.", owner.namespace().name);
            output::print(json, &json!({ "id": id, "name": name }), text)?;
        }
        Command::Member { org, user, role, json } => {
            let Standing(role) = role;
            let org = super::account(&hub, &context, &org).await?;
            hub.set_member(&context, &org, &user, role).await?;
            let value = json!({ "org": org.namespace().name, "user": user, "role": role });
            output::print(json, &value, || {
                let role = role.map_or("no member any more", Role::as_str);
                format!("{user} in {}: {role}.", org.namespace().name)
            })?;
        }
        Command::Members { org, json } => {
            let org = hub.access(&context).namespace::<Read>(&org).await?;
            let members = hub.members(&org).await?;
            let rows = members.iter().map(|(user, role)| json!({ "user": user.name, "role": role }));
            output::print(json, &rows.collect(), || {
                let rows = members.iter().map(|(user, role)| vec![user.name.to_string(), role.to_string()]);
                output::table(&["user", "role"], &rows.collect::<Vec<_>>())
            })?;
        }
        Command::DefaultVisibility { org, visibility, json } => {
            let org = super::account(&hub, &context, &org).await?;
            hub.set_default_visibility(&context, &org, Some(visibility)).await?;
            let name = &org.namespace().name;
            let value = json!({ "org": name, "defaultVisibility": visibility });
            output::print(json, &value, || format!("New repositories of {name} are {visibility}."))?;
        }
        Command::List { json } => super::user::list(&hub.list_accounts(&context, true).await?, json)?,
    }
    Ok(ExitCode::SUCCESS)
}
