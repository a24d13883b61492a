//! Access tokens: made, shown once, listed, revoked.
//!
//! A token is `hf_` and 34 letters, the last six of them a CRC-32 of the first 28. So the
//! patterns that secret scanners have find it, and noise is told from a token without a look
//! into the database.

use bastide_core::limits::TOKEN_DEFAULT_DAYS;
use bastide_core::{TokenId, TokenRole};
use bastide_ledger::Context;
use bastide_ledger::{Action, NewEvent};
pub use bastide_store::accounts::TokenRow;
use bastide_store::accounts::{self, NewToken};
use bastide_store::permit::Namespace;

use crate::access::{Access, Admin};
use crate::{Hub, Problem};

const PREFIX: &str = "hf_";
const LETTERS: &[u8; 52] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const RANDOM_LETTERS: usize = 28;
const CHECK_LETTERS: usize = 6;
const HINT_LETTERS: usize = 4;
/// Longest name of a token.
pub const MAX_TOKEN_NAME: usize = 100;
/// Longest life that can be asked for, in days.
pub const MAX_TOKEN_DAYS: i64 = 3650;

/// The text of a token. Not printed by accident: no `Display`, no `Debug` of the value, no copy.
pub struct TokenText(String);

impl std::fmt::Debug for TokenText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenText(..)")
    }
}

impl TokenText {
    fn generate() -> Result<Self, Problem> {
        let mut body = String::with_capacity(RANDOM_LETTERS);
        while body.len() < RANDOM_LETTERS {
            let mut random = [0; 64];
            getrandom::fill(&mut random).map_err(Problem::internal)?;
            // Bytes from 208 = 4 x 52 on would favour some letters.
            let letters =
                random.iter().filter(|byte| **byte < 208).filter_map(|byte| letter(usize::from(*byte)));
            body.extend(letters.take(RANDOM_LETTERS - body.len()));
        }
        let check = checksum(&body);
        Ok(Self(format!("{PREFIX}{body}{check}")))
    }

    /// `None` when the text cannot be a token of ours.
    pub fn parse(text: &str) -> Option<Self> {
        let letters = text.strip_prefix(PREFIX)?;
        if letters.len() != RANDOM_LETTERS + CHECK_LETTERS
            || !letters.bytes().all(|b| b.is_ascii_alphabetic())
        {
            return None;
        }
        let (body, check) = letters.split_at_checked(RANDOM_LETTERS)?;
        (checksum(body) == check).then(|| Self(text.to_owned()))
    }

    /// The value, for hashing and for showing it this once.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn hint(&self) -> &str {
        self.0.get(self.0.len() - HINT_LETTERS..).unwrap_or_default()
    }
}

fn letter(number: usize) -> Option<char> {
    LETTERS.get(number % LETTERS.len()).map(|byte| char::from(*byte))
}

/// CRC-32 (IEEE) in base 52, most significant letter first.
fn checksum(body: &str) -> String {
    let mut rest = crc32fast::hash(body.as_bytes()) as usize;
    let mut letters = Vec::with_capacity(CHECK_LETTERS);
    for _ in 0..CHECK_LETTERS {
        letters.extend(letter(rest));
        rest /= LETTERS.len();
    }
    letters.iter().rev().collect()
}

#[derive(Debug, Clone)]
pub struct TokenRequest {
    pub name: String,
    pub role: TokenRole,
    /// Days until it ends; `None` for the default.
    pub days: Option<i64>,
}

/// A new token: the only moment at which its text exists outside its owner's hands.
#[derive(Debug)]
pub struct CreatedToken {
    pub id: TokenId,
    pub text: TokenText,
    pub row: TokenRow,
}

impl Hub {
    pub async fn create_token(
        &self,
        context: &Context,
        owner: &Access<Admin, Namespace>,
        request: TokenRequest,
    ) -> Result<CreatedToken, Problem> {
        let expires_at = Some(context.now().plus_days(token_days(&request)?));
        if owner.namespace().is_organization {
            return Err(Problem::Invalid("tokens belong to users, not to organizations".into()));
        }
        let (id, text) = (TokenId::new(context.now()), TokenText::generate()?);
        let new = NewToken {
            id,
            name: &request.name,
            role: request.role,
            hash: self.keys.token_hash(text.as_str()),
            hint: text.hint(),
            created_at: context.now(),
            expires_at,
        };
        let mut tx = self.write_in(context, owner).await?;
        accounts::add_token(&mut tx, owner, &new).await?;
        let row = accounts::token_of(&mut tx, owner, id).await?;
        let row = row.ok_or_else(|| Problem::internal("the token that was just made is gone"))?;
        let event = NewEvent::new(context, Action::TokenCreate)
            .subject("token", Some(id.as_i64()), &request.name)
            .fact("user", owner.namespace().name.as_str())
            .fact("role", request.role.as_str())
            .fact("expires_at", expires_at.map(|at| at.to_string()).unwrap_or_default());
        tx.commit(event).await?;
        Ok(CreatedToken { id, text, row })
    }

    pub async fn list_tokens(&self, owner: &Access<Admin, Namespace>) -> Result<Vec<TokenRow>, Problem> {
        Ok(accounts::tokens_of(&mut self.db.read().await?, owner).await?)
    }

    /// Ends a token at once. When this returns, no request that shows it succeeds, and none that
    /// began before changes anything or reads on for more than a moment.
    pub async fn revoke_token(
        &self,
        context: &Context,
        owner: &Access<Admin, Namespace>,
        id: TokenId,
    ) -> Result<(), Problem> {
        let mut tx = self.write_in(context, owner).await?;
        if !accounts::revoke_token(&mut tx, owner, id, context.now()).await? {
            return Err(Problem::NotFound(format!(
                "{} has no live token with the id {id}",
                owner.namespace().name
            )));
        }
        crate::webhooks::end_with_token(&mut tx, context, owner, id).await?;
        let row = accounts::token_of(&mut tx, owner, id).await?;
        let event = NewEvent::new(context, Action::TokenRevoke)
            .subject("token", Some(id.as_i64()), row.as_ref().map_or("", |row| row.name.as_str()))
            .fact("user", owner.namespace().name.as_str());
        Ok(tx.commit(event).await?)
    }
}

fn token_days(request: &TokenRequest) -> Result<i64, Problem> {
    if request.name.is_empty() || request.name.chars().count() > MAX_TOKEN_NAME {
        return Err(Problem::Invalid(format!("a token's name has 1 to {MAX_TOKEN_NAME} characters")));
    }
    if request.name.chars().any(char::is_control) {
        return Err(Problem::Invalid("a token's name has no control characters".into()));
    }
    let days = request.days.unwrap_or(TOKEN_DEFAULT_DAYS);
    if !(1..=MAX_TOKEN_DAYS).contains(&days) {
        return Err(Problem::Invalid(format!("a token lives 1 to {MAX_TOKEN_DAYS} days")));
    }
    Ok(days)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_the_form_that_scanners_know_and_check_themselves() {
        let token = TokenText::generate().unwrap();
        assert_eq!(token.as_str().len(), 37);
        assert!(TokenText::parse(token.as_str()).is_some());
        let mut other = token.as_str().to_owned();
        let last = if other.pop() == Some('a') { 'b' } else { 'a' };
        other.push(last);
        assert!(TokenText::parse(&other).is_none());
        assert!(TokenText::parse("hf_").is_none());
        assert!(TokenText::parse(&token.as_str()[1..]).is_none());
        assert_eq!(format!("{token:?}"), "TokenText(..)");
    }
}
