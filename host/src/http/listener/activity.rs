//! How much is going on on a connection, and whether it is for us or for the client to go on.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

#[derive(Default)]
pub(super) struct Activity {
    /// Requests that have begun, and parts of streams that were handed over.
    begun: AtomicUsize,
    /// Requests without an answer yet, and streams whose next part is not there yet.
    waiting: AtomicUsize,
    /// Those among the waiting that are relayed.
    relaying: AtomicUsize,
}

impl Activity {
    /// What has begun until now, and whether anything waits for us.
    pub(super) fn look(&self) -> (usize, bool) {
        (self.begun.load(Ordering::Relaxed), self.waiting.load(Ordering::Relaxed) > 0)
    }

    /// Whether an upstream works for the client.
    pub(super) fn is_relaying(&self) -> bool {
        self.relaying.load(Ordering::Relaxed) > 0
    }
}

/// Something that waits for us, counted as long as this lives.
pub(super) struct Waiting {
    activity: Arc<Activity>,
    relayed: bool,
}

impl Waiting {
    pub(super) fn begin(activity: &Arc<Activity>, relayed: bool) -> Self {
        activity.begun.fetch_add(1, Ordering::Relaxed);
        Self::on(activity, relayed)
    }

    fn on(activity: &Arc<Activity>, relayed: bool) -> Self {
        activity.waiting.fetch_add(1, Ordering::Relaxed);
        activity.relaying.fetch_add(relayed.into(), Ordering::Relaxed);
        Self { activity: activity.clone(), relayed }
    }

    /// The answer is there. One of unknown length is followed to its end.
    pub(super) fn answered(self, response: Response) -> Response {
        if response.body().size_hint().exact().is_some() {
            return response;
        }
        let (activity, relayed) = (self.activity.clone(), self.relayed);
        response.map(|body| Body::new(Followed { body, activity, relayed, waiting: Some(self) }))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.activity.relaying.fetch_sub(self.relayed.into(), Ordering::Relaxed);
        self.activity.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A stream. As long as its next part is not there it waits for us, else for the client to read.
struct Followed {
    body: Body,
    activity: Arc<Activity>,
    relayed: bool,
    waiting: Option<Waiting>,
}

impl HttpBody for Followed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Pending if self.waiting.is_none() => {
                self.waiting = Some(Waiting::on(&self.activity, self.relayed));
            }
            Poll::Pending => {}
            Poll::Ready(_) => {
                self.activity.begun.fetch_add(1, Ordering::Relaxed);
                self.waiting = None;
            }
        }
        polled
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
    use futures::{StreamExt as _, stream};
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn a_stream_waits_for_us_until_its_next_part_is_there_and_then_for_the_client() {
        let activity = Arc::new(Activity::default());
        let (parts, read) = futures::channel::mpsc::unbounded::<&'static str>();
        let body = Body::from_stream(read.map(Ok::<_, std::io::Error>));
        let mut body = Waiting::begin(&activity, true).answered(Response::new(body)).into_body();
        assert_eq!((activity.look(), activity.is_relaying()), ((1, true), true));
        parts.unbounded_send("a").unwrap();
        body.frame().await.unwrap().unwrap();
        assert_eq!((activity.look(), activity.is_relaying()), ((2, false), false));
        let next = futures::poll!(body.frame());
        assert!(next.is_pending());
        assert_eq!((activity.look(), activity.is_relaying()), ((2, true), true));
        drop(body);
        assert_eq!((activity.look(), activity.is_relaying()), ((2, false), false));
        let whole = Body::from_stream(stream::empty::<std::io::Result<Bytes>>());
        drop(Waiting::begin(&activity, false).answered(Response::new(whole)));
        drop(Waiting::begin(&activity, false).answered(Response::new(Body::from("whole"))));
        assert_eq!(activity.look(), (4, false));
    }
}
