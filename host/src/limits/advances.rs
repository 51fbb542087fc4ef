//! What this node may admit by itself while there is a Redis.
//!
//! Of the limits of a key that is busy here a node takes a part in advance: some calls in flight, some requests, and
//! tokens and cost for them. Calls that fit in begin without asking Redis, and end without telling it one by one.
//! After [`LIFE`] what is left is given back.

mod advance;
mod taking;

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

pub(super) use self::advance::Advance;
use crate::store::allowance::{Caps, Lease, Size, Spent};
use crate::telemetry::Metrics;

/// How long calls begin in an advance. Those that go on then get leases of their own.
const LIFE: Duration = Duration::from_millis(250);
/// Over this time it is counted how many calls of a key begin.
const PACE: Duration = Duration::from_millis(100);
/// From so many in that time on a key is busy: fewer are not worth an advance.
const BUSY: u32 = 8;
/// How many calls may begin in an advance.
const REQUESTS: (u64, u64) = (16, 256);
/// How many of them may be in flight.
const SLOTS: (u64, u64) = (4, 256);
/// An advance takes at most one of so many parts of a limit.
const PARTS: u64 = 8;
/// How many a key has at a time.
const MOST: usize = 8;
/// Until another one is asked for, when there was none to be had.
const PAUSE: Duration = Duration::from_secs(1);

/// The advances of all keys.
pub(super) struct Advances {
    keys: Mutex<HashMap<String, Busy>>,
    begun: Counter,
    /// What asks for more, and when that has been answered.
    asking: TaskTracker,
    taken: Notify,
}

/// How busy a key is, and what it has in advance.
struct Busy {
    since: Instant,
    begun: u32,
    /// How many began in the [`PACE`] before.
    pace: u32,
    advances: Vec<Arc<Advance>>,
    /// How many it had, or may have had, before them.
    gone: u64,
    /// Another one is asked for.
    asking: bool,
    not_before: Instant,
}

/// Where a call begins.
struct Begun {
    /// None: it has to ask by itself.
    within: Option<Arc<Advance>>,
    /// Another advance is to be asked for, at this pace, by who keeps the token until [`Advances::took`] is told what
    /// became of it.
    wants: Option<(u32, TaskTrackerToken)>,
}

impl Busy {
    fn new(now: Instant) -> Self {
        Self { since: now, begun: 0, pace: 0, advances: Vec::new(), gone: 0, asking: false, not_before: now }
    }

    fn count(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.since);
        if passed >= PACE {
            // After a pause it is not busy, however many there were before.
            self.pace = if passed < 2 * PACE { self.begun } else { 0 };
            (self.since, self.begun) = (now, 0);
        }
        self.begun += 1;
    }

    fn may_ask(&self, now: Instant) -> bool {
        self.pace >= BUSY && !self.asking && self.advances.len() < MOST && now >= self.not_before
    }

    /// So that the next one is there when this one is used up.
    fn is_short(&self) -> bool {
        let left: u64 = self.advances.iter().map(|advance| u64::from(advance.left())).sum();
        left < u64::from(self.pace).clamp(REQUESTS.0, REQUESTS.1) / 4
    }

    fn is_idle(&self, now: Instant) -> bool {
        self.advances.is_empty() && !self.asking && now > self.not_before.max(self.since + PAUSE)
    }
}

