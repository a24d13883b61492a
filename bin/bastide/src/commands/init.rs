//! `bastide init`: a hub with its first admin and one token.

use std::process::ExitCode;

use bastide_core::{Name, TokenRole};
use bastide_hub::accounts::NewUser;
use bastide_hub::tokens::TokenRequest;
use bastide_ledger::context;
use serde_json::json;

use super::serve::indent;
use crate::config::{Location, ServeArgs, Settings};
use crate::{open, output};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// User name of the first admin.
    #[arg(long)]
    admin: Name,
    /// E-mail address of the first admin.
    #[arg(long)]
    email: String,
    /// Where the hub is or will be: the same as for `serve`.
    #[command(flatten)]
    serve: ServeArgs,
    #[arg(long)]
    json: bool,
}

pub async fn run(location: &Location, args: Args) -> anyhow::Result<ExitCode> {
    let mut settings = Settings::new(location, &args.serve)?;
    let running = open::running(&settings.hub.data);
    if let Some(url) = &running {
        settings.hub.public_url.clone_from(url);
    }
    let hub = open::or_create(&settings).await?;
    let context = context::operator(hub.clock());
    if !hub.is_empty().await? {
        anyhow::bail!(
            "this hub has users already: `bastide user add` adds one, `bastide token create` a token"
        );
    }
    let new = NewUser { name: args.admin.clone(), full_name: None, email: args.email, is_admin: true };
    hub.add_user(&context, &new).await?;
    let owner = super::account(&hub, &context, &args.admin).await?;
    let request = TokenRequest { name: "first token".into(), role: TokenRole::Write, days: None };
    let token = hub.create_token(&context, &owner, request).await?;
    let steps = super::steps(&settings)?;
    let url = &settings.hub.public_url;
    let value =
        json!({ "user": args.admin, "token": token.text.as_str(), "url": url, "running": running.is_some() });
    output::print(args.json, &value, || {
        let start = match running {
            Some(_) => format!("The hub is running at {url}."),
            None => format!("Start the hub, which will be at {url}:\n\n{}", indent(&steps.start())),
        };
        format!(
            "{name} is the first admin of this hub. {start}\n\nThen, wherever the clients are. The token is shown \
             only now:\n\n{}",
            indent(&steps.then(Some((args.admin.as_str(), token.text.as_str())))),
            name = args.admin,
        )
    })?;
    Ok(ExitCode::SUCCESS)
}
