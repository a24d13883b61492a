//! Webhooks of users: making, changing, turning on and off, their log, and sending once more.
//!
//! A webhook is told what its owner may read, and nothing else: the rights are looked at when an
//! event is queued and again when it is sent. Its secret is sealed at rest and never shown.

mod deliver;
mod discussion;
mod dispatch;
mod payload;
mod told;

pub(crate) use dispatch::Walked;

use std::collections::HashMap;

use bastide_core::id::RowId;
use bastide_core::{Credential, Name, RepoKind, RepoPath, Timestamp, TokenId};
use bastide_ledger::{Action, Context, NewEvent};
use bastide_outbound::Target;
use bastide_store::WriteTx;
use bastide_store::gate::{self, WatchFacts};
use bastide_store::permit::Namespace;
pub use bastide_store::webhooks::Domains;
pub use bastide_store::webhooks::deliveries::{Delivery, DeliveryRow};
use bastide_store::webhooks::{self, Changes, NewWebhook, Subject, Watch, WebhookRow, deliveries};
use bastide_vault::Secret;

use crate::access::{Access, Admin, See};
use crate::{Hub, Problem};

/// Webhooks of one user.
pub const MAX_WEBHOOKS: usize = 50;
/// Things that one webhook watches.
pub const MAX_WATCHED: usize = 50;
/// Bytes of a secret: it is a header.
pub const MAX_SECRET_BYTES: usize = 256;
/// Lines of a page of the log, when nobody says and at most.
const LOG_PAGE: usize = 20;
const MAX_LOG_PAGE: usize = 100;
/// What secrets of webhooks are sealed for.
const SEAL: &str = "webhook";

type Owner = Access<Admin, Namespace>;

/// What somebody wants to watch, as they wrote it.
#[derive(Debug, Clone)]
pub struct WatchRequest {
    pub kind: String,
    pub name: String,
}

/// A new webhook, or what is to change; `None` leaves a thing as it is.
#[derive(Debug, Default)]
pub struct WebhookRequest {
    pub watched: Option<Vec<WatchRequest>>,
    pub url: Option<String>,
    pub domains: Option<Domains>,
    /// Empty takes it away.
    pub secret: Option<Secret>,
}

/// A webhook as its owner sees it.
#[derive(Debug, Clone)]
pub struct Webhook {
    pub row: WebhookRow,
    /// Type and name of what is watched.
    pub watched: Vec<(String, String)>,
}

impl Hub {
    pub async fn list_webhooks(&self, context: &Context, owner: &Owner) -> Result<Vec<Webhook>, Problem> {
        let mut read = self.db.read().await?;
        let rows = webhooks::of_owner(&mut read, owner).await?;
        let mut watched: HashMap<RowId, Vec<(String, String)>> = HashMap::new();
        for facts in gate::watched(&mut read, owner.namespace().id, None).await? {
            watched.entry(facts.webhook).or_default().push(self.shown(context, facts));
        }
        let with = |row: WebhookRow| Webhook { watched: watched.remove(&row.id).unwrap_or_default(), row };
        Ok(rows.into_iter().map(with).collect())
    }

    pub async fn webhook(&self, context: &Context, owner: &Owner, id: RowId) -> Result<Webhook, Problem> {
        let mut read = self.db.read().await?;
        let row = webhooks::get(&mut read, owner, id).await?.ok_or_else(no_webhook)?;
        let watched = gate::watched(&mut read, owner.namespace().id, Some(id)).await?;
        Ok(Webhook { row, watched: watched.into_iter().map(|facts| self.shown(context, facts)).collect() })
    }

    /// What is watched by the name that it has today, if the owner may know it, else by the one that
    /// they gave.
    fn shown(&self, context: &Context, facts: WatchFacts) -> (String, String) {
        let repo = facts.repo.filter(|repo| self.access(context).sees(repo));
        let now = repo.map(|facts| facts.repo.path.id()).or(facts.namespace);
        (facts.kind, now.unwrap_or(facts.name))
    }

