//! Reads usage from an answer that goes by: a stream of server-sent events in any slicing, or a plain body.
//!
//! Nothing here can hold up or change the answer. What is not understood is skipped.

mod frames;
mod message;

use self::frames::Frames;
use self::message::Part;
pub(super) use self::message::is_name;
use super::Tokens;

/// Bytes of content that count as a token while nobody has told how many they are.
const BYTES_A_TOKEN: u64 = 4;

/// What is known of an answer so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metered {
    /// The model that answers, as the upstream names it.
    pub model: Option<String>,
    /// Of output, as long as the upstream has not told all of it, at least what the content comes to by its bytes.
    pub tokens: Tokens,
    /// Bytes of content that have come, until the upstream tells how many tokens they are: 0 from then on.
    pub untold: u64,
    /// The upstream has told the output tokens of more than its beginning.
    pub told: bool,
    /// The upstream has begun to count: `message_start`, or a plain message.
    pub began: bool,
    /// The answer is whole: `message_stop`, or a plain message.
    pub stopped: bool,
    /// The type of the error that the upstream has sent, such as `overloaded_error`.
    pub error: Option<String>,
    pub message_id: Option<String>,
}

/// Follows one answer.
#[derive(Debug, Default)]
pub struct Meter {
    frames: Frames,
    seen: Metered,
}

impl Meter {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of a stream. Keeps at most 1 MiB of an event that is not complete.
    pub fn feed(&mut self, bytes: &[u8]) {
        let seen = &mut self.seen;
        self.frames.feed(bytes, |data| {
            if let Some(part) = Part::parse(data) {
                seen.take(part);
            }
        });
    }

    /// What a plain body says; nothing when it is no message and no error.
    pub fn plain(body: &[u8]) -> Metered {
        let mut seen = Metered::default();
        if let Some(part) = Part::parse(body) {
            seen.take(part);
        }
        seen
    }

    /// What the bytes so far have said.
    pub fn seen(&self) -> &Metered {
        &self.seen
    }
}

impl Metered {
    fn take(&mut self, part: Part) {
        match part {
            Part::Start(message) => {
                self.began = true;
                self.take_message(message);
            }
            Part::Whole(message) => {
                (self.began, self.stopped, self.told) = (true, true, true);
                self.take_message(message);
            }
            Part::Content(bytes) if !self.told => {
                self.untold += bytes;
                self.tokens.output = self.tokens.output.max(self.untold.div_ceil(BYTES_A_TOKEN));
            }
            Part::Content(_) => {}
            Part::Delta(usage) => {
                if usage.tells_output() {
                    (self.told, self.untold) = (true, 0);
                }
                usage.over(&mut self.tokens);
            }
            Part::Stop => self.stopped = true,
            Part::Error(kind) => self.error = Some(kind),
        }
    }

    fn take_message(&mut self, message: message::Message) {
        self.model = message.model.or(self.model.take());
        self.message_id = message.id.or(self.message_id.take());
        message.usage.over(&mut self.tokens);
    }
}

#[cfg(test)]
mod tests;
