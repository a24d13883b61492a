//! How problems look on the wire: status, `X-Error-Code`, `X-Error-Message` and a JSON body.
//! Clients decide by the headers and show the texts.

use axum::extract::{FromRequestParts, Request, State};
use axum::response::{IntoResponse, Response};
use bastide_core::{RepoKind, RepoPath};
use bastide_hub::{Hub, Problem};
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use serde_json::json;

use crate::extract::Caller;

pub const X_ERROR_CODE: HeaderName = HeaderName::from_static("x-error-code");
pub const X_ERROR_MESSAGE: HeaderName = HeaderName::from_static("x-error-message");
pub const X_REPO_COMMIT: HeaderName = HeaderName::from_static("x-repo-commit");
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What went wrong with a request, in the form that handlers return.
#[derive(Debug)]
pub enum Failure {
    Problem(Problem),
    /// The repository is at another path, or spelled otherwise: the middleware, which knows the
    /// whole address, answers with a redirect.
    Moved(Box<(RepoPath, RepoPath)>),
}

pub type Answer<T> = Result<T, Failure>;

impl<P: Into<Problem>> From<P> for Failure {
    fn from(problem: P) -> Self {
        Self::Problem(problem.into())
    }
}

/// Marks a response that `middleware` turns into a redirect from the first to the second path.
#[derive(Debug, Clone)]
pub struct Moved(pub RepoPath, pub RepoPath);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        match self {
            Self::Problem(problem) => problem_response(&problem),
            Self::Moved(paths) => {
                let mut response = StatusCode::TEMPORARY_REDIRECT.into_response();
                response.extensions_mut().insert(Moved(paths.0, paths.1));
                response
            }
        }
    }
}

/// Status and error code of a problem.
const fn classify(problem: &Problem) -> (StatusCode, Option<&'static str>) {
    use StatusCode as S;
    match problem {
        Problem::BadToken | Problem::SignInNeeded => (S::UNAUTHORIZED, None),
        Problem::RepoNotFound { anonymous: true } => (S::UNAUTHORIZED, Some("RepoNotFound")),
        Problem::RepoNotFound { anonymous: false } | Problem::Moved { .. } => {
            (S::NOT_FOUND, Some("RepoNotFound"))
        }
        Problem::RevisionNotFound(_) => (S::NOT_FOUND, Some("RevisionNotFound")),
        Problem::EntryNotFound { .. } => (S::NOT_FOUND, Some("EntryNotFound")),
        Problem::Gated { anonymous: true, .. } => (S::UNAUTHORIZED, Some("GatedRepo")),
        Problem::Gated { anonymous: false, .. } => (S::FORBIDDEN, Some("GatedRepo")),
        Problem::Disabled | Problem::Forbidden(_) => (S::FORBIDDEN, None),
        Problem::NotFound(_) | Problem::NotServed(_) => (S::NOT_FOUND, None),
        Problem::Invalid(_) => (S::BAD_REQUEST, None),
        Problem::Unprocessable(_) => (S::UNPROCESSABLE_ENTITY, None),
        Problem::Exists { .. } | Problem::CollectionExists { .. } | Problem::Conflict { .. } => {
            (S::CONFLICT, None)
        }
        Problem::Quota(_) => (S::PAYMENT_REQUIRED, None),
        Problem::TooMany { .. } => (S::TOO_MANY_REQUESTS, None),
        Problem::Stale => (S::PRECONDITION_FAILED, None),
        Problem::Range { .. } => (S::RANGE_NOT_SATISFIABLE, None),
        Problem::TooLarge(_) => (S::PAYLOAD_TOO_LARGE, None),
        Problem::Full => (S::INSUFFICIENT_STORAGE, None),
        Problem::Busy { .. } => (S::SERVICE_UNAVAILABLE, None),
        Problem::Internal(_) => (S::INTERNAL_SERVER_ERROR, None),
    }
}

