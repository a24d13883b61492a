//! Requests straight into the router.

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;

/// Somebody who asks: anonymous, or with a token.
#[derive(Clone)]
pub struct Client {
    router: axum::Router,
    pub token: Option<String>,
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    /// The body as JSON; `Null` when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The reply, if it has this status; a failed test that shows the body otherwise.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        self
    }
}

impl Client {
    pub(crate) fn new(router: axum::Router, token: Option<String>) -> Self {
        Self { router, token }
    }

    /// The same router, with another token text.
    pub fn with_token(&self, token: &str) -> Self {
        Self { router: self.router.clone(), token: Some(token.to_owned()) }
    }

    pub async fn get(&self, uri: &str) -> Reply {
        self.send(Method::GET, uri, &[], Body::empty()).await
    }

    pub async fn head(&self, uri: &str) -> Reply {
        self.send(Method::HEAD, uri, &[], Body::empty()).await
    }

    pub async fn get_with(&self, uri: &str, headers: &[(&str, &str)]) -> Reply {
        self.send(Method::GET, uri, headers, Body::empty()).await
    }

    pub async fn post(&self, uri: &str, json: Value) -> Reply {
        self.json(Method::POST, uri, json).await
    }

    pub async fn put(&self, uri: &str, json: Value) -> Reply {
        self.json(Method::PUT, uri, json).await
    }

    pub async fn delete(&self, uri: &str, json: Value) -> Reply {
        self.json(Method::DELETE, uri, json).await
    }

    async fn json(&self, method: Method, uri: &str, json: Value) -> Reply {
        let headers = [("content-type", "application/json")];
        self.send(method, uri, &headers, Body::from(json.to_string())).await
    }

    /// A good answer's body, unread.
    pub async fn open(&self, uri: &str) -> Body {
        let response = self.answer(Method::GET, uri, &[], Body::empty()).await;
        assert!(response.status().is_success(), "{}", response.status());
        response.into_body()
    }

    /// The same for any request.
    pub async fn begin(&self, method: Method, uri: &str, headers: &[(&str, &str)], body: Body) -> Body {
        let response = self.answer(method, uri, headers, body).await;
        assert!(response.status().is_success(), "{}", response.status());
        response.into_body()
    }

    pub async fn send(&self, method: Method, uri: &str, headers: &[(&str, &str)], body: Body) -> Reply {
        let (parts, body) = self.answer(method, uri, headers, body).await.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        Reply { status: parts.status, headers: parts.headers, body }
    }

    async fn answer(
        &self,
        method: Method,
        uri: &str,
        headers: &[(&str, &str)],
        body: Body,
    ) -> http::Response<Body> {
        let mut request = Request::builder().method(method).uri(uri);
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body).expect("a request that can be built");
        self.router.clone().oneshot(request).await.expect("the router always answers")
    }
}
