//! Sending: a few at a time, beside the jobs, each with one chance to hold up nobody but itself.
//!
//! A delivery is sent at least once: who dies between sending and writing it down leaves a lease
//! that ends, and another sends again, with the same `X-Webhook-Delivery`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bastide_core::id::RowId;
use bastide_core::{Name, NamespaceId, RepoId, Role, Timestamp};
use bastide_ledger::{Action, Event, NewEvent, context};
use bastide_outbound::{Failure, Reply, Request, Target};
use bastide_store::webhooks::deliveries::{self, Claim, Ending, Shares, Tried};
use bastide_store::webhooks::dispatch::{self, Watcher};
use bastide_store::{Reader, gate};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};
use tokio::sync::{Notify, Semaphore};

use super::discussion::{Quoted, quoted};
use super::told::{self, About, Told};
use super::{SEAL, place};
use crate::{Hub, Problem};

/// Deliveries under way on one server.
const SENDERS: usize = 64;
/// Those of one user's webhooks, and those of webhooks that were slow the last time. So there are
/// always some for whoever answers at once.
const SHARES: Shares = Shares { owner: 4, slow: 16 };
/// An attempt that takes longer makes a webhook a slow one, until one does not.
const SLOW: Duration = Duration::from_secs(2);
/// Pause between looks into an empty queue.
const IDLE: Duration = Duration::from_millis(500);
/// Waits after attempts that failed, in seconds. When they are used up, so is the delivery.
const WAITS: [i64; 5] = [10, 60, 600, 3600, 6 * 3600];
/// So often a delivery is taken up whose senders never said how it ended.
const MAX_CLAIMS: i64 = 20;
/// Deliveries in a row that were given up: then the webhook is turned off.
pub const MAX_FAILURES: i64 = 10;
/// Lines of one webhook's log.
const MAX_LOG_LINES: i64 = 1000;

const SECRET: HeaderName = HeaderName::from_static("x-webhook-secret");
const SIGNATURE: HeaderName = HeaderName::from_static("x-webhook-signature");
const DELIVERY: HeaderName = HeaderName::from_static("x-webhook-delivery");
const USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("bastide-webhooks/", env!("CARGO_PKG_VERSION")));

/// What an attempt came to.
enum Verdict {
    Done,
    Again,
    Never,
    /// The target says that there will be no more.
    Gone,
}

impl Hub {
    /// Sends for ever. Errors are logged here, where they are handled.
    pub(crate) async fn send_webhooks(self) {
        let senders = Arc::new(Semaphore::new(SENDERS));
        let ended = Arc::new(Notify::new());
        loop {
            let Ok(turn) = Arc::clone(&senders).acquire_owned().await else { return };
            match deliveries::claim(&self.db, SHARES, self.clock.now()).await {
                Ok(Some(claim)) => {
                    let (hub, ended) = (self.clone(), Arc::clone(&ended));
                    tokio::spawn(async move {
                        let _turn = turn;
                        hub.deliver_and_log(claim).await;
                        // Its webhook, its owner and a sender are free again: others may be due.
                        ended.notify_one();
                    });
                }
                Ok(None) => drop(tokio::time::timeout(IDLE, ended.notified()).await),
                Err(error) => {
                    tracing::error!(%error, "webhook queue");
                    tokio::time::sleep(IDLE).await;
                }
            }
        }
    }

    /// Queues and sends all that is due, one by one: for tests, and for commands that end.
    pub async fn run_webhooks(&self) -> Result<usize, Problem> {
        self.dispatch_webhooks().await?;
        let mut count = 0;
        while let Some(claim) = deliveries::claim(&self.db, SHARES, self.clock.now()).await? {
            self.deliver(&claim).await?;
            count += 1;
        }
        Ok(count)
    }

    async fn deliver_and_log(&self, claim: Claim) {
        match self.deliver(&claim).await {
            Ok(true) => {}
            Ok(false) => {
                tracing::info!(webhook = %claim.webhook, "a delivery was taken over while it was sent")
            }
            Err(problem) => tracing::warn!(webhook = %claim.webhook, ?problem, "a delivery was not sent"),
        }
    }