impl Advances {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let begun = Counter::default();
        metrics.register("limits_in_advance", "Calls admitted by what was taken in advance.", begun.clone());
        Self { keys: Mutex::default(), begun, asking: TaskTracker::new(), taken: Notify::new() }
    }

    fn begin(&self, call: &Lease, now: Instant) -> Begun {
        let mut keys = self.keys.lock();
        if !keys.contains_key(&call.key_id) {
            keys.insert(call.key_id.clone(), Busy::new(now));
        }
        let Some(busy) = keys.get_mut(&call.key_id) else { return Begun { within: None, wants: None } };
        busy.count(now);
        let within = busy.advances.iter().find(|advance| advance.admit(call, now)).cloned();
        let wants = !self.asking.is_closed() && busy.may_ask(now) && (within.is_none() || busy.is_short());
        busy.asking |= wants;
        self.begun.inc_by(within.is_some().into());
        Begun { within, wants: wants.then(|| (busy.pace, self.asking.token())) }
    }

    /// None where none was to be had.
    fn took(&self, key_id: &str, advance: Option<Arc<Advance>>, now: Instant) {
        let mut keys = self.keys.lock();
        let busy = keys.entry(key_id.to_owned()).or_insert_with(|| Busy::new(now));
        busy.asking = false;
        match advance {
            Some(advance) => busy.advances.push(advance),
            None => {
                // It may have been there for a moment.
                busy.gone += 1;
                busy.not_before = now + PAUSE;
            }
        }
        drop(keys);
        self.taken.notify_waiters();
    }

    /// No more is asked for; waits for what is.
    async fn close(&self) {
        let keys = self.keys.lock();
        self.asking.close();
        drop(keys);
        self.asking.wait().await;
    }

    /// How many a key has had, or may have had, and has no more. Counts anew after a pause.
    pub(super) fn gone(&self, key_id: &str) -> u64 {
        self.keys.lock().get(key_id).map_or(0, |busy| busy.gone)
    }

    /// Those of a key, what is being asked for included.
    pub(super) async fn of(&self, key_id: &str) -> Vec<Arc<Advance>> {
        loop {
            let mut taken = pin!(self.taken.notified());
            taken.as_mut().enable();
            match self.keys.lock().get(key_id) {
                Some(busy) if busy.asking => {}
                busy => return busy.map(|busy| busy.advances.clone()).unwrap_or_default(),
            }
            taken.await;
        }
    }

    /// Those whose time is over by then. Forgets the keys of which there is nothing to know.
    fn due(&self, now: Instant) -> Vec<Arc<Advance>> {
        let mut keys = self.keys.lock();
        keys.retain(|_, busy| !busy.is_idle(now));
        let all = keys.values().flat_map(|busy| &busy.advances);
        all.filter(|advance| advance.is_due(now)).cloned().collect()
    }

    pub(super) fn forget(&self, gone: &Arc<Advance>) {
        if let Some(busy) = self.keys.lock().get_mut(gone.key_id()) {
            let before = busy.advances.len();
            busy.advances.retain(|advance| !Arc::ptr_eq(advance, gone));
            busy.gone += (before - busy.advances.len()) as u64;
        }
    }
}

/// How much of these limits to take: for calls at this pace that are expected to use this much each, beside so many in
/// flight. None where the limits are too narrow for it to be worth while.
fn share(caps: &Caps, each: Spent, in_flight: usize, pace: u32) -> Option<(Size, Spent)> {
    let of = |limit: u64, wanted: u64| if limit == 0 { wanted } else { wanted.min(limit / PARTS) };
    let slots = (in_flight as u64 * 5 / 4 + SLOTS.0).min(SLOTS.1);
    let requests = (2 * u64::from(pace)).clamp(REQUESTS.0, REQUESTS.1);
    let in_window = |limit| if caps.window().is_some() { limit } else { 0 };
    let (slots, requests) =
        (of(caps.concurrency.into(), slots), of(in_window(caps.window_requests), requests));
    let tokens = of(in_window(caps.window_tokens), each.tokens.saturating_mul(requests));
    let costs = [
        in_window(caps.window_cost_micro),
        caps.daily_cost_micro,
        caps.weekly_cost_micro,
        caps.total_cost_micro,
    ];
    let cost_micro =
        costs.into_iter().fold(each.cost_micro.saturating_mul(requests), |cost, cap| of(cap, cost));
    let few = |room: u64, each: u64| room < each.saturating_mul(SLOTS.0);
    let is_narrow = slots < SLOTS.0
        || requests < REQUESTS.0
        || few(tokens, each.tokens)
        || few(cost_micro, each.cost_micro);
    let size = Size { slots: slots as u32, requests: requests as u32 };
    (!is_narrow).then_some((size, Spent { tokens, cost_micro }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EACH: Spent = Spent { tokens: 1_000, cost_micro: 60_000 };

    fn of(caps: Caps) -> Option<(u32, u32, u64, u64)> {
        let (size, room) = share(&caps, EACH, 20, 100)?;
        Some((size.slots, size.requests, room.tokens, room.cost_micro))
    }

    #[test]
    fn an_advance_is_an_eighth_of_a_limit_at_most() {
        let (none, window) = (Caps::default(), Some(Duration::from_secs(60)));
        assert_eq!(of(none), Some((29, 200, 200_000, 12_000_000)));
        assert_eq!(of(Caps { concurrency: 80, ..none }), Some((10, 200, 200_000, 12_000_000)));
        let requests = Caps { window, window_requests: 400, ..none };
        assert_eq!(of(requests), Some((29, 50, 50_000, 3_000_000)));
        let of_all = Caps { daily_cost_micro: 10_000_000, total_cost_micro: 8_000_000, ..none };
        assert_eq!(of(of_all), Some((29, 200, 200_000, 1_000_000)));
        assert_eq!(of(Caps { window_requests: 1, ..none }), of(none), "without a window it is no limit");
        for narrow in [
            Caps { concurrency: 31, ..none },
            Caps { window, window_requests: 127, ..none },
            Caps { window, window_tokens: 31_999, ..none },
            Caps { weekly_cost_micro: 1_919_999, ..none },
        ] {
            assert_eq!(of(narrow), None, "{narrow:?}");
        }
    }
}