    pub async fn create_webhook(
        &self,
        context: &Context,
        owner: &Owner,
        request: WebhookRequest,
    ) -> Result<Webhook, Problem> {
        let url = request.url.as_deref().ok_or_else(|| Problem::Invalid("\"url\" is missing".into()))?;
        let target = self.checked_target(url)?;
        let id = RowId::new(context.now());
        let secret = self.sealed(id, request.secret)?.flatten();
        let watched = self.checked_watched(context, request.watched.unwrap_or_default()).await?;
        if watched.is_empty() {
            return Err(Problem::Invalid("\"watched\" is empty: name what to watch".into()));
        }
        let domains = request.domains.unwrap_or(Domains { repos: true, discussions: true });
        let event = webhook_event(context, Action::WebhookCreate, owner, id)
            .fact("target", target.origin())
            .fact("secret", secret.is_some());
        let event = watched_fact(event, &watched);
        let token = token_of(context);
        let mut tx = self.write_in(context, owner).await?;
        if webhooks::count_of(&mut tx, owner).await? >= MAX_WEBHOOKS {
            let text = format!("a user has at most {MAX_WEBHOOKS} webhooks: delete one that is not needed");
            return Err(Problem::Unprocessable(text));
        }
        webhooks::add(&mut tx, owner, NewWebhook { id, url, secret, domains, token, now: context.now() })
            .await?;
        webhooks::set_watched(&mut tx, owner, id, &watched).await?;
        tx.commit(event).await?;
        self.webhook(context, owner, id).await
    }

    pub async fn update_webhook(
        &self,
        context: &Context,
        owner: &Owner,
        id: RowId,
        request: WebhookRequest,
    ) -> Result<Webhook, Problem> {
        self.webhook(context, owner, id).await?;
        let url = request.url.as_deref();
        let target = url.map(|url| self.checked_target(url)).transpose()?;
        let secret = self.sealed(id, request.secret)?;
        // Clients send an empty list when they were told of none.
        let watched = request.watched.filter(|watched| !watched.is_empty());
        let watched = match watched {
            Some(watched) => Some(self.checked_watched(context, watched).await?),
            None => None,
        };
        let mut event = webhook_event(context, Action::WebhookUpdate, owner, id);
        if let Some(target) = target {
            event = event.fact("target", target.origin());
        }
        if let Some(secret) = &secret {
            event = event.fact("secret", secret.is_some());
        }
        if let Some(watched) = &watched {
            event = watched_fact(event, watched);
        }
        let changes = Changes { url, token: token_of(context), secret, domains: request.domains };
        let mut tx = self.write_in(context, owner).await?;
        if !webhooks::change(&mut tx, owner, id, changes, context.now()).await? {
            return Err(no_webhook());
        }
        if let Some(watched) = &watched {
            webhooks::set_watched(&mut tx, owner, id, watched).await?;
        }
        tx.commit(event).await?;
        self.webhook(context, owner, id).await
    }

    /// Turns a webhook on or off, by its owner's wish.
    pub async fn enable_webhook(
        &self,
        context: &Context,
        owner: &Owner,
        id: RowId,
        on: bool,
    ) -> Result<Webhook, Problem> {
        let action = if on { Action::WebhookEnable } else { Action::WebhookDisable };
        let mut tx = self.write_in(context, owner).await?;
        let reason = (!on).then_some("");
        if !webhooks::set_disabled(&mut tx, owner, id, reason, context.now()).await? {
            return Err(no_webhook());
        }
        tx.commit(webhook_event(context, action, owner, id)).await?;
        self.webhook(context, owner, id).await
    }

    pub async fn delete_webhook(&self, context: &Context, owner: &Owner, id: RowId) -> Result<(), Problem> {
        let mut tx = self.write_in(context, owner).await?;
        if !webhooks::remove(&mut tx, owner, id).await? {
            return Err(no_webhook());
        }
        Ok(tx.commit(webhook_event(context, Action::WebhookDelete, owner, id)).await?)
    }

