//! git over HTTP: the smart protocol of stock clients. Who may do what is decided as everywhere;
//! answers that are refusals are plain text, which git shows its user.

mod answer;
mod body;
mod push;

use axum::body::Body;
use axum::extract::{FromRequestParts, Request, State};
use axum::response::{IntoResponse, Response};
use bastide_core::RepoKind;
use bastide_hub::access::{Access, Read};
use bastide_hub::fetch::{Parts, Protocol};
use bastide_hub::{Context, Hub, Problem};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use answer::{GitAnswer, NO_CACHE, old_protocol, or_refusal};
use body::decoded;

use crate::extract::{Caller, Query, RepoRoute};
use crate::guard::guarded;
use crate::routes::Routes;

const GIT_PROTOCOL: HeaderName = HeaderName::from_static("git-protocol");
/// Bytes of one request of a fetch, unpacked: what a client wants and has, 50 bytes each.
const MAX_FETCH_REQUEST_BYTES: u64 = 64 * 1024 * 1024;
/// Says which service the list of refs is of. Version 2 has no need of it.
const SERVICE_LINE: &[u8] = b"001e# service=git-upload-pack\n0000";

pub fn routes(routes: Routes) -> Routes {
    routes
        .files(Method::GET, "/{prefix}/{ns}/{name}/info/refs", info_refs)
        .files(Method::POST, "/{prefix}/{ns}/{name}/git-upload-pack", upload_pack)
        .files(Method::POST, "/{prefix}/{ns}/{name}/git-receive-pack", push::receive_pack)
}

/// Is this one of the files that clients from before 2010 fetch a repository by?
pub fn is_old_protocol(path: &str) -> bool {
    let mut segments = path.split('/').skip(1).peekable();
    segments.next_if(|first| RepoKind::from_plural(first).is_some_and(|kind| kind != RepoKind::Model));
    let rest: Vec<&str> = segments.skip(2).collect();
    matches!(rest.as_slice(), ["HEAD"] | ["objects", _, ..])
}

/// What they are told: the same wherever they ask.
pub fn old_protocol_refused() -> Response {
    or_refusal(Err(old_protocol()))
}

/// How a client begins, with one of git's two services.
async fn info_refs(State(hub): State<Hub>, request: Request) -> Response {
    or_refusal(begin(&hub, request).await)
}

async fn begin(hub: &Hub, request: Request) -> GitAnswer<Response> {
    let (mut parts, _) = request.into_parts();
    let query = Query::from_request_parts(&mut parts, hub).await?;
    let Some(service) = query.get("service") else { return Err(old_protocol()) };
    let caller = Caller::from_request_parts(&mut parts, hub).await?;
    let route = RepoRoute::from_request_parts(&mut parts, hub).await?;
    match service {
        "git-upload-pack" => {
            let access = caller.repo::<Read>(hub, &route.path).await?;
            advertise(hub, &caller.context, &access, protocol(&parts.headers)).await
        }
        "git-receive-pack" => push::advertise(hub, &caller, &route).await,
        other => Err(Problem::Forbidden(format!("this hub has no service '{other:.40}' for git")).into()),
    }
}

/// What can be fetched.
async fn advertise(
    hub: &Hub,
    context: &Context,
    access: &Access<Read>,
    protocol: Protocol,
) -> GitAnswer<Response> {
    let refs = hub.advertise_refs(context, access, protocol).await?;
    let line = (protocol != Protocol::V2).then(|| Ok(Bytes::from_static(SERVICE_LINE)));
    let body = guarded(hub, context, access, streamed(stream::iter(line).chain(refs).boxed()));
    Ok(answered("application/x-git-upload-pack-advertisement", body))
}

async fn upload_pack(State(hub): State<Hub>, request: Request) -> Response {
    or_refusal(fetch(&hub, request).await)
}

async fn fetch(hub: &Hub, request: Request) -> GitAnswer<Response> {
    let (mut parts, body) = request.into_parts();
    let caller = Caller::from_request_parts(&mut parts, hub).await?;
    let route = RepoRoute::from_request_parts(&mut parts, hub).await?;
    let access = caller.repo::<Read>(hub, &route.path).await?;
    has_type(&parts.headers, "application/x-git-upload-pack-request")?;
    let request = decoded(&parts.headers, body, MAX_FETCH_REQUEST_BYTES)?.map(|part| Ok(part?.bytes));
    let answer = hub.upload_pack(&caller.context, &access, protocol(&parts.headers), request).await?;
    let body = guarded(hub, &caller.context, &access, streamed(answer));
    Ok(answered("application/x-git-upload-pack-result", body))
}

/// The version of git's protocol that a client wants to speak.
fn protocol(headers: &HeaderMap) -> Protocol {
    let asked = headers.get(GIT_PROTOCOL).and_then(|value| value.to_str().ok());
    Protocol::parse(asked.unwrap_or_default())
}

/// A page in a browser cannot send this type to another origin without being asked about first.
fn has_type(headers: &HeaderMap, wanted: &'static str) -> Result<(), Problem> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if given == Some(wanted) { Ok(()) } else { Err(Problem::Invalid(format!("the body has to be {wanted}"))) }
}

fn streamed(parts: Parts) -> Body {
    Body::from_stream(parts)
}

fn answered(kind: &'static str, body: Body) -> Response {
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, NO_CACHE);
    response
}
