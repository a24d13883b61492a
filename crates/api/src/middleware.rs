//! What every request passes: a request id, headers for browsers, redirects of moved
//! repositories, one log line, and a net for panics.

use std::net::SocketAddr;
use std::time::Instant;

use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use bastide_core::RepoPath;
use bastide_hub::{Hub, Problem};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use tower_http::catch_panic::CatchPanicLayer;

use crate::answer::{Moved, X_REQUEST_ID, header_text, problem_response};
use crate::client_address::client_address;
use crate::lfs_errors;
use crate::patience::patient;

const X_AMZN_TRACE_ID: HeaderName = HeaderName::from_static("x-amzn-trace-id");
/// So much is kept of the id that a client gives its request.
const MAX_REQUEST_ID: usize = 128;

const EXPOSED_HEADERS: &str = "X-Repo-Commit,X-Request-Id,X-Error-Code,X-Error-Message,X-Total-Count,ETag,Link,\
    Accept-Ranges,Content-Range,X-Linked-Size,X-Linked-Etag,X-Xet-Access-Token,X-Xet-Token-Expiration,\
    X-Xet-Refresh-Route,X-Xet-Cas-Url,X-Xet-Hash";

const PREFLIGHT_METHODS: &str = "GET, HEAD, POST, PUT, DELETE";
/// Every header, and the one that `*` leaves out.
const PREFLIGHT_HEADERS: &str = "*, Authorization";
const PREFLIGHT_SECONDS: u64 = 3600;

/// The id of a request, as logs and events carry it: always one of ours, with the client's behind
/// it, so that nobody can write under the id of somebody else.
#[derive(Debug, Clone)]
pub struct RequestId(pub String);

/// The address of this hub as the client wrote it, where that may be repeated.
#[derive(Debug, Clone)]
pub struct HubUrl(pub String);

pub fn wrap(router: Router<Hub>, hub: &Hub) -> Router<Hub> {
    router
        // Each handler has its own limit: commits and files are far larger than the default.
        .layer(DefaultBodyLimit::disable())
        .layer(CatchPanicLayer::custom(|_| problem_response(&Problem::internal("a handler panicked"))))
        .layer(from_fn_with_state(hub.clone(), every_request))
}

/// What pages pass as well.
pub fn wrap_all(router: Router) -> Router {
    router.layer(from_fn(request_id)).layer(from_fn(crate::unread::read_or_close))
}

async fn request_id(request: Request, next: Next) -> Response {
    let (ours, shown) = choose_id(request.headers());
    let mut request = request.map(patient);
    request.extensions_mut().insert(RequestId(ours));
    let asks_lfs = lfs_errors::is_lfs(request.uri().path());
    let mut response = next.run(request).await;
    response.headers_mut().insert(X_REQUEST_ID, shown);
    if asks_lfs { lfs_errors::dress(response).await } else { response }
}

/// The id that we keep, and the one that the answer carries: the client's own unchanged, or one
/// that holds its trace id.
fn choose_id(headers: &HeaderMap) -> (String, HeaderValue) {
    let kept = |value: &HeaderValue| -> String {
        value.to_str().unwrap_or_default().chars().take(MAX_REQUEST_ID).collect()
    };
    let mut random = [0; 12];
    let _ = getrandom::fill(&mut random);
    let fresh: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let given = |name: &HeaderName| headers.get(name).filter(|value| !value.is_empty());
    if let Some(id) = given(&X_REQUEST_ID) {
        return (format!("{fresh};{}", kept(id)), id.clone());
    }
    let id = given(&X_AMZN_TRACE_ID)
        .map_or_else(|| fresh.clone(), |trace| format!("Root=1-{fresh};{}", kept(trace)));
    let shown = header_text(&id);
    (id, shown)
}

async fn every_request(State(hub): State<Hub>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let (method, uri) = (request.method().clone(), request.uri().clone());
    if is_preflight(&request) {
        return preflight();
    }
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| uri.authority().map(Authority::as_str));
    if let Some(url) = hub.config.url_for_host(host) {
        request.extensions_mut().insert(HubUrl(url));
    }
    if let Some(ConnectInfo(peer)) = request.extensions().get::<ConnectInfo<SocketAddr>>().copied() {
        let client = client_address(peer.ip(), request.headers(), &hub.config.trusted_proxies);
        request.extensions_mut().insert(ConnectInfo(SocketAddr::new(client, peer.port())));
    }
    let mut response = next.run(request).await;
    if let Some(Moved(from, to)) = response.extensions_mut().remove::<Moved>() {
        response = redirect(&uri, &from, &to);
    }
    browser_headers(response.headers_mut());
    // The path alone: queries can carry signatures.
    tracing::debug!(%method, path = uri.path(), status = response.status().as_u16(), took = ?started.elapsed());
    response
}

fn is_preflight(request: &Request) -> bool {
    *request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ORIGIN)
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

fn preflight() -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    browser_headers(headers);
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(PREFLIGHT_METHODS));
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(PREFLIGHT_HEADERS));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from(PREFLIGHT_SECONDS));
    response
}

/// 307 with a relative address: clients keep their host and query and take the path only.
fn redirect(uri: &Uri, from: &RepoPath, to: &RepoPath) -> Response {
    let prefix = if uri.path().starts_with("/api/") {
        format!("/api/{}/", from.kind.plural())
    } else {
        format!("/{}", from.kind.url_prefix())
    };
    let rest = uri.path().strip_prefix(&prefix).unwrap_or_default();
    // Past the namespace and the name, whatever way they were written.
    let after = rest.splitn(3, '/').nth(2).map(|tail| format!("/{tail}")).unwrap_or_default();
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let location = format!("{prefix}{}{after}{query}", to.id());
    let mut response = StatusCode::TEMPORARY_REDIRECT.into_response();
    response.headers_mut().insert(header::LOCATION, header_text(&location));
    response
}

/// Lets scripts of any page read answers to what they asked themselves. They get nothing that
/// their own token does not open: browsers add no credential here, and `*` forbids them to.
/// Besides: names the encoding of JSON, and keeps browsers from guessing types.
fn browser_headers(headers: &mut HeaderMap) {
    const JSON: &str = "application/json";
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED_HEADERS));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if headers.get(header::CONTENT_TYPE).is_some_and(|value| value == JSON) {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bastide_core::RepoKind;

    #[test]
    fn redirects_keep_the_rest_of_the_address_as_it_was_written() {
        let path = |kind, id| RepoPath::parse(kind, id).unwrap();
        let location = |uri: &str, kind, from, to| {
            let response = redirect(&uri.parse().unwrap(), &path(kind, from), &path(kind, to));
            response.headers()[header::LOCATION].to_str().unwrap().to_owned()
        };
        assert_eq!(
            location(
                "/api/models/ANN/old/tree/refs%2Fpr%2F1?recursive=true",
                RepoKind::Model,
                "ANN/old",
                "ann/new"
            ),
            "/api/models/ann/new/tree/refs%2Fpr%2F1?recursive=true"
        );
        assert_eq!(location("/datasets/a1/b", RepoKind::Dataset, "a1/b", "c1/d"), "/datasets/c1/d");
        assert_eq!(
            location("/a1/b/resolve/main/a%20b", RepoKind::Model, "a1/b", "c1/d"),
            "/c1/d/resolve/main/a%20b"
        );
    }
}