    /// A page of what was sent, newest first, and whether there is more.
    pub async fn webhook_log(
        &self,
        owner: &Owner,
        id: RowId,
        before: Option<RowId>,
        limit: Option<u64>,
    ) -> Result<(Vec<DeliveryRow>, bool), Problem> {
        let limit = limit.map_or(LOG_PAGE, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let limit = limit.clamp(1, MAX_LOG_PAGE);
        let mut read = self.db.read().await?;
        let rows = deliveries::log(&mut read, owner, id, before, limit + 1).await?;
        let mut rows = rows.ok_or_else(no_webhook)?;
        let more = rows.len() > limit;
        rows.truncate(limit);
        Ok((rows, more))
    }

    /// A line of the log. What was sent, and what came back, is left out when the owner may not know of
    /// it any more.
    pub async fn webhook_delivery(&self, owner: &Owner, id: RowId, line: RowId) -> Result<Delivery, Problem> {
        let found = deliveries::line(&mut self.db.read().await?, owner, (id, line)).await?;
        let mut found = found.ok_or_else(no_delivery)?;
        let who = (id, owner.namespace().id, owner.namespace().name.clone());
        if self.still_told(who, found.row.seq).await?.is_none() {
            (found.payload, found.excerpt) = (None, None);
        }
        Ok(found)
    }

    /// Sends what was sent before once more: to where the webhook sends now.
    pub async fn replay_delivery(
        &self,
        context: &Context,
        owner: &Owner,
        id: RowId,
        line: RowId,
    ) -> Result<RowId, Problem> {
        let webhook = self.webhook(context, owner, id).await?;
        if webhook.row.disabled.is_some() {
            return Err(Problem::Invalid("the webhook is disabled: enable it first".into()));
        }
        let mut tx = self.write_in(context, owner).await?;
        let queued = deliveries::replay(&mut tx, owner, (id, line), context.now()).await?;
        let (new, triggers) = queued.ok_or_else(no_delivery)?;
        let most = self.config.webhook_daily_triggers;
        if triggers > most {
            let message = format!("a webhook sends at most {most} events a day: try again tomorrow");
            return Err(Problem::TooMany { message, seconds: 3600 });
        }
        let event =
            webhook_event(context, Action::WebhookReplay, owner, id).fact("delivery", line.to_string());
        tx.commit(event).await?;
        Ok(new)
    }

    fn checked_target(&self, url: &str) -> Result<Target, Problem> {
        let target = Target::parse(url).map_err(|unfit| Problem::Invalid(unfit.0))?;
        if self.outbound.refuses(&target) {
            return Err(Problem::Invalid(bastide_outbound::Failure::NoAddress.to_string()));
        }
        Ok(target)
    }

    /// `None` for "as it is", `Some(None)` for "none".
    fn sealed(&self, id: RowId, secret: Option<Secret>) -> Result<Option<Option<Vec<u8>>>, Problem> {
        let Some(secret) = secret else { return Ok(None) };
        check_secret(secret.expose())?;
        if secret.expose().is_empty() {
            return Ok(Some(None));
        }
        Ok(Some(Some(self.keys.seal(SEAL, &place(id), &secret).map_err(Problem::internal)?)))
    }

    async fn checked_watched(
        &self,
        context: &Context,
        watched: Vec<WatchRequest>,
    ) -> Result<Vec<Watch>, Problem> {
        if watched.len() > MAX_WATCHED {
            let text = format!("a webhook watches at most {MAX_WATCHED} things: watch their owner instead");
            return Err(Problem::Unprocessable(text));
        }
        let mut found: Vec<Watch> = Vec::with_capacity(watched.len());
        for wanted in &watched {
            let watch = self.checked_watch(context, wanted).await?;
            if !found.iter().any(|known| known.subject == watch.subject) {
                found.push(watch);
            }
        }
        Ok(found)
    }

    async fn checked_watch(&self, context: &Context, wanted: &WatchRequest) -> Result<Watch, Problem> {
        match wanted.kind.as_str() {
            "user" => self.watch_namespace(context, "user", &wanted.name).await,
            "org" => self.watch_namespace(context, "org", &wanted.name).await,
            "model" => self.watch_repo(context, RepoKind::Model, &wanted.name).await,
            "dataset" => self.watch_repo(context, RepoKind::Dataset, &wanted.name).await,
            "space" => self.watch_repo(context, RepoKind::Space, &wanted.name).await,
            "bucket" | "kernel" => {
                Err(Problem::Invalid(format!("this hub has no {}s to watch", wanted.kind)))
            }
            _ => Err(Problem::Invalid(
                "\"type\" of what is watched must be one of [user, org, model, dataset, space]".into(),
            )),
        }
    }

    async fn watch_namespace(
        &self,
        context: &Context,
        kind: &'static str,
        name: &str,
    ) -> Result<Watch, Problem> {
        let missing = || not_there(kind, name);
        let parsed: Name = name.parse().map_err(|_| missing())?;
        let access =
            self.access(context).namespace::<See>(&parsed).await.map_err(|problem| match problem {
                Problem::NotFound(_) | Problem::Disabled => missing(),
                other => other,
            })?;
        let namespace = access.namespace();
        if namespace.is_organization != (kind == "org") {
            return Err(missing());
        }
        let name = namespace.name.to_string();
        Ok(Watch { subject: Subject::Namespace(namespace.id), kind, name })
    }

    async fn watch_repo(&self, context: &Context, kind: RepoKind, name: &str) -> Result<Watch, Problem> {
        let missing = || not_there(kind.as_str(), name);
        let path = RepoPath::parse(kind, name).map_err(|_| missing())?;
        let access = self.access(context).repo::<See>(&path).await.map_err(|problem| match problem {
            Problem::RepoNotFound { .. } | Problem::Disabled => missing(),
            other => other,
        })?;
        let repo = access.repo();
        Ok(Watch { subject: Subject::Repo(repo.id), kind: kind.as_str(), name: repo.path.id() })
    }

    /// Takes lines of logs that are old enough.
    pub(crate) async fn prune_webhook_logs(&self) -> Result<(), Problem> {
        let before: Timestamp = self.clock.now().plus_days(-self.config.webhook_log_days);
        deliveries::prune(&self.db, before).await?;
        Ok(())
    }
}

/// The same words for what is missing and for what is hidden.
fn not_there(kind: &str, name: &str) -> Problem {
    let name: String = name.chars().filter(|c| !c.is_control()).take(MAX_SHOWN_NAME).collect();
    Problem::NotFound(format!("there is no {kind} '{name}' that you can see"))
}

/// Characters of a name that is shown as it came.
const MAX_SHOWN_NAME: usize = 150;

fn no_webhook() -> Problem {
    Problem::NotFound("you have no webhook with this id".into())
}

fn no_delivery() -> Problem {
    Problem::NotFound("there is no such delivery".into())
}

/// A secret goes out as a header, and has to arrive as it was.
fn check_secret(secret: &[u8]) -> Result<(), Problem> {
    if secret.len() > MAX_SECRET_BYTES {
        return Err(Problem::Invalid(format!("a secret has at most {MAX_SECRET_BYTES} characters")));
    }
    let spaced = secret.first() == Some(&b' ') || secret.last() == Some(&b' ');
    if spaced || !secret.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ') {
        let text = "a secret has only printable ASCII characters, and no space at its ends";
        return Err(Problem::Invalid(text.into()));
    }
    Ok(())
}

