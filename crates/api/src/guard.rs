//! Answers that last: while a body is sent, its reader's credential and rights are looked at again,
//! so that a download under way ends with the token that began it.

use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bastide_hub::access::{Access, Level};
use bastide_hub::{Context, Hub, Problem};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::Instant;

/// How long a reader is believed without another look.
const BELIEVED: Duration = Duration::from_secs(1);

type Check = Pin<Box<dyn Future<Output = Result<(), Problem>> + Send>>;

struct Guarded<B> {
    body: B,
    look: Box<dyn Fn() -> Check + Send>,
    under_way: Option<Check>,
    looked_at: Instant,
    refused: bool,
}

/// The same body, for as long as its reader may have it.
pub fn guarded<B, L>(hub: &Hub, context: &Context, access: &Access<L>, body: B) -> Body
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<axum::BoxError>,
    L: Level,
{
    let (hub, context, access) = (hub.clone(), context.clone(), access.clone());
    let look = Box::new(move || -> Check {
        let (hub, context, access) = (hub.clone(), context.clone(), access.clone());
        Box::pin(async move { hub.still_allowed(&context, &access).await })
    });
    Body::new(Guarded { body, look, under_way: None, looked_at: Instant::now(), refused: false })
}

impl<B> Guarded<B> {
    /// Ready when the reader may have the next part.
    fn poll_allowed(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), Problem>> {
        if self.under_way.is_none() && self.looked_at.elapsed() >= BELIEVED {
            self.under_way = Some((self.look)());
        }
        if let Some(check) = &mut self.under_way {
            let allowed = ready!(check.as_mut().poll(cx));
            self.under_way = None;
            self.looked_at = Instant::now();
            return Poll::Ready(allowed);
        }
        Poll::Ready(Ok(()))
    }
}

impl<B> http_body::Body for Guarded<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<axum::BoxError>,
{
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        if self.refused {
            return Poll::Ready(None);
        }
        if let Err(problem) = ready!(self.poll_allowed(cx)) {
            self.refused = true;
            return Poll::Ready(Some(Err(problem.to_string().into())));
        }
        Pin::new(&mut self.body).poll_frame(cx).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