    /// One attempt. False when it was somebody else's by its end.
    async fn deliver(&self, claim: &Claim) -> Result<bool, Problem> {
        if claim.owner_disabled {
            let reason = "the account of its owner is disabled";
            return self.end(claim, Ending::Withdrawn, Some(reason.to_owned())).await;
        }
        if claim.attempts > MAX_CLAIMS {
            let error = Some("this hub has tried to send it, and never got to the end".to_owned());
            let tried = Tried { error, url: claim.url.clone(), ..Tried::default() };
            return self.end(claim, Ending::GivenUp(tried), None).await;
        }
        let Some((payload, quotes)) = self.payload_to_send(claim).await? else {
            return self.end(claim, Ending::Withdrawn, None).await;
        };
        let (mut tried, verdict) = self.attempt(claim, payload).await?;
        tried.quotes = quotes;
        let wait = usize::try_from(claim.attempts - 1).ok().and_then(|spent| WAITS.get(spent));
        let gave_up = |tried: &Tried| {
            let last = tried.error.clone().unwrap_or_default();
            (claim.failures + 1 >= MAX_FAILURES)
                .then(|| format!("{MAX_FAILURES} deliveries in a row failed; the last: {last}"))
        };
        match (verdict, wait) {
            (Verdict::Done, _) => self.end(claim, Ending::Delivered(tried), None).await,
            (Verdict::Again, Some(wait)) => {
                let at = self.clock.now().plus_seconds(*wait);
                self.end(claim, Ending::Again(tried, at), None).await
            }
            (Verdict::Again | Verdict::Never, _) => {
                let disable = gave_up(&tried);
                self.end(claim, Ending::GivenUp(tried), disable).await
            }
            (Verdict::Gone, _) => {
                let reason = "the target answered 410: it wants no more".to_owned();
                self.end(claim, Ending::GivenUp(tried), Some(reason)).await
            }
        }
    }

    /// What to send, if the owner may still know of it: as it was sent before, or made now.
    async fn payload_to_send(&self, claim: &Claim) -> Result<Option<(String, Option<Quoted>)>, Problem> {
        let owner = (claim.webhook, claim.owner, claim.owner_name.clone());
        let Some((event, told, about, owner)) = self.still_told(owner, claim.seq).await? else {
            return Ok(None);
        };
        // What people said may be hidden or other by now: it is told as it is, at every attempt.
        let payload = match &claim.payload {
            Some(payload) if !told.is_discussion() => Some(payload.clone()),
            _ => {
                let context = self.on_behalf_of(&owner);
                self.payload(&context, &claim.webhook.to_string(), (&event, told, &about)).await?
            }
        };
        Ok(payload.map(|payload| {
            let quotes = quoted(&event, &payload);
            (payload, quotes)
        }))
    }

    /// An event, and who is told of it, if they may know of it now.
    pub(super) async fn still_told(
        &self,
        (webhook, owner, owner_name): (RowId, NamespaceId, Name),
        seq: i64,
    ) -> Result<Option<(Event, Told, About, Watcher)>, Problem> {
        let mut read = self.db.read().await?;
        let Some(event) = dispatch::event(&mut read, seq).await? else { return Ok(None) };
        let role = role_of_owner(&mut read, owner, &event).await?;
        drop(read);
        let Some(told) = told::told(&event) else { return Ok(None) };
        let Some(about) = self.about(&event).await? else { return Ok(None) };
        let watcher = Watcher { webhook, owner, owner_name, role };
        let may = self.may_be_told(&about, told, &watcher);
        Ok(may.then_some((event, told, about, watcher)))
    }

    async fn attempt(&self, claim: &Claim, payload: String) -> Result<(Tried, Verdict), Problem> {
        let mut tried = Tried { payload, url: claim.url.clone(), ..Tried::default() };
        let target = match Target::parse(&claim.url) {
            Ok(target) => target,
            Err(unfit) => {
                tried.error = Some(unfit.0);
                return Ok((tried, Verdict::Never));
            }
        };
        let body = Bytes::from(tried.payload.clone());
        let headers = self.headers(claim, &body)?;
        let began = Instant::now();
        let answer = self.outbound.post(Request { target: &target, headers, body }).await;
        let verdict = note_answer(&mut tried, &answer, claim.secret.is_some());
        tried.slow = began.elapsed() > SLOW;
        // How long a look-up takes is nobody's business when there is nothing to be reached.
        if !matches!(answer, Err(Failure::NoAddress)) {
            tried.duration_ms = i64::try_from(began.elapsed().as_millis()).ok();
        }
        Ok((tried, verdict))
    }

