//! What a handler leaves unread of a request's body. An answer that comes before the body does
//! would leave the connection in the middle of it, and the next request on it would fail without
//! a word: a small rest is read, and otherwise the answer says that the connection ends.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, BodyDataStream, HttpBody};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderValue, Version, header};

/// So much is read that nobody wants, and for so long.
const MAX_REST_BYTES: u64 = 64 * 1024;
const MAX_REST_TIME: Duration = Duration::from_secs(1);

type Shared = Arc<Mutex<BodyDataStream>>;

pub async fn read_or_close(request: Request, next: Next) -> Response {
    let one_at_a_time = matches!(request.version(), Version::HTTP_10 | Version::HTTP_11);
    if !one_at_a_time || request.body().is_end_stream() {
        return next.run(request).await;
    }
    let worth_reading = is_small(request.headers());
    let (parts, body) = request.into_parts();
    let shared: Shared = Arc::new(Mutex::new(body.into_data_stream()));
    let mut response = next.run(Request::from_parts(parts, lent(&shared))).await;
    // Somebody still reads it: an answer that comes while the body does.
    let Some(rest) = Arc::into_inner(shared) else { return response };
    let rest = rest.into_inner().unwrap_or_else(PoisonError::into_inner);
    let finished = rest.is_end_stream() || worth_reading && read(rest).await;
    if !finished {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The body as a handler gets it.
fn lent(shared: &Shared) -> Body {
    let shared = Arc::clone(shared);
    Body::from_stream(stream::poll_fn(move |context| {
        shared.lock().unwrap_or_else(PoisonError::into_inner).poll_next_unpin(context)
    }))
}

/// Whoever waits for our word before sending is better off without it.
fn is_small(headers: &HeaderMap) -> bool {
    let length =
        headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    !headers.contains_key(header::EXPECT) && length.is_none_or(|length| length <= MAX_REST_BYTES)
}

/// Reads up to the end; false when that is too far away.
async fn read(mut rest: BodyDataStream) -> bool {
    let all = async {
        let mut bytes = 0;
        while let Some(part) = rest.next().await {
            let Ok(part) = part else { return false };
            bytes += part.len() as u64;
            if bytes > MAX_REST_BYTES {
                return false;
            }
        }
        true
    };
    tokio::time::timeout(MAX_REST_TIME, all).await.unwrap_or(false)
}
