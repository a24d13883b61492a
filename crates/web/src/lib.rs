//! The pages. For now there is one: where this hub is and what to do next.

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bastide_hub::Hub;

const POLICY: &str =
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'";

pub fn router(hub: Hub) -> Router {
    Router::new().route("/", get(home)).route("/static/style.css", get(style)).with_state(hub)
}

#[derive(Template)]
#[template(path = "home.html")]
struct Home<'a> {
    url: &'a str,
    data: String,
    empty: bool,
}

async fn home(State(hub): State<Hub>) -> Response {
    let empty = match hub.is_empty().await {
        Ok(empty) => empty,
        Err(_) => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
    };
    let page = Home { url: &hub.config.public_url, data: hub.config.data.display().to_string(), empty };
    match page.render() {
        Ok(html) => with_headers(html, "text/html; charset=utf-8"),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn style() -> Response {
    with_headers(include_str!("../templates/style.css").to_owned(), "text/css; charset=utf-8")
}

fn with_headers(body: String, kind: &'static str) -> Response {
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}