    fn headers(&self, claim: &Claim, body: &[u8]) -> Result<Vec<(HeaderName, HeaderValue)>, Problem> {
        let delivery = HeaderValue::from_str(&claim.delivery.to_string()).map_err(Problem::internal)?;
        let mut headers = vec![
            (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (header::USER_AGENT, USER_AGENT),
            (DELIVERY, delivery),
        ];
        let Some(sealed) = &claim.secret else { return Ok(headers) };
        let secret = self.keys.open(SEAL, &place(claim.webhook), sealed).map_err(Problem::internal)?;
        let mut value = HeaderValue::from_bytes(secret.expose()).map_err(Problem::internal)?;
        value.set_sensitive(true);
        let time = self.clock.now().as_seconds();
        let mac = secret.hmac(&[format!("{time}.").as_bytes(), body]);
        let hex: String = mac.iter().map(|byte| format!("{byte:02x}")).collect();
        let signature = HeaderValue::from_str(&format!("t={time},v1={hex}")).map_err(Problem::internal)?;
        headers.extend([(SECRET, value), (SIGNATURE, signature)]);
        Ok(headers)
    }

    async fn end(&self, claim: &Claim, ending: Ending, disable: Option<String>) -> Result<bool, Problem> {
        let event = |reason: &String| {
            NewEvent::new(&context::system("webhooks", &self.clock), Action::WebhookDisable)
                .subject("webhook", Some(claim.webhook.as_i64()), "")
                .fact("user", claim.owner_name.as_str())
                .fact("reason", reason.as_str())
        };
        let disable = disable.as_ref().map(|reason| (reason.as_str(), event(reason)));
        let now: Timestamp = self.clock.now();
        Ok(deliveries::finish(&self.db, claim, ending, disable, (MAX_LOG_LINES, now)).await?)
    }
}

/// The role that the owner has now where it counts: in what owns the repository, or owned it.
async fn role_of_owner(
    read: &mut Reader,
    owner: NamespaceId,
    event: &Event,
) -> Result<Option<Role>, Problem> {
    let Some(repo) = event.subject_id.map(RepoId::from_i64) else { return Ok(None) };
    if let Some(facts) = gate::repo_by_id(read, repo, Some(owner)).await? {
        return Ok(facts.role);
    }
    let namespace = told::Facts::of(event).namespace("owner_id");
    let Some(namespace) = namespace else { return Ok(None) };
    Ok(gate::role_in(read, namespace, owner).await?)
}

/// What an answer means, and what of it is written down: no word of who was told a secret, and may
/// repeat it in a form that nobody can foresee.
fn note_answer(tried: &mut Tried, answer: &Result<Reply, Failure>, told_secret: bool) -> Verdict {
    match answer {
        Ok(reply) => {
            tried.status = Some(reply.status);
            let excerpt = String::from_utf8_lossy(&reply.excerpt).replace('\0', "\u{fffd}");
            tried.excerpt = Some(excerpt).filter(|text| !text.is_empty() && !told_secret);
            let verdict = match reply.status {
                200..=299 => return Verdict::Done,
                410 => Verdict::Gone,
                408 | 425 | 429 | 500..=599 => Verdict::Again,
                _ => Verdict::Never,
            };
            let redirect =
                if (300..=399).contains(&reply.status) { ": redirects are not followed" } else { "" };
            tried.error = Some(format!("the target answered {}{redirect}", reply.status));
            verdict
        }
        Err(failure) => {
            tried.error = Some(failure.to_string());
            Verdict::Again
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_told_a_secret_is_not_quoted() {
        let echo = Bytes::from_static(b"X-Webhook-Secret: correct horse");
        for (told_secret, quoted) in [(false, Some("X-Webhook-Secret: correct horse")), (true, None)] {
            for status in [200, 404, 410, 500] {
                let mut tried = Tried::default();
                let answer = Ok(Reply { status, excerpt: echo.clone() });
                note_answer(&mut tried, &answer, told_secret);
                assert_eq!((tried.status, tried.excerpt.as_deref()), (Some(status), quoted));
                assert!(!tried.error.unwrap_or_default().contains("horse"));
            }
        }
    }
}
