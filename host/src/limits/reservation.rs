//! One call, from its admission to its end.

use std::sync::Arc;
use std::time::Instant;

use super::advances::Advance;
use super::{Caps, Inner, Spent, bounded};
use crate::store::allowance::{Ended, Lease};

/// A call that was admitted. Dropped without a word it is taken to have used what was expected of it: who hangs up
/// does not use less by that. Whoever knows better says so with [`Reservation::settle`].
#[must_use = "a call that was admitted has to be settled"]
pub struct Reservation(Option<Open>);

struct Open {
    limits: Arc<Inner>,
    call: Lease,
    /// Whether it was admitted, as far as this node knows.
    admitted: bool,
    /// What it has begun in, if not by itself.
    within: Option<Arc<Advance>>,
}

impl Reservation {
    /// Of a key without limits.
    pub(super) fn free() -> Self {
        Self(None)
    }

    /// A call that may be admitted somewhere: has used nothing when this is dropped.
    pub(super) fn pending(limits: Arc<Inner>, call: Lease) -> Self {
        Self(Some(Open { limits, call, admitted: false, within: None }))
    }

    /// A call that is in the ledger.
    pub(super) fn live(limits: Arc<Inner>, call: Lease) -> Self {
        Self(Some(Open { limits, call, admitted: true, within: None }))
    }

    /// A call in the ledger that has begun in an advance.
    pub(super) fn within(limits: Arc<Inner>, call: Lease, advance: Arc<Advance>) -> Self {
        Self(Some(Open { limits, call, admitted: true, within: Some(advance) }))
    }

    pub(super) fn call(&self) -> Option<&Lease> {
        self.0.as_ref().map(|open| &open.call)
    }

    pub(super) fn admitted(mut self) -> Self {
        if let Some(open) = &mut self.0 {
            open.limits.ledger.enter(open.call.clone());
            open.admitted = true;
        }
        self
    }

    /// It was not admitted. Answers its limits.
    pub(super) fn forget(&mut self) -> Caps {
        self.0.take().map(|open| open.call.caps).unwrap_or_default()
    }

    /// The call has ended and has used this much, which the usage counters have within three seconds. Waits for
    /// nothing: Redis hears of it behind this.
    pub fn settle(mut self, used: Spent) {
        if let Some(open) = self.0.take() {
            open.end(used);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(open) = self.0.take() {
            let used = if open.admitted { open.call.estimate } else { Spent::default() };
            open.end(used);
        }
    }
}

impl Open {
    fn end(self, used: Spent) {
        let Self { limits, call, admitted, within } = self;
        let used = bounded(used);
        if admitted {
            limits.ledger.leave(&call, used, Instant::now());
        }
        if let Some(advance) = within {
            limits.end_in_advance(&advance, call, used);
        } else if limits.shared().is_some() && call.caps.holds() {
            limits.settling.push(Ended::call(call, used));
        }
    }
}
