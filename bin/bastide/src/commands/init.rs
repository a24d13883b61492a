//! `bastide init`: a hub with its first admin and one token.

use std::process::ExitCode;

use bastide_core::{Name, TokenRole};
use bastide_hub::accounts::NewUser;
use bastide_hub::tokens::TokenRequest;
use bastide_ledger::context;
use serde_json::json;

use crate::config::{Location, Settings};
use crate::{open, output};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// User name of the first admin.
    #[arg(long)]
    admin: Name,
    /// E-mail address of the first admin.
    #[arg(long)]
    email: String,
    #[arg(long)]
    json: bool,
}

pub async fn run(location: &Location, args: Args) -> anyhow::Result<ExitCode> {
    let settings = Settings::new(location, None)?;
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
    let url = &settings.hub.public_url;
    let value = json!({ "user": args.admin, "token": token.text.as_str(), "url": url });
    output::print(args.json, &value, || {
        format!(
            "The hub is ready; {} is its first admin.\n\nThis write token is shown only now:\n\n    {}\n\n\
             Start the hub:     bastide serve --data {}\n\
             Then, elsewhere:   export HF_ENDPOINT={url}\n\
             {}hf auth login --token TOKEN",
            args.admin,
            token.text.as_str(),
            location.data.display(),
            " ".repeat(19),
        )
    });
    Ok(ExitCode::SUCCESS)
}
