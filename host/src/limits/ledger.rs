//! The calls in flight on this node, and its share of the limits for when there is no Redis.

mod standing;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use self::standing::Standing;
use crate::store::allowance::{Lease, Refusal, Spent, Totals};

/// How old totals may be. Less than a cost is held beside them.
const FRESH: Duration = Duration::from_secs(1);

/// What this node knows of each key that has calls in flight, or had some of late.
#[derive(Default)]
pub(super) struct Ledger(Mutex<HashMap<String, Standing>>);

impl Ledger {
    /// A call that was admitted elsewhere.
    pub(super) fn enter(&self, call: Lease) {
        self.0.lock().entry(call.key_id.clone()).or_default().enter(call);
    }

    /// A call that begins in an advance: it has no lease of its own.
    pub(super) fn enter_within(&self, call: Lease) {
        self.0.lock().entry(call.key_id.clone()).or_default().enter_within(call);
    }

    /// Calls that have leases of their own from now on.
    pub(super) fn own(&self, calls: &[Lease]) {
        let mut keys = self.0.lock();
        for call in calls {
            if let Some(standing) = keys.get_mut(&call.key_id) {
                standing.own(call);
            }
        }
    }

    /// How many calls of a key are in flight here.
    pub(super) fn in_flight(&self, key_id: &str) -> usize {
        self.0.lock().get(key_id).map_or(0, Standing::in_flight)
    }

    /// Admits a call if none of this node's shares is in the way, as one of this many nodes.
    pub(super) fn reserve(
        &self,
        call: &Lease,
        nodes: u64,
        totals: Totals,
        now: Instant,
    ) -> Result<(), Refusal> {
        self.0.lock().entry(call.key_id.clone()).or_default().reserve(call, nodes, totals, now)
    }

    /// The call has ended. Once is enough; again does nothing.
    pub(super) fn leave(&self, call: &Lease, used: Spent, now: Instant) {
        if let Some(standing) = self.0.lock().get_mut(&call.key_id) {
            standing.leave(call, used, now);
        }
    }

    /// The calls in flight that hold anything by themselves.
    pub(super) fn live(&self) -> Vec<Lease> {
        self.0.lock().values().flat_map(Standing::renewed).filter(|call| call.caps.holds()).cloned().collect()
    }

    /// Those of these calls that are still in flight.
    pub(super) fn still_live(&self, calls: &[Lease]) -> Vec<Lease> {
        let keys = self.0.lock();
        let is_live = |call: &&Lease| keys.get(&call.key_id).is_some_and(|standing| standing.has(call));
        calls.iter().filter(is_live).cloned().collect()
    }

    /// Totals that were read of late, on this day.
    pub(super) fn totals(&self, key_id: &str, today: &str, now: Instant) -> Option<Totals> {
        let keys = self.0.lock();
        let (at, day, totals) = keys.get(key_id)?.totals.as_ref()?;
        (day == today && now.saturating_duration_since(*at) < FRESH).then_some(*totals)
    }

    pub(super) fn note_totals(&self, key_id: &str, today: &str, totals: Totals, at: Instant) {
        self.0.lock().entry(key_id.to_owned()).or_default().totals = Some((at, today.to_owned(), totals));
    }

    /// Forgets the keys of which there is nothing to know.
    pub(super) fn sweep(&self, now: Instant) {
        self.0.lock().retain(|_, standing| !standing.is_idle(now));
    }
}
