//! `bastide token`: create, list, revoke.

use std::process::ExitCode;

use bastide_core::{Name, TokenId, TokenRole};
use bastide_hub::tokens::{MAX_TOKEN_DAYS, TokenRequest, TokenRow};
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
    /// Create a token; it is printed once.
    Create {
        #[arg(long)]
        user: Name,
        /// read or write.
        #[arg(long)]
        role: TokenRole,
        #[arg(long, default_value = "made on the command line")]
        name: String,
        /// How long it lives, as in 90d.
        #[arg(long, value_parser = days)]
        expires: Option<i64>,
        #[arg(long)]
        json: bool,
    },
    /// List a user's tokens: never their text.
    List {
        #[arg(long)]
        user: Name,
        #[arg(long)]
        json: bool,
    },
    /// End a token at once.
    Revoke {
        #[arg(long)]
        user: Name,
        /// The token's id, as `list` shows it.
        id: TokenId,
        #[arg(long)]
        json: bool,
    },
}

fn days(text: &str) -> Result<i64, String> {
    let number = text.strip_suffix('d').unwrap_or(text).parse().ok();
    let days = number.filter(|days| (1..=MAX_TOKEN_DAYS).contains(days));
    days.ok_or_else(|| format!("a token lives 1 to {MAX_TOKEN_DAYS} days, as in 90d"))
}

pub async fn run(location: &Location, args: Args) -> anyhow::Result<ExitCode> {
    let (hub, context) = super::operator(location).await?;
    match args.command {
        Command::Create { user, role, name, expires, json } => {
            let owner = super::account(&hub, &context, &user).await?;
            let token =
                hub.create_token(&context, &owner, TokenRequest { name, role, days: expires }).await?;
            let mut value = token_json(&token.row);
            if let Some(value) = value.as_object_mut() {
                value.insert("token".into(), json!(token.text.as_str()));
            }
            output::print(json, &value, || {
                format!("This token is shown only now:\n\n    {}", token.text.as_str())
            })?;
        }
        Command::List { user, json } => {
            let tokens = hub.list_tokens(&super::account(&hub, &context, &user).await?).await?;
            output::print(json, &tokens.iter().map(token_json).collect(), || table(&tokens))?;
        }
        Command::Revoke { user, id, json } => {
            hub.revoke_token(&context, &super::account(&hub, &context, &user).await?, id).await?;
            output::print(json, &json!({ "id": id, "revoked": true }), || {
                format!("The token {id} is dead.")
            })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn token_json(token: &TokenRow) -> Value {
    json!({ "id": token.id, "user": token.user, "name": token.name, "role": token.role, "hint": token.hint,
        "createdAt": token.created_at, "expiresAt": token.expires_at, "revokedAt": token.revoked_at,
        "lastUsedAt": token.last_used_at })
}

fn table(tokens: &[TokenRow]) -> String {
    let date = |at: Option<bastide_core::Timestamp>| at.map(|at| at.to_string()).unwrap_or_default();
    let row = |token: &TokenRow| {
        vec![
            token.id.to_string(),
            token.name.clone(),
            token.role.to_string(),
            format!("...{}", token.hint),
            date(token.expires_at),
            date(token.revoked_at),
            date(token.last_used_at),
        ]
    };
    let rows: Vec<_> = tokens.iter().map(row).collect();
    output::table(&["id", "name", "role", "token", "expires", "revoked", "last used"], &rows)
}
