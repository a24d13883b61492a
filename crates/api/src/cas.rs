//! The large-file store itself, for Xet clients of every generation. Its address holds the
//! repository and the epoch; the token has to be for the same.

mod reconstruction;

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{FromRequestParts, Path, Request, State};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use bastide_core::limits::MAX_SHARD_BYTES;
use bastide_core::{RepoId, XetHash};
use bastide_hub::Context;
use bastide_hub::access::{Access, Read};
use bastide_hub::links::Signature;
use bastide_hub::reconstruct::Reconstruction;
use bastide_hub::uploads::Uploader;
use bastide_hub::xet::Fetched;
use bastide_hub::{Hub, Problem};
use bytes::Bytes;
use futures_util::stream::unfold;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::answer::{Answer, Failure};
use crate::extract::{Query, body_bytes, origin, shown_token};
use crate::guard::guarded;
use crate::resolve::parse_range;
use crate::routes::Routes;
use reconstruction::Form;

/// A client waits 300 s for the next event; we say where we are much more often.
const EVENT_EVERY: Duration = Duration::from_secs(20);

pub fn routes(routes: Routes) -> Routes {
    routes
        .add(Method::GET, "/xet/{repo}/{epoch}/v1/chunks/{prefix}/{hash}", chunks)
        .add(Method::GET, "/xet/{repo}/{epoch}/chunks/{prefix}/{hash}", chunks)
        .add(Method::POST, "/xet/{repo}/{epoch}/v1/xorbs/{prefix}/{hash}", xorbs)
        .add(Method::POST, "/xet/{repo}/{epoch}/xorbs/{prefix}/{hash}", xorbs)
        .add(Method::POST, "/xet/{repo}/{epoch}/v1/shards", shards)
        .add(Method::POST, "/xet/{repo}/{epoch}/shards", shards)
        .add(Method::POST, "/xet/{repo}/{epoch}/v2/shards", shards_v2)
        .add(Method::GET, "/xet/{repo}/{epoch}/v1/reconstructions/{hash}", reconstruction)
        .add(Method::GET, "/xet/{repo}/{epoch}/reconstructions/{hash}", reconstruction)
        .add(Method::GET, "/xet/{repo}/{epoch}/v2/reconstructions/{hash}", reconstruction_v2)
        .add(Method::GET, "/xet/{repo}/{epoch}/fetch/{hash}/{range}", fetch)
        .add(Method::POST, "/v1/telemetry", telemetry)
}

/// Who holds the token of this request, and the permit to read its repository.
struct Holder {
    context: Context,
    access: Access<Read>,
}

impl FromRequestParts<Hub> for Holder {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, hub: &Hub) -> Answer<Self> {
        let token = shown_token(&parts.headers)?;
        let (context, access) = hub.check_xet_token(token.as_deref(), place(parts)?, origin(parts)).await?;
        Ok(Self { context, access })
    }
}

/// Who holds the token of this request, and the right to bring content that is behind it.
struct Sender {
    context: Context,
    by: Uploader,
}

impl FromRequestParts<Hub> for Sender {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, hub: &Hub) -> Answer<Self> {
        let token = shown_token(&parts.headers)?;
        let (context, by) =
            hub.check_xet_upload_token(token.as_deref(), place(parts)?, origin(parts)).await?;
        Ok(Self { context, by })
    }
}

/// The repository and the epoch of an address.
fn place(parts: &Parts) -> Result<(&str, i64), Problem> {
    let mut segments = parts.uri.path().split('/').skip(2);
    let (repo, epoch) = (segments.next().unwrap_or_default(), segments.next().unwrap_or_default());
    Ok((repo, epoch.parse().map_err(|_| Problem::BadToken)?))
}

type HashPath = Path<(String, String, String, String)>;

fn hash(text: &str) -> Result<XetHash, Problem> {
    Ok(text.parse()?)
}

async fn chunks(State(hub): State<Hub>, holder: Holder, path: HashPath) -> Answer<Response> {
    let chunk = hash(&path.3)?;
    match hub.find_chunk(&holder.access, chunk).await? {
        Some(answer) => Ok(answer.into_response()),
        None => Err(Problem::NotFound("nothing is known of this chunk".into()).into()),
    }
}

async fn xorbs(
    State(hub): State<Hub>,
    sender: Sender,
    path: HashPath,
    request: Request,
) -> Answer<Json<Value>> {
    let body = request.into_body().into_data_stream();
    let inserted = hub.receive_xorb(&sender.context, &sender.by, hash(&path.3)?, body).await?;
    Ok(Json(json!({ "was_inserted": inserted })))
}

async fn shards(State(hub): State<Hub>, sender: Sender, request: Request) -> Answer<Json<Value>> {
    let bytes = body_bytes(request, MAX_SHARD_BYTES).await?;
    let any_new = hub.register_shard(&sender.context, &sender.by, &bytes, |_, _| {}).await?;
    Ok(Json(json!({ "result": u8::from(any_new) })))
}

