//! Errors as git-lfs reads them: its own content type, the text as `message`, the request's id, and a
//! header that says how to sign in.

use axum::body::{Body, to_bytes};
use axum::response::Response;
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::answer::X_REQUEST_ID;
use crate::lfs::LFS_JSON;

const LFS_AUTHENTICATE: HeaderName = HeaderName::from_static("lfs-authenticate");
const BASIC: HeaderValue = HeaderValue::from_static("Basic realm=\"Bastide\"");
/// Longer than any error of ours.
const MAX_ERROR_BYTES: usize = 1024 * 1024;

/// Is this an address that git-lfs asks?
pub fn is_lfs(path: &str) -> bool {
    path.starts_with("/lfs/") || path.contains("/info/lfs/")
}

/// An error of ours in the form of git-lfs; anything else as it is.
pub async fn dress(response: Response) -> Response {
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let bytes = to_bytes(body, MAX_ERROR_BYTES).await.unwrap_or_default();
    let mut value: Value = serde_json::from_slice(&bytes).unwrap_or_else(|_| json!({}));
    if let Some(fields) = value.as_object_mut() {
        let message = fields.get("error").cloned().unwrap_or_else(|| json!(status.to_string()));
        fields.entry("message").or_insert(message);
        let id = parts.headers.get(X_REQUEST_ID).and_then(|id| id.to_str().ok());
        fields.insert("request_id".to_owned(), json!(id.unwrap_or_default()));
    }
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(LFS_JSON));
    parts.headers.remove(header::CONTENT_LENGTH);
    if status == StatusCode::UNAUTHORIZED {
        parts.headers.insert(LFS_AUTHENTICATE, BASIC);
    }
    Response::from_parts(parts, Body::from(value.to_string()))
}
