//! Webhooks of the caller: `/api/settings/webhooks`.

use axum::Json;
use axum::extract::{OriginalUri, Path, State};
use axum::response::{IntoResponse, Response};
use bastide_core::Timestamp;
use bastide_core::id::RowId;
use bastide_hub::access::{Access, Admin, Namespace};
use bastide_hub::webhooks::{Delivery, DeliveryRow, Domains, WatchRequest, Webhook, WebhookRequest};
use bastide_hub::{Hub, Problem, Secret};
use http::{Method, header};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::answer::{Answer, header_text};
use crate::extract::{Caller, JsonBody, Query};
use crate::routes::Routes;

const DOMAINS: [&str; 2] = ["repo", "discussion"];

pub fn routes(routes: Routes) -> Routes {
    routes
        .add(Method::GET, "/api/settings/webhooks", list)
        .add(Method::POST, "/api/settings/webhooks", create)
        .add(Method::GET, "/api/settings/webhooks/{wid}", get)
        .add(Method::POST, "/api/settings/webhooks/{wid}", update)
        .add(Method::DELETE, "/api/settings/webhooks/{wid}", delete)
        .add(Method::POST, "/api/settings/webhooks/{wid}/enable", enable)
        .add(Method::POST, "/api/settings/webhooks/{wid}/disable", disable)
        .add(Method::GET, "/api/settings/webhooks/{wid}/deliveries", deliveries)
        .add(Method::GET, "/api/settings/webhooks/{wid}/deliveries/{log}", delivery)
        .add(Method::POST, "/api/settings/webhooks/{wid}/replay/{log}", replay)
}

async fn owner(hub: &Hub, caller: &Caller) -> Answer<Access<Admin, Namespace>> {
    Ok(hub.access(&caller.context).own_namespace().await?)
}

/// An id that cannot be is one that is not there.
fn id(text: &str) -> Result<RowId, Problem> {
    text.parse().map_err(|_| Problem::NotFound("there is nothing with this id".into()))
}

async fn list(State(hub): State<Hub>, caller: Caller) -> Answer<Response> {
    let owner = owner(&hub, &caller).await?;
    let webhooks = hub.list_webhooks(&caller.context, &owner).await?;
    Ok(Json(webhooks.iter().map(WebhookJson::of).collect::<Vec<_>>()).into_response())
}

async fn get(State(hub): State<Hub>, caller: Caller, Path(wid): Path<String>) -> Answer<Json<Value>> {
    let owner = owner(&hub, &caller).await?;
    Ok(wrapped(&hub.webhook(&caller.context, &owner, id(&wid)?).await?))
}

async fn create(
    State(hub): State<Hub>,
    caller: Caller,
    JsonBody(body): JsonBody<WebhookBody>,
) -> Answer<Json<Value>> {
    let owner = owner(&hub, &caller).await?;
    Ok(wrapped(&hub.create_webhook(&caller.context, &owner, body.request()?).await?))
}

async fn update(
    State(hub): State<Hub>,
    caller: Caller,
    Path(wid): Path<String>,
    JsonBody(body): JsonBody<WebhookBody>,
) -> Answer<Json<Value>> {
    let owner = owner(&hub, &caller).await?;
    Ok(wrapped(&hub.update_webhook(&caller.context, &owner, id(&wid)?, body.request()?).await?))
}

async fn delete(State(hub): State<Hub>, caller: Caller, Path(wid): Path<String>) -> Answer<Json<Value>> {
    let owner = owner(&hub, &caller).await?;
    hub.delete_webhook(&caller.context, &owner, id(&wid)?).await?;
    Ok(Json(json!({})))
}

async fn enable(State(hub): State<Hub>, caller: Caller, Path(wid): Path<String>) -> Answer<Json<Value>> {
    let owner = owner(&hub, &caller).await?;
    Ok(wrapped(&hub.enable_webhook(&caller.context, &owner, id(&wid)?, true).await?))
}

async fn disable(State(hub): State<Hub>, caller: Caller, Path(wid): Path<String>) -> Answer<Json<Value>> {
    let owner = owner(&hub, &caller).await?;
    Ok(wrapped(&hub.enable_webhook(&caller.context, &owner, id(&wid)?, false).await?))
}

async fn deliveries(
    State(hub): State<Hub>,
    caller: Caller,
    Path(wid): Path<String>,
    query: Query,
    uri: OriginalUri,
) -> Answer<Response> {
    let owner = owner(&hub, &caller).await?;
    let cursor: Option<RowId> = query.get("cursor").map(str::parse).transpose()?;
    let limit = query.number("limit")?;
    let (rows, more) = hub.webhook_log(&owner, id(&wid)?, cursor, limit).await?;
    let mut response = Json(rows.iter().map(LineJson::of).collect::<Vec<_>>()).into_response();
    if let (true, Some(last)) = (more, rows.last()) {
        let (base, path) = (hub.url(&caller.context), uri.0.path());
        let limit = limit.map(|limit| format!("&limit={limit}")).unwrap_or_default();
        let next = format!("<{base}{path}?cursor={}{limit}>; rel=\"next\"", last.id);
        response.headers_mut().insert(header::LINK, header_text(&next));
    }
    Ok(response)
}

