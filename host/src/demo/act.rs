//! What the demo upstream does with a request.

use std::time::Duration;

/// One act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Answers as it should.
    Answer,
    /// Answers with this status and Anthropic's error of that status.
    Status { status: u16, retry_after: Option<u16> },
    /// An error whose message repeats the credential.
    Echo,
    /// Breaks the connection off in the middle, between two events or in a plain body.
    Cut,
    /// Breaks the connection off inside an event.
    HalfFrame,
    /// An `error` event in the middle, then a proper end.
    ErrorEvent,
    /// An `error` event as the first one, after a 200.
    ErrorFirst,
    /// A proper end without `message_stop`.
    NoStop,
    /// A 200 with something that is neither JSON nor events.
    Garbage,
    /// Closes the connection without an answer.
    Nothing,
    /// Takes the request and never answers.
    Silent,
    /// Answers half and then stays silent.
    Stall,
    /// Waits this long before each event.
    Slow(Duration),
}

/// Between two events of `slow`, unless it is said.
const SLOW: Duration = Duration::from_millis(200);
/// The longest wait between two events, in milliseconds.
const SLOWEST: u64 = 60_000;

impl Act {
    /// Of a word: a status such as `529`, perhaps with the seconds of `retry-after` as in `429:2`; or `cut`,
    /// `half-frame`, `error-event`, `error-first`, `no-stop`, `garbage`, `nothing`, `silent`, `stall`, `echo`,
    /// `slow` (or `slow:500`, in milliseconds).
    pub fn parse(word: &str) -> Option<Self> {
        let (name, argument) = word.split_once(':').map_or((word, None), |(name, rest)| (name, Some(rest)));
        Some(match name {
            "ok" => Self::Answer,
            "echo" => Self::Echo,
            "cut" => Self::Cut,
            "half-frame" => Self::HalfFrame,
            "error-event" => Self::ErrorEvent,
            "error-first" => Self::ErrorFirst,
            "no-stop" => Self::NoStop,
            "garbage" => Self::Garbage,
            "nothing" => Self::Nothing,
            "silent" => Self::Silent,
            "stall" => Self::Stall,
            "slow" => {
                let given = argument.and_then(|millis| millis.parse().ok());
                Self::Slow(given.map_or(SLOW, |millis: u64| Duration::from_millis(millis.min(SLOWEST))))
            }
            status => {
                let status = status.parse().ok().filter(|status| (400..600).contains(status))?;
                Self::Status { status, retry_after: argument.and_then(|seconds| seconds.parse().ok()) }
            }
        })
    }
}
