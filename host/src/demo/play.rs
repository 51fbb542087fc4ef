//! Bodies that pause, break off or stay silent.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use hyper::Response;
use hyper::StatusCode;
use hyper::body::Frame;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use serde_json::Value;

/// A body as it is sent.
pub(super) type Played = UnsyncBoxBody<Bytes, Broken>;

/// The connection is to be closed here.
#[derive(Debug, thiserror::Error)]
#[error("the script says to break off")]
pub(super) struct Broken;

/// A step of a body.
pub(super) enum Step {
    Bytes(Bytes),
    Pause(Duration),
    Cut,
    Silence,
}

/// An answer that is still to be played.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// Before the head.
    pub(super) pause: Duration,
    pub(super) steps: VecDeque<Step>,
    /// Not even a head.
    pub(super) silent: bool,
}

impl Reply {
    pub(super) fn new(status: StatusCode, kind: &'static str, steps: impl IntoIterator<Item = Step>) -> Self {
        let headers = vec![(CONTENT_TYPE, HeaderValue::from_static(kind))];
        let steps = steps.into_iter().collect();
        Self { status, headers, pause: Duration::ZERO, steps, silent: false }
    }

    pub(super) fn json(status: StatusCode, body: &Value) -> Self {
        Self::new(status, "application/json", [Step::Bytes(body.to_string().into())])
    }

    pub(super) fn header(mut self, name: &'static str, value: HeaderValue) -> Self {
        self.headers.push((HeaderName::from_static(name), value));
        self
    }

    pub(super) async fn play(self) -> Result<Response<Played>, Broken> {
        if self.silent {
            std::future::pending::<()>().await;
        }
        if !self.pause.is_zero() {
            tokio::time::sleep(self.pause).await;
        }
        Ok(self.whole())
    }

    pub(super) fn whole(self) -> Response<Played> {
        let body = match only_bytes(&self.steps) {
            Some(bytes) => http_body_util::Full::new(bytes).map_err(Broken::from).boxed_unsync(),
            None => StreamBody::new(stream::unfold(self.steps, next)).boxed_unsync(),
        };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        response.headers_mut().extend(self.headers);
        response
    }
}

/// A body in one piece is sent with its length.
fn only_bytes(steps: &VecDeque<Step>) -> Option<Bytes> {
    match (steps.len(), steps.front()) {
        (1, Some(Step::Bytes(bytes))) => Some(bytes.clone()),
        _ => None,
    }
}

type Next = (Result<Frame<Bytes>, Broken>, VecDeque<Step>);

async fn next(mut steps: VecDeque<Step>) -> Option<Next> {
    loop {
        match steps.pop_front()? {
            Step::Bytes(bytes) => return Some((Ok(Frame::data(bytes)), steps)),
            Step::Pause(pause) => tokio::time::sleep(pause).await,
            Step::Cut => {
                // What was given before is then on its way.
                tokio::task::yield_now().await;
                return Some((Err(Broken), VecDeque::new()));
            }
            Step::Silence => std::future::pending().await,
        }
    }
}