async fn delivery(
    State(hub): State<Hub>,
    caller: Caller,
    Path((wid, log)): Path<(String, String)>,
) -> Answer<Response> {
    let owner = owner(&hub, &caller).await?;
    let found = hub.webhook_delivery(&owner, id(&wid)?, id(&log)?).await?;
    Ok(Json(DeliveryJson::of(&found)).into_response())
}

async fn replay(
    State(hub): State<Hub>,
    caller: Caller,
    Path((wid, log)): Path<(String, String)>,
) -> Answer<Json<Value>> {
    let owner = owner(&hub, &caller).await?;
    let new = hub.replay_delivery(&caller.context, &owner, id(&wid)?, id(&log)?).await?;
    Ok(Json(json!({ "id": new })))
}

#[derive(Deserialize)]
struct WatchedBody {
    #[serde(rename = "type")]
    kind: String,
    name: String,
}

/// The body of making and of changing. No `Debug`: it holds a secret.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WebhookBody {
    watched: Option<Vec<WatchedBody>>,
    url: Option<String>,
    domains: Option<Vec<String>>,
    secret: Option<String>,
    job: Option<Value>,
    job_source_id: Option<Value>,
    secrets: Option<Value>,
}

impl WebhookBody {
    fn request(self) -> Result<WebhookRequest, Problem> {
        if self.job.is_some() || self.job_source_id.is_some() || self.secrets.is_some() {
            let text = "this hub runs no jobs: a webhook here has a \"url\" that it sends to";
            return Err(Problem::Invalid(text.into()));
        }
        let watch = |watched: WatchedBody| WatchRequest { kind: watched.kind, name: watched.name };
        Ok(WebhookRequest {
            watched: self.watched.map(|watched| watched.into_iter().map(watch).collect()),
            url: self.url,
            domains: self.domains.as_deref().map(parse_domains).transpose()?,
            secret: self.secret.map(Secret::from),
        })
    }
}

fn parse_domains(texts: &[String]) -> Result<Domains, Problem> {
    let has = |domain: &str| texts.iter().any(|text| text == domain);
    let known = texts.iter().all(|text| DOMAINS.contains(&text.as_str()));
    if texts.is_empty() || !known {
        return Err(Problem::Invalid("\"domains\" must be one or both of [repo, discussion]".into()));
    }
    Ok(Domains { repos: has("repo"), discussions: has("discussion") })
}

fn wrapped(webhook: &Webhook) -> Json<Value> {
    Json(json!({ "webhook": WebhookJson::of(webhook) }))
}

// The secret is never shown: only whether there is one.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WebhookJson<'a> {
    id: RowId,
    url: &'a str,
    watched: Vec<WatchedJson<'a>>,
    domains: Vec<&'static str>,
    has_secret: bool,
    disabled: Off<'a>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

#[derive(Serialize)]
struct WatchedJson<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    name: &'a str,
}

/// Why a webhook is off; a mere `true` when its owner wanted it.
#[derive(Serialize)]
#[serde(untagged)]
enum Off<'a> {
    Flag(bool),
    Reason(&'a str),
}

impl<'a> WebhookJson<'a> {
    fn of(webhook: &'a Webhook) -> Self {
        let row = &webhook.row;
        let domains = [(row.domains.repos, "repo"), (row.domains.discussions, "discussion")];
        Self {
            id: row.id,
            url: &row.url,
            watched: webhook.watched.iter().map(|(kind, name)| WatchedJson { kind, name }).collect(),
            domains: domains.iter().filter(|(on, _)| *on).map(|(_, name)| *name).collect(),
            has_secret: row.has_secret,
            disabled: match row.disabled.as_deref() {
                None => Off::Flag(false),
                Some("") => Off::Flag(true),
                Some(reason) => Off::Reason(reason),
            },
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LineJson<'a> {
    id: RowId,
    event: &'a str,
    state: &'a str,
    attempt: i64,
    created_at: Timestamp,
    time: Option<Timestamp>,
    next_attempt_at: Option<Timestamp>,
    replay_of: Option<RowId>,
    url: Option<&'a str>,
    status: Option<i64>,
    duration_ms: Option<i64>,
    error: Option<&'a str>,
}

impl<'a> LineJson<'a> {
    fn of(row: &'a DeliveryRow) -> Self {
        Self {
            id: row.id,
            event: &row.event,
            state: row.outcome.as_deref().unwrap_or("waiting"),
            attempt: row.attempts,
            created_at: row.created_at,
            time: row.tried_at,
            next_attempt_at: row.next_at,
            replay_of: row.replay_of,
            url: row.url.as_deref(),
            status: row.status,
            duration_ms: row.duration_ms,
            error: row.error.as_deref(),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DeliveryJson<'a> {
    #[serde(flatten)]
    line: LineJson<'a>,
    response: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_headers: Option<RequestHeaders>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a RawValue>,
}

/// What was sent besides the payload; the secret and what is signed with it are not written down.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct RequestHeaders {
    content_type: &'static str,
    x_webhook_delivery: RowId,
}

impl<'a> DeliveryJson<'a> {
    fn of(found: &'a Delivery) -> Self {
        let payload = found.payload.as_deref().and_then(|text| serde_json::from_str(text).ok());
        let headers = RequestHeaders { content_type: "application/json", x_webhook_delivery: found.row.id };
        Self {
            line: LineJson::of(&found.row),
            response: found.excerpt.as_deref(),
            request_headers: payload.is_some().then_some(headers),
            payload,
        }
    }
}
