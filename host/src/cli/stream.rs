//! Server-sent events.

use std::time::Duration;

use reqwest::Response;
use reqwest::header::CONTENT_TYPE;

/// The most that is kept of one event, in bytes.
const LARGEST: usize = 4 << 20;

/// One event.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) name: String,
    pub(super) data: String,
}

/// The events of an answer, as they come.
pub(super) struct Stream {
    response: Response,
    lines: Lines,
}

impl Stream {
    /// None when the answer is no stream of events.
    pub(super) fn new(response: Response) -> Option<Self> {
        let kind = response.headers().get(CONTENT_TYPE)?.to_str().ok()?;
        let is_stream = response.status().is_success() && kind.starts_with("text/event-stream");
        is_stream.then(|| Self { response, lines: Lines::default() })
    }

    /// The next event; none when the stream has ended, broke off, was silent for this long or is not understood.
    pub(super) async fn next(&mut self, silence: Duration) -> Option<Event> {
        loop {
            if let Some(event) = self.lines.event() {
                return Some(event);
            }
            let chunk = tokio::time::timeout(silence, self.response.chunk()).await.ok()?.ok()??;
            self.lines.push(&chunk)?;
        }
    }
}

/// Takes bytes, gives events.
#[derive(Default)]
struct Lines {
    bytes: Vec<u8>,
    /// The event whose end has not come.
    begun: Event,
}

impl Lines {
    /// None when an event is too large.
    fn push(&mut self, chunk: &[u8]) -> Option<()> {
        self.bytes.extend_from_slice(chunk);
        (self.bytes.len() + self.begun.data.len() <= LARGEST).then_some(())
    }

    fn event(&mut self) -> Option<Event> {
        while let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.bytes.drain(..=end).collect();
            let line = String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
            if line.is_empty() {
                let event = std::mem::take(&mut self.begun);
                if event != Event::default() {
                    return Some(event);
                }
                continue;
            }
            self.take_line(&line);
        }
        None
    }

    fn take_line(&mut self, line: &str) {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.begun.name),
            "data" => {
                if !self.begun.data.is_empty() {
                    self.begun.data.push('\n');
                }
                self.begun.data.push_str(value);
            }
            // A comment keeps the connection alive; ids are not used here.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_however_they_are_cut() {
        let text =
            ": hello\r\n\r\nevent: progress\r\ndata: {\"a\":\r\ndata: \"é\"}\r\n\r\nevent: end\ndata:x\n\n";
        for size in [1, 3, 1_000] {
            let (mut lines, mut events) = (Lines::default(), Vec::new());
            for chunk in text.as_bytes().chunks(size) {
                lines.push(chunk).unwrap();
                events.extend(std::iter::from_fn(|| lines.event()));
            }
            let read: Vec<_> = events.iter().map(|e| (e.name.as_str(), e.data.as_str())).collect();
            assert_eq!(read, [("progress", "{\"a\":\n\"é\"}"), ("end", "x")], "in pieces of {size}");
        }
    }

    #[test]
    fn an_event_without_end_is_not_kept() {
        let mut lines = Lines::default();
        let kept = (0..5).all(|_| lines.push(&vec![b'x'; 1 << 20]).is_some());
        assert!(!kept);
    }
}
