//! A stream on its way to the client: its bytes unchanged and at once, and read beside.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body as _, Frame, Incoming};
use tokio::time::{Instant, Sleep};
use tracing::debug;

use super::bill::Bill;
use super::refusal::Refusal;
use crate::accounts::Upstream;
use crate::usage::Meter;

/// The upstream has broken the stream off where nothing can be added: the client's connection ends with it.
#[derive(Debug, thiserror::Error)]
#[error("the upstream has broken off its answer")]
pub struct Broken;

/// A stream of events that goes by. Dropped early, it counts what has gone by.
pub struct Relayed {
    upstream: Incoming,
    /// What was read before the head went out.
    first: Option<Bytes>,
    meter: Meter,
    bill: Option<Bill>,
    boundary: Boundary,
    silence: Duration,
    last: Instant,
    waiting: Pin<Box<Sleep>>,
    ended: bool,
    request_id: String,
    /// Counts as under way at its account as long as the stream does.
    _account: Upstream,
}

impl Relayed {
    /// `silence`: how long the upstream may say nothing.
    pub(super) fn new(
        (first, upstream): (Bytes, Incoming),
        account: Upstream,
        bill: Option<Bill>,
        silence: Duration,
        request_id: String,
    ) -> Self {
        let last = Instant::now();
        Self {
            upstream,
            first: Some(first),
            meter: Meter::new(),
            bill,
            boundary: Boundary::default(),
            silence,
            last,
            waiting: Box::pin(tokio::time::sleep_until(last + silence)),
            ended: false,
            request_id,
            _account: account,
        }
    }

    fn pass(&mut self, bytes: &Bytes) {
        self.meter.feed(bytes);
        self.boundary.feed(bytes);
        if let Some(bill) = &mut self.bill {
            bill.seen(self.meter.seen());
        }
    }

    fn finish(&mut self) {
        self.ended = true;
        if let Some(bill) = self.bill.take() {
            bill.finish(self.meter.seen());
        }
    }

    /// The upstream has broken off. Between two events the client is told so in one more; within an event its
    /// connection ends as the upstream's did, so that it never takes the half for a whole.
    fn break_off(&mut self, why: &'static str) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        debug!(why, "a stream was broken off");
        self.finish();
        if !self.boundary.is_between_events() {
            return Poll::Ready(Some(Err(Broken)));
        }
        let message = format!("{why} Nothing is wrong with your key; try again.");
        let body = Refusal::new(502, "upstream_broke_off", message).body(&self.request_id);
        let event = format!("event: error\ndata: {body}\n\n");
        Poll::Ready(Some(Ok(Frame::data(event.into()))))
    }

    /// Wakes when the upstream has said nothing for too long.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.waiting.as_mut().poll(cx).is_ready() {
            let until = self.last + self.silence;
            if until <= Instant::now() {
                return Poll::Ready(());
            }
            self.waiting.as_mut().reset(until);
        }
        Poll::Pending
    }

    pub(super) fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = &mut *self;
        if this.ended {
            return Poll::Ready(None);
        }
        if let Some(first) = this.first.take() {
            this.pass(&first);
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        match Pin::new(&mut this.upstream).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.last = Instant::now();
                if let Some(bytes) = frame.data_ref() {
                    this.pass(bytes);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(_))) => this.break_off("The upstream has broken off its answer."),
            Poll::Ready(None) => {
                this.finish();
                Poll::Ready(None)
            }
            Poll::Pending => match this.poll_silence(cx) {
                Poll::Ready(()) => this.break_off("The upstream has stopped answering in the middle."),
                Poll::Pending => Poll::Pending,
            },
        }
    }
}

/// A client that hangs up has still used what has gone by.
impl Drop for Relayed {
    fn drop(&mut self) {
        if let Some(first) = self.first.take() {
            self.pass(&first);
        }
        self.finish();
    }
}

/// Whether the bytes so far end between two events.
struct Boundary {
    /// The last bytes, newest last.
    tail: [u8; 4],
}

impl Default for Boundary {
    fn default() -> Self {
        Self { tail: *b"\n\n\n\n" }
    }
}

impl Boundary {
    fn feed(&mut self, bytes: &[u8]) {
        for byte in &bytes[bytes.len().saturating_sub(4)..] {
            self.tail.rotate_left(1);
            self.tail[3] = *byte;
        }
    }

    fn is_between_events(&self) -> bool {
        self.tail.ends_with(b"\n\n") || self.tail.ends_with(b"\r\n\r\n") || self.tail.ends_with(b"\r\r")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_end_at_an_empty_line_in_any_slicing() {
        for (pieces, between) in [
            (&["event: a\ndata: 1\n", "\n"][..], true),
            (&["event: a\ndata: 1\n"], false),
            (&["data: 1\r\n", "\r", "\n"], true),
            (&["data: 1\r\n"], false),
            (&["data: 1\n\nda"], false),
            (&[], true),
        ] {
            let mut boundary = Boundary::default();
            pieces.iter().for_each(|piece| boundary.feed(piece.as_bytes()));
            assert_eq!(boundary.is_between_events(), between, "{pieces:?}");
        }
    }
}
