//! What one attempt owes: its usage event, and what was reserved for it.

use std::sync::Arc;

use crate::limits::{Reservation, Spent};
use crate::usage::{Metered, OpenAttempt, Prices};

/// Follows an attempt to its end. Dropped without one, it counts what was seen last.
pub(super) struct Bill {
    attempt: OpenAttempt,
    reserved: Reservation,
    prices: Arc<Prices>,
    model: String,
}

impl Bill {
    pub(super) fn new(
        attempt: OpenAttempt,
        reserved: Reservation,
        prices: Arc<Prices>,
        model: String,
    ) -> Self {
        Self { attempt, reserved, prices, model }
    }

    pub(super) fn seen(&mut self, seen: &Metered) {
        self.attempt.seen(seen);
    }

    pub(super) fn finish(self, seen: &Metered) {
        let model = seen.model.as_deref().unwrap_or(&self.model);
        let cost_micro = self.prices.cost(model, &seen.tokens).micro_usd;
        self.attempt.finish(seen);
        self.reserved.settle(Spent { tokens: seen.tokens.total(), cost_micro });
    }
}
