//! What each stream asks for, and how it is to end.

use serde_json::json;

use crate::random::Random;

/// Words that the demo upstream says by itself. A whole answer that has more or fewer is a violation.
const OWN_WORDS: u64 = 13;
/// The bytes of these words, with the spaces between them and after them.
const OWN_BYTES: u64 = 72;
/// Numbers of words that are asked for, from none.
const WORDS: u64 = 90;
/// The fewest input tokens: room for what is in every request.
const LEAST_INPUT: u64 = 160;
/// Bytes of a request that the demo upstream takes for a token.
const BYTES_A_TOKEN: usize = 4;
/// Bytes that a stream has before its first words, at the least: of one that stalls, more than half is never sent.
const BEFORE_WORDS: usize = 700;
/// About the bytes of one word's event.
const A_WORD: usize = 130;

/// How a stream is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    Whole,
    /// The upstream breaks off between two events.
    Cut,
    /// The upstream breaks off within an event.
    HalfFrame,
    /// The upstream ends without `message_stop`, though it has told all tokens.
    NoStop,
    /// The upstream ends with an error event.
    Error,
    /// The client hangs up after so many bytes.
    HangUp(usize),
    /// The client hangs up after so many milliseconds without any answer.
    Leave(u64),
}

impl End {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Cut => "cut between events",
            Self::HalfFrame => "cut within an event",
            Self::NoStop => "no message_stop",
            Self::Error => "error event",
            Self::HangUp(_) => "hung up",
            Self::Leave(_) => "hung up before the answer",
        }
    }
}

/// One stream's request.
#[derive(Debug, Clone)]
pub struct Ask {
    /// What the upstream is to count: no other stream has the same two numbers.
    pub input: u64,
    pub output: u64,
    pub end: End,
    pub body: String,
    /// The bytes of the whole answer's text.
    text: u64,
}

impl Ask {
    /// Of the n-th stream of a run with this seed. Every third is one that does not come to its end.
    pub fn new(number: u64, seed: u64) -> Self {
        let mut random = Random::new(seed ^ number.wrapping_mul(0x5851_f42d_4c95_7f2d));
        let (input, words) = (LEAST_INPUT + number / WORDS, number % WORDS);
        let (end, act) = if number % 3 == 2 { broken(words, &mut random) } else { whole(&mut random) };
        // The command is a word, too.
        let output = OWN_WORDS + words + 1;
        let text = OWN_BYTES + said(words, &act).len() as u64;
        Self { input, output, end, body: body(input, words, &act), text }
    }

    /// The most output tokens of a part of the answer, by the bytes of its text: the upstream has told none of them.
    pub fn most_untold(&self) -> u64 {
        self.text.div_ceil(BYTES_A_TOKEN as u64)
    }

    /// The output tokens that the upstream may tell: at first, and in the end if it comes to that.
    pub fn told(&self) -> (u64, u64) {
        match self.end {
            End::Cut | End::HalfFrame | End::Error => (1, 1),
            _ => (1, self.output),
        }
    }
}

fn whole(random: &mut Random) -> (End, String) {
    let act = match random.below(4) {
        0 => slow(random),
        _ => "ok".into(),
    };
    (End::Whole, act)
}

fn slow(random: &mut Random) -> String {
    format!("slow:{}", 1 + random.below(8))
}

fn broken(words: u64, random: &mut Random) -> (End, String) {
    let bytes = 1 + random.below(BEFORE_WORDS + A_WORD * words as usize);
    match random.below(9) {
        0 | 1 => (End::Cut, "cut".into()),
        2 => (End::HalfFrame, "half-frame".into()),
        3 => (End::NoStop, "no-stop".into()),
        4 | 5 => (End::Error, "error-event".into()),
        6 => (End::HangUp(bytes), slow(random)),
        7 if random.percent(50) => (End::HangUp(bytes.min(BEFORE_WORDS)), "stall".into()),
        7 => (End::HangUp(bytes), "ok".into()),
        _ => (End::Leave(random.below(12) as u64), "ok".into()),
    }
}

fn said(words: u64, act: &str) -> String {
    format!("{}[demo:{act}]", "a ".repeat(words as usize))
}

/// A request that the demo upstream takes for so many input tokens, and answers with so many words more.
fn body(input: u64, words: u64, act: &str) -> String {
    let say = said(words, act);
    let with = |padding: String| {
        json!({
            "model": "claude-sonnet-4-5", "max_tokens": 256, "stream": true,
            "metadata": { "user_id": padding }, "messages": [{ "role": "user", "content": say }],
        })
        .to_string()
    };
    let missing = (input as usize * BYTES_A_TOKEN).saturating_sub(with(String::new()).len());
    with("x".repeat(missing))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_streams_ask_for_the_same_and_a_third_breaks_off() {
        let asks: Vec<_> = (0..10_000).map(|number| Ask::new(number, 7)).collect();
        let distinct: BTreeSet<_> = asks.iter().map(|ask| (ask.input, ask.output)).collect();
        assert_eq!(distinct.len(), asks.len());
        assert!(asks.iter().all(|ask| ask.body.len() as u64 == ask.input * 4));
        let broken = asks.iter().filter(|ask| ask.end != End::Whole).count();
        assert_eq!(broken, 3_333);
        let ends: BTreeSet<_> = asks.iter().map(|ask| ask.end.name()).collect();
        assert_eq!(ends.len(), 7);
    }

    #[test]
    fn a_seed_asks_for_the_same_again() {
        let ends = |seed| (0..100).map(|number| Ask::new(number, seed).body).collect::<Vec<_>>();
        assert_eq!(ends(1), ends(1));
        assert_ne!(ends(1), ends(2));
    }
}
