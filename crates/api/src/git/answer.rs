//! Refusals as git understands them: plain text, which it prints as `remote:` lines, and a challenge
//! where a credential would help, upon which it asks its user or its credential helper.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bastide_hub::Problem;
use http::{HeaderValue, StatusCode, header};

use crate::answer::{Failure, problem_response};

pub type GitAnswer<T> = Result<T, Failure>;

/// Any user name will do: the token says who it is.
const CHALLENGE: HeaderValue = HeaderValue::from_static("Basic realm=\"Bastide\", charset=\"UTF-8\"");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
/// What git asks about is different the next time.
pub const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache, max-age=0, must-revalidate");

const SIGN_IN: &str = "Sign in with any user name and a token of this hub as the password.";

/// The answer, or why there is none.
pub fn or_refusal(answer: GitAnswer<Response>) -> Response {
    match answer {
        Ok(response) => response,
        // Git follows a redirect of its first request, says so, and stays there.
        Err(moved @ Failure::Moved(_)) => moved.into_response(),
        Err(Failure::Problem(problem)) => refusal(&problem),
    }
}

fn refusal(problem: &Problem) -> Response {
    let mut response = problem_response(problem);
    let unsigned = response.status() == StatusCode::UNAUTHORIZED;
    let cure = if unsigned { format!("\n{SIGN_IN}") } else { String::new() };
    *response.body_mut() = Body::from(format!("{problem}{cure}\n"));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, TEXT);
    headers.insert(header::CACHE_CONTROL, NO_CACHE);
    headers.remove(header::CONTENT_LENGTH);
    if unsigned {
        headers.insert(header::WWW_AUTHENTICATE, CHALLENGE);
    }
    response
}

/// For clients from before 2010, which fetch a repository file by file.
pub fn old_protocol() -> Failure {
    let text = "This address is for git's smart protocol alone: use git 1.6.6 or newer, and clone the address \
        without /info/refs.";
    Problem::Forbidden(text.into()).into()
}
