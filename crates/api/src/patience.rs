//! Bodies that come slowly: a request holds a connection, and what its handler needs, for as long as its body comes.
//! Only the time counts in which we wait for the client.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

/// How long a client may send nothing of a body, and how long we wait for it in all: so long, and a second more for so
/// many bytes.
const PATIENCE: Duration = Duration::from_secs(60);
const LEAST_BYTES_PER_SECOND: u64 = 4 * 1024;

/// The same body, which fails when it comes too slowly.
pub fn patient(body: Body) -> Body {
    if body.is_end_stream() { body } else { Body::new(Patient::new(body, PATIENCE)) }
}

struct Patient {
    body: Body,
    patience: Duration,
    waited: Duration,
    bytes: u64,
    /// Since when we wait, and until when.
    wait: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl Patient {
    const fn new(body: Body, patience: Duration) -> Self {
        Self { body, patience, waited: Duration::ZERO, bytes: 0, wait: None }
    }

    /// How long it may be now.
    fn left(&self) -> Duration {
        let earned = Duration::from_millis(self.bytes.saturating_mul(1000) / LEAST_BYTES_PER_SECOND);
        (self.patience + earned).saturating_sub(self.waited).min(self.patience)
    }
}

impl HttpBody for Patient {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            if let Some((since, _)) = self.wait.take() {
                self.waited += since.elapsed();
            }
            let bytes = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref().map(Bytes::len));
            self.bytes += bytes.unwrap_or(0) as u64;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let left = self.left();
        let (_, end) = self.wait.get_or_insert_with(|| (Instant::now(), Box::pin(sleep(left))));
        match end.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                let slow = "the body of the request came too slowly";
                Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::TimedOut, slow).into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use http_body_util::BodyExt;

    const SHORT: Duration = Duration::from_millis(200);

    /// How many parts come, one every so often, and at most so many.
    async fn parts(length: usize, every: Duration, most: usize) -> usize {
        let part = move |sent: usize| async move {
            tokio::time::sleep(every).await;
            (sent < most).then(|| (io::Result::Ok(Bytes::from(vec![7; length])), sent + 1))
        };
        let mut body = Patient::new(Body::from_stream(stream::unfold(0, part)), SHORT);
        let mut came = 0;
        while let Some(Ok(_)) = body.frame().await {
            came += 1;
        }
        came
    }

    #[tokio::test]
    async fn who_sends_nothing_or_trickles_is_left_and_who_is_slow_is_not() {
        let silent = Body::from_stream(stream::pending::<io::Result<Bytes>>());
        assert!(Patient::new(silent, SHORT).collect().await.is_err());
        assert_eq!(patient(Body::from("all")).collect().await.unwrap().to_bytes(), "all");
        assert!((1..9).contains(&parts(1, SHORT / 5, 1000).await), "a byte now and then");
        assert_eq!(parts(1024, SHORT / 5, 20).await, 20, "slow, and fast enough");
        assert_eq!(parts(1 << 20, SHORT * 2, 20).await, 0, "a long pause, however much came");
    }

    #[test]
    fn time_is_earned_by_what_has_come() {
        let patient = |bytes, waited| Patient { bytes, waited, ..Patient::new(Body::empty(), PATIENCE) };
        assert_eq!(patient(LEAST_BYTES_PER_SECOND * 7, PATIENCE).left(), Duration::from_secs(7));
        assert_eq!(patient(0, PATIENCE).left(), Duration::ZERO);
        assert_eq!(patient(u64::MAX, Duration::ZERO).left(), PATIENCE);
    }

    #[tokio::test]
    async fn a_handler_that_takes_its_time_is_no_slow_client() {
        let parts = stream::iter((0..3).map(|_| io::Result::Ok(Bytes::from_static(b"part"))));
        let mut body = Patient::new(Body::from_stream(parts), SHORT);
        let mut came = 0;
        while let Some(Ok(_)) = body.frame().await {
            tokio::time::sleep(SHORT * 2).await;
            came += 1;
        }
        assert_eq!(came, 3);
    }
}