pub fn problem_response(problem: &Problem) -> Response {
    let (status, code) = classify(problem);
    if let Problem::Internal(detail) = problem {
        tracing::error!(detail, "internal error");
    }
    let text = problem.to_string();
    let mut body = json!({ "error": text });
    if let (Problem::Exists { url: Some(url), .. }, Some(body)) = (problem, body.as_object_mut()) {
        body.insert("url".to_owned(), json!(url));
    }
    if let (Problem::Conflict { paths, .. }, Some(body)) = (problem, body.as_object_mut())
        && !paths.is_empty()
    {
        body.insert("filesWithConflicts".to_owned(), json!(paths));
    }
    if let (Problem::CollectionExists { slug }, Some(body)) = (problem, body.as_object_mut()) {
        body.insert("slug".to_owned(), json!(slug));
    }
    let mut response = (status, axum::Json(body)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    let short: String = text.chars().take(MAX_MESSAGE_CHARS).collect();
    headers.insert(X_ERROR_MESSAGE, header_text(&short));
    if let Some(code) = code {
        headers.insert(X_ERROR_CODE, HeaderValue::from_static(code));
    }
    match problem {
        Problem::EntryNotFound { commit: Some(commit), .. } => {
            headers.insert(X_REPO_COMMIT, header_text(&commit.to_string()));
        }
        Problem::Range { size } => {
            headers.insert(header::CONTENT_RANGE, header_text(&format!("bytes */{size}")));
        }
        Problem::Busy { seconds } | Problem::TooMany { seconds, .. } => {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(*seconds));
        }
        _ => {}
    }
    response
}

/// Longest message in a header; the body has all of it. Clients give up on answers whose headers are
/// long, and a message can hold what somebody sent.
const MAX_MESSAGE_CHARS: usize = 1024;

/// Text as a header value: lines become one, and what HTTP does not allow there becomes `?`.
pub fn header_text(text: &str) -> HeaderValue {
    let safe = |c: char| match c {
        '\n' | '\r' | '\t' => ' ',
        c if c.is_ascii_graphic() || c == ' ' => c,
        _ => '?',
    };
    let safe: String = text.chars().map(safe).collect();
    HeaderValue::from_str(&safe).unwrap_or_else(|_| HeaderValue::from_static("?"))
}

/// Text as HTML: nothing in it is markup.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

/// A route that we do not serve: honest, and not a 5xx, which clients would repeat.
pub async fn no_such_route(State(hub): State<Hub>, request: Request) -> Answer<Response> {
    let (mut parts, _) = request.into_parts();
    if names_repo_without_namespace(parts.uri.path()) {
        let caller = Caller::from_request_parts(&mut parts, &hub).await?;
        return Err(Problem::RepoNotFound { anonymous: caller.context.is_anonymous() }.into());
    }
    if parts.method == Method::GET && crate::git::is_old_protocol(parts.uri.path()) {
        return Ok(crate::git::old_protocol_refused());
    }
    let text = format!("this hub does not serve {} {}", parts.method, parts.uri.path());
    Err(Problem::NotFound(text).into())
}

/// `gpt2` where an id has to be: here every repository has a namespace, so that one is missing.
fn names_repo_without_namespace(path: &str) -> bool {
    const VERBS: &[&str] =
        &["revision", "tree", "refs", "commits", "paths-info", "preupload", "commit", "treesize"];
    const FILES: &[&str] = &["resolve", "raw"];
    /// Addresses of the wire that look like ids.
    const NO_IDS: &[&str] = &["templates", "semantic-search", "hardware"];
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let is_kind = |text: &str| RepoKind::from_plural(text).is_some();
    match segments.as_slice() {
        ["api", kind, name] => is_kind(kind) && !NO_IDS.contains(name),
        ["api", kind, _, verb, ..] => is_kind(kind) && VERBS.contains(verb),
        ["api" | "xet" | "lfs", ..] => false,
        [kind, _, verb, _, ..] if is_kind(kind) => FILES.contains(verb),
        [_, verb, _, ..] => FILES.contains(verb),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_without_a_namespace_are_known_by_their_place() {
        for path in [
            "/api/models/gpt2",
            "/api/datasets/squad/tree/main/x",
            "/api/models/gpt2/revision/main",
            "/gpt2/resolve/main/config.json",
            "/datasets/squad/resolve/main/a/b",
        ] {
            assert!(names_repo_without_namespace(path), "{path}");
        }
        for path in ["/api/tasks", "/api/models", "/api/nothing/gpt2", "/gpt2", "/api/models/a1/b/like", "/"]
        {
            assert!(!names_repo_without_namespace(path), "{path}");
        }
    }

    #[test]
    fn a_text_of_several_lines_is_one_header() {
        assert_eq!(header_text("a\nb\r\nc ü"), "a b  c ?");
    }
}
