//! One attempt, from its first token to its end.

use std::sync::Arc;

use jiff::Timestamp;

use super::Recorder;
use crate::store::UsageEvent;
use crate::usage::Tokens;
use crate::usage::meter::{Metered, is_name};

/// What a model is called that has no name.
const UNKNOWN: &str = "unknown";

/// The fewest output tokens that nobody has told and that are worth a place in the journal.
const LEAST_UNTOLD: u64 = 64;

/// An attempt at an upstream.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Unique among all attempts, 1 to 128 visible ASCII characters. The id of the event.
    pub event_id: String,
    pub key_id: String,
    pub account_id: Option<String>,
    /// The model that was asked for; counts until the upstream names the one that answers.
    pub model: String,
    pub request_id: Option<String>,
}

/// An attempt that goes on. Dropped without [`OpenAttempt::finish`], it ends with what was seen last, as partial.
pub struct OpenAttempt {
    recorder: Arc<Recorder>,
    attempt: Attempt,
    /// What was held last.
    pub(super) seen: Option<Metered>,
    ended: bool,
}

impl OpenAttempt {
    pub(super) fn new(recorder: Arc<Recorder>, attempt: Attempt) -> Self {
        Self { recorder, attempt, seen: None, ended: false }
    }

    /// The upstream has begun to answer, so that this may cost something: whatever becomes of the answer, it is
    /// recorded, without what is not known. Not in the journal: a process that is killed forgets no token by that.
    pub fn begun(&mut self) {
        self.seen.get_or_insert_with(|| Metered { began: true, ..Metered::default() });
    }

    /// What has come is no answer: nothing is recorded.
    pub fn forget(mut self) {
        self.ended = true;
    }

    /// Notes what the attempt has used until now. Cheap when that is nothing new; otherwise it is in the journal when
    /// this returns, so that it counts whatever happens next. Output that nobody has told is new when it has doubled.
    pub fn seen(&mut self, seen: &Metered) {
        let news = self.seen.as_ref().is_none_or(|held| has_news(held, seen));
        if news && has_used(seen) {
            self.recorder.hold(self.event(seen, true), false);
            self.seen = Some(seen.clone());
        }
    }

    /// The attempt has ended. It is recorded, as partial unless the answer was whole; not at all when the upstream
    /// has counted nothing and was not seen to begin.
    pub fn finish(mut self, seen: &Metered) {
        self.end(Some(seen.clone()));
    }

    fn end(&mut self, seen: Option<Metered>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        // What was held once is recorded, even if the last look says less.
        let seen = seen.filter(has_used).or(self.seen.take());
        let Some(seen) = seen else { return };
        let event = self.event(&seen, !seen.stopped);
        if !self.recorder.prices.knows(&event.model) {
            self.recorder.prices.note_unknown(&event.model);
        }
        self.recorder.hold(event, true);
    }

    fn event(&self, seen: &Metered, partial: bool) -> UsageEvent {
        let Attempt { event_id, key_id, account_id, model, request_id } = &self.attempt;
        let model = seen.model.as_ref().unwrap_or(model);
        let model = if is_name(model) { model } else { UNKNOWN };
        let tokens = &seen.tokens;
        UsageEvent {
            id: event_id.clone(),
            key_id: key_id.clone(),
            account_id: account_id.clone(),
            model: model.to_owned(),
            at: Timestamp::now(),
            input_tokens: tokens.input,
            output_tokens: tokens.output,
            cache_creation_5m_tokens: tokens.cache_creation_5m,
            cache_creation_1h_tokens: tokens.cache_creation_1h,
            cache_read_tokens: tokens.cache_read,
            cost_micro_usd: self.recorder.prices.cost(model, tokens).micro_usd,
            request_id: request_id.clone(),
            partial,
        }
    }
}

/// Whether the journal is to have this in place of what it holds.
fn has_news(held: &Metered, seen: &Metered) -> bool {
    let told = |metered: &Metered| Tokens { output: 0, ..metered.tokens };
    let (was, is) = (held.tokens.output, seen.tokens.output);
    let more = if seen.untold > 0 { is >= (2 * was).max(LEAST_UNTOLD) } else { is != was };
    more || told(held) != told(seen) || held.model != seen.model
}

fn has_used(seen: &Metered) -> bool {
    seen.began || seen.tokens != Tokens::default()
}

impl Drop for OpenAttempt {
    fn drop(&mut self) {
        self.end(None);
    }
}