/// The token that somebody shows: what it makes ends with it.
const fn token_of(context: &Context) -> Option<TokenId> {
    match context.credential() {
        Credential::Token { id, .. } => Some(*id),
        Credential::None | Credential::Local => None,
    }
}

/// Turns off what sends where a token has said, when that token ends.
pub(crate) async fn end_with_token(
    tx: &mut WriteTx,
    context: &Context,
    owner: &Owner,
    token: TokenId,
) -> Result<(), Problem> {
    let reason = "the token that said where it sends was revoked";
    for id in webhooks::disable_of_token(tx, owner, token, reason, context.now()).await? {
        tx.record(webhook_event(context, Action::WebhookDisable, owner, id).fact("reason", reason));
    }
    Ok(())
}

/// Where a secret belongs: sealed for one webhook, it opens for no other.
fn place(id: RowId) -> [u8; 8] {
    id.as_i64().to_be_bytes()
}

fn webhook_event(context: &Context, action: Action, owner: &Owner, id: RowId) -> NewEvent {
    NewEvent::new(context, action)
        .subject("webhook", Some(id.as_i64()), "")
        .fact("user", owner.namespace().name.as_str())
}

/// The target's path stays out of the book: it often is a secret itself.
fn watched_fact(event: NewEvent, watched: &[Watch]) -> NewEvent {
    let names: Vec<String> = watched.iter().map(|watch| format!("{}:{}", watch.kind, watch.name)).collect();
    event.fact("watched", names.join(","))
}
