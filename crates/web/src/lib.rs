//! The pages. For now there is one: where this hub is and what to do next.

mod steps;

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bastide_hub::Hub;

pub use steps::Steps;

/// Nothing from elsewhere, no scripts, no forms, in no frame.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

const HEADERS: [(HeaderName, HeaderValue); 5] = [
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    // A page that said "make an admin" is not true any more once there is one.
    (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
];

pub fn router(hub: Hub, steps: Steps) -> Router {
    Router::new()
        .route("/", get(home))
        .route("/static/style.css", get(style))
        .route("/static/mark.svg", get(mark))
        .with_state((hub, Arc::new(steps)))
}

#[derive(Template)]
#[template(path = "home.html")]
struct Home<'a> {
    steps: &'a Steps,
    empty: bool,
}

async fn home(State((hub, steps)): State<(Hub, Arc<Steps>)>, headers: HeaderMap) -> Response {
    let Ok(empty) = hub.is_empty().await else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let url = hub.config.url_for_host(host).unwrap_or_else(|| steps.url.clone());
    let steps = Steps { url, ..steps.as_ref().clone() };
    match (Home { steps: &steps, empty }).render() {
        Ok(html) => with_headers(html, "text/html; charset=utf-8"),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn style() -> Response {
    with_headers(include_str!("../templates/style.css"), "text/css; charset=utf-8")
}

async fn mark() -> Response {
    with_headers(include_str!("../templates/mark.svg"), "image/svg+xml")
}

fn with_headers(body: impl IntoResponse, kind: &'static str) -> Response {
    let mut response = body.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().extend(HEADERS);
    response
}