/// The same with events, since a large file takes a while to check, and since clients show the
/// text of an error event but not that of an error status.
async fn shards_v2(State(hub): State<Hub>, asking: Sender, request: Request) -> Answer<Response> {
    let bytes = body_bytes(request, MAX_SHARD_BYTES).await?;
    let (sender, receiver) = mpsc::channel(64);
    tokio::spawn(async move {
        let progress = {
            let sender = sender.clone();
            move |verified: u64, total: u64| {
                // A client that is slow to read misses some of these, and nothing else.
                let _ = sender.try_send(Event::Progress { verified, total });
            }
        };
        tokio::select! {
            result = hub.register_shard(&asking.context, &asking.by, &bytes, progress) => {
                let _ = sender.send(Event::End(result)).await;
            }
            // Nobody waits for the answer any more: whoever still wants it sends the shard again.
            () = sender.closed() => {}
        }
    });
    let events = unfold((receiver, Bytes::new()), next_event);
    let mut response = Body::from_stream(events).into_response();
    let kind = HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

enum Event {
    Progress { verified: u64, total: u64 },
    End(Result<bool, Problem>),
}

type Events = (mpsc::Receiver<Event>, Bytes);

/// The next line; the last one again when there is nothing new for a while.
async fn next_event(
    (mut receiver, last): Events,
) -> Option<(Result<Bytes, std::convert::Infallible>, Events)> {
    let line = match tokio::time::timeout(EVENT_EVERY, receiver.recv()).await {
        Ok(Some(event)) => event_line(&event),
        Ok(None) => return None,
        Err(_) => last,
    };
    Some((Ok(line.clone()), (receiver, line)))
}

fn event_line(event: &Event) -> Bytes {
    let value = match event {
        Event::Progress { verified, total } => {
            json!({ "type": "validating", "verified": verified, "total": total })
        }
        Event::End(Ok(any_new)) => json!({ "type": "result", "result": u8::from(*any_new) }),
        Event::End(Err(problem)) => {
            if let Problem::Internal(detail) = problem {
                tracing::error!(detail, "a shard could not be registered");
            }
            let retryable = matches!(problem, Problem::Busy { .. } | Problem::Internal(_));
            json!({ "type": "error", "message": problem.to_string(), "retryable": retryable })
        }
    };
    Bytes::from(format!("{value}\n"))
}

/// A range that clients use to ask for a part: 416 at or past the end is how they stop.
async fn reconstruct(
    hub: &Hub,
    holder: &Holder,
    file: &str,
    headers: &HeaderMap,
) -> Result<Reconstruction, Problem> {
    let range = match headers.get(header::RANGE).and_then(|value| value.to_str().ok()) {
        Some(text) => parse_range(text, u64::MAX)?,
        None => None,
    };
    hub.reconstruction(&holder.context, &holder.access, hash(file)?, range).await
}

type FilePath = Path<(String, String, String)>;

async fn reconstruction(
    State(hub): State<Hub>,
    holder: Holder,
    path: FilePath,
    headers: HeaderMap,
) -> Answer<Response> {
    let found = reconstruct(&hub, &holder, &path.2, &headers).await?;
    Ok(reconstruction::answer(found, Form::One))
}

async fn reconstruction_v2(
    State(hub): State<Hub>,
    holder: Holder,
    path: FilePath,
    headers: HeaderMap,
) -> Answer<Response> {
    let found = reconstruct(&hub, &holder, &path.2, &headers).await?;
    Ok(reconstruction::answer(found, Form::Two))
}

async fn fetch(
    State(hub): State<Hub>,
    Path(path): Path<(String, String, String, String)>,
    query: Query,
    request: Request,
) -> Answer<Response> {
    let (parts, _) = request.into_parts();
    let refused = || Problem::Forbidden("this link is not valid: ask for a new one".into());
    let repo: RepoId = path.0.parse().map_err(|_| refused())?;
    let xorb: XetHash = path.2.parse().map_err(|_| refused())?;
    let (start, end) = path.3.split_once('-').ok_or_else(refused)?;
    let (start, end): (u64, u64) =
        (start.parse().map_err(|_| refused())?, end.parse().map_err(|_| refused())?);
    let range = start..end.checked_add(1).ok_or_else(refused)?;
    // Only what was signed: another range is another link.
    if let Some(asked) = parts.headers.get(header::RANGE).and_then(|value| value.to_str().ok())
        && parse_range(asked, u64::MAX)? != Some(range.clone())
    {
        return Err(refused().into());
    }
    let signature = signature(&query).ok_or_else(refused)?;
    let Fetched { body, total, context, access } =
        hub.fetch_xorb(repo, xorb, range, &signature, origin(&parts)).await?;
    let mut response = guarded(&hub, &context, &access, body).into_response();
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    let headers = response.headers_mut();
    let text = format!("bytes {start}-{end}/{total}");
    headers.insert(header::CONTENT_RANGE, crate::answer::header_text(&text));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private"));
    Ok(response)
}

/// The signature of a link, from its query.
pub fn signature(query: &Query) -> Option<Signature> {
    Some(Signature {
        expires: query.get("e")?.parse().ok()?,
        token: query.get("t")?.parse().ok()?,
        mac: query.get("s")?.to_owned(),
    })
}

/// Clients send figures about themselves here. Nothing is kept.
async fn telemetry() -> StatusCode {
    StatusCode::OK
}
