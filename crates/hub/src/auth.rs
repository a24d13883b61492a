//! Credentials: from the text that a caller shows to a `Context`. Checked against the database
//! at every use, never cached: a revoked token is dead at its next request.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bastide_core::{Actor, Credential, Timestamp, TokenId};
use bastide_ledger::context::{self, Context, Origin};
use bastide_store::gate::{self, TokenFacts};

use crate::tokens::TokenText;
use crate::{Hub, Problem};

/// A token's last use is kept to this precision.
const LAST_USE_PRECISION_MS: i64 = 60_000;

/// Last uses of tokens that are still to be written down.
#[derive(Default)]
pub(crate) struct LastUses(Mutex<HashMap<TokenId, Timestamp>>);

impl LastUses {
    fn note(&self, token: &TokenFacts, now: Timestamp) {
        let before = token.last_used_at.map_or(i64::MIN / 2, Timestamp::as_millis);
        if now.as_millis() - before >= LAST_USE_PRECISION_MS {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(token.id, now);
        }
    }

    pub(crate) fn take(&self) -> Vec<(TokenId, Timestamp)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).drain().collect()
    }
}

impl Hub {
    /// The context of a request that shows `token`, or nothing.
    pub async fn authenticate(&self, token: Option<&str>, origin: Origin) -> Result<Context, Problem> {
        let now = self.clock.now();
        let Some(text) = token else {
            return Ok(context::request(Actor::Anonymous, Credential::None, origin, now));
        };
        let text = TokenText::parse(text).ok_or(Problem::BadToken)?;
        let mut read = self.db.read().await?;
        let token = gate::token_by_hash(&mut read, self.keys.token_hash(text.as_str())).await?;
        self.context_of(token, origin, now)
    }

    /// The context of something that was derived from a token, if that token is alive still.
    pub(crate) async fn authenticate_derived(
        &self,
        token: TokenId,
        origin: Origin,
    ) -> Result<Context, Problem> {
        let now = self.clock.now();
        let mut read = self.db.read().await?;
        let token = gate::token_by_id(&mut read, token).await?;
        self.context_of(token, origin, now)
    }

    fn context_of(
        &self,
        token: Option<TokenFacts>,
        origin: Origin,
        now: Timestamp,
    ) -> Result<Context, Problem> {
        let token = token.filter(|token| is_alive(token, now)).ok_or(Problem::BadToken)?;
        self.last_uses.note(&token, now);
        let credential = Credential::Token { id: token.id, role: token.role };
        Ok(context::request(
            Actor::User { id: token.user_id, name: token.user_name },
            credential,
            origin,
            now,
        ))
    }

    /// Writes the last uses of tokens down.
    pub async fn flush_last_uses(&self) -> Result<(), Problem> {
        let uses = self.last_uses.take();
        if !uses.is_empty() {
            bastide_store::accounts::touch_tokens(&self.db, &uses).await?;
        }
        Ok(())
    }
}

pub(crate) fn is_alive(token: &TokenFacts, now: Timestamp) -> bool {
    token.revoked_at.is_none() && !token.user_disabled && token.expires_at.is_none_or(|end| now < end)
}
