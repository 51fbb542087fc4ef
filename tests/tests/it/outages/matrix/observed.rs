//! What one strategy did in one outage.

use std::time::Duration;

use switchyard::store::Version;

use super::OPERATIONS;
use super::promise::{AFTERWARDS, Outage};

/// What was answered to an operation.
pub(super) struct Said {
    pub(super) status: String,
    pub(super) took: Duration,
    /// Which version was acknowledged, of which record.
    pub(super) acknowledged: Option<(String, Version)>,
    pub(super) marked_stale: bool,
}

/// What was observed of a strategy in an outage, to be compared and printed.
pub(super) struct Observed {
    pub(super) answers: [String; 5],
    pub(super) owed: &'static str,
    pub(super) stale: &'static str,
    /// How long each took before the breaker was open.
    pub(super) longest: [Duration; 5],
    /// How long each took at least when it was.
    pub(super) fastest: [Duration; 5],
}

impl Observed {
    /// As fast as the page says.
    pub(super) fn is_prompt(&self, outage: &Outage) -> bool {
        let within = |all: &[Duration; 5], limit: Duration| all.iter().all(|took| *took <= limit);
        within(&self.longest, outage.until_open.0) && within(&self.fastest, AFTERWARDS.0)
    }

    /// The better of two, operation by operation.
    pub(super) fn or(mut self, other: &Self) -> Self {
        for at in 0..OPERATIONS.len() {
            self.longest[at] = self.longest[at].min(other.longest[at]);
            self.fastest[at] = self.fastest[at].min(other.fastest[at]);
        }
        self
    }
}
