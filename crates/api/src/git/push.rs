//! `git push`: the routes are served here, everything is decided in `hub::push`.

use axum::body::Body;
use axum::extract::{FromRequestParts, Request, State};
use axum::response::Response;
use bastide_hub::Hub;
use bastide_hub::access::Propose;
use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderValue, header};

use super::answer::{GitAnswer, NO_CACHE, or_refusal};
use super::body::decoded;
use crate::extract::{Caller, RepoRoute};

const ADVERTISEMENT: &str = "application/x-git-receive-pack-advertisement";
const REQUEST: &str = "application/x-git-receive-pack-request";
const RESULT: &str = "application/x-git-receive-pack-result";
/// What comes around the pack: the commands, and some room.
const COMMAND_BYTES: u64 = 64 * 1024 * 1024;
/// So much more than the largest pack is read, so that the client is there to be told.
const EXCESS: u64 = 2;

/// What somebody who wants to push is told at first.
pub async fn advertise(hub: &Hub, caller: &Caller, route: &RepoRoute) -> GitAnswer<Response> {
    let access = caller.repo::<Propose>(hub, &route.path).await?;
    Ok(answered(ADVERTISEMENT, Body::from(hub.advertise_push(&access).await?)))
}

pub async fn receive_pack(State(hub): State<Hub>, request: Request) -> Response {
    or_refusal(receive(&hub, request).await)
}

async fn receive(hub: &Hub, request: Request) -> GitAnswer<Response> {
    let (mut parts, body) = request.into_parts();
    let caller = Caller::from_request_parts(&mut parts, hub).await?;
    let route = RepoRoute::from_request_parts(&mut parts, hub).await?;
    let access = caller.repo::<Propose>(hub, &route.path).await?;
    super::has_type(&parts.headers, REQUEST)?;
    let limit = hub.config.max_push_bytes.saturating_mul(EXCESS).saturating_add(COMMAND_BYTES);
    let push = hub.receive_push(&caller.context, &access, decoded(&parts.headers, body, limit)?).await?;
    let answer = hub.finish_push(&caller.context, &access, push);
    Ok(answered(RESULT, Body::from_stream(answer.map(Ok::<Bytes, std::convert::Infallible>))))
}

fn answered(kind: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(header::CACHE_CONTROL, NO_CACHE);
    response
}
