//! One circuit: what it has seen, and whether calls pass.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;

use super::State;
use crate::store::clock::now_ms;

/// How long a circuit stays open although the probe succeeds, when calls went on failing each time that it was
/// closed: the first time, and at most.
pub(super) const HOLD: (Duration, Duration) = (Duration::from_millis(400), Duration::from_secs(5));

/// One circuit.
pub(super) struct Guard {
    /// What every call asks.
    closed: AtomicBool,
    /// What the failures since the last success weigh.
    pub(super) weight: AtomicU32,
    /// The last success, in microseconds after `born`.
    succeeded: AtomicU64,
    /// A call has succeeded since the circuit was closed by the probe.
    confirmed: AtomicBool,
    pub(super) open: Gauge,
    born: Instant,
    pub(super) inner: Mutex<Inner>,
}

pub(super) struct Inner {
    pub(super) state: State,
    pub(super) since_ms: i64,
    pub(super) reason: Option<String>,
    pub(super) opened: Instant,
    /// How long it stays open whatever the probe says.
    pub(super) hold: Duration,
}

impl Guard {
    pub(super) fn new(born: Instant) -> Self {
        let (hold, reason) = (Duration::ZERO, None);
        let inner = Inner { state: State::Closed, since_ms: now_ms(), reason, opened: born, hold };
        Self {
            closed: AtomicBool::new(true),
            weight: AtomicU32::new(0),
            succeeded: AtomicU64::new(0),
            confirmed: AtomicBool::new(true),
            open: Gauge::default(),
            born,
            inner: Mutex::new(inner),
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(super) fn micros(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.born).as_micros() as u64
    }

    pub(super) fn silent_for(&self) -> Duration {
        self.born.elapsed().saturating_sub(Duration::from_micros(self.succeeded.load(Ordering::Relaxed)))
    }

    pub(super) fn succeeded(&self, at: Instant) {
        self.succeeded.store(self.micros(at), Ordering::Relaxed);
        if self.weight.load(Ordering::Relaxed) != 0 {
            self.weight.store(0, Ordering::Relaxed);
        }
    }

    pub(super) fn confirm(&self) {
        if !self.confirmed.load(Ordering::Relaxed) {
            self.confirmed.store(true, Ordering::Relaxed);
        }
    }

    /// What the failures weigh now. A failure does not count when the store has answered another call since this
    /// one began: it is slow, or refuses this one only.
    pub(super) fn failed(&self, began: Instant, weight: u32) -> u32 {
        if self.succeeded.load(Ordering::Relaxed) > self.micros(began) {
            return 0;
        }
        self.weight.fetch_add(weight, Ordering::Relaxed).saturating_add(weight)
    }

    /// True if it was closed.
    pub(super) fn open(&self, reason: String, by_call: bool) -> bool {
        let mut inner = self.inner.lock();
        if inner.state != State::Closed && by_call {
            // Begun before it opened: the probe knows better.
            return false;
        }
        inner.reason = Some(reason);
        if std::mem::replace(&mut inner.state, State::Open) != State::Closed {
            return false;
        }
        // The probe said that all was well, and no call has found it so.
        let deceived = by_call && !self.confirmed.load(Ordering::Relaxed);
        inner.hold = if deceived { (inner.hold * 2).clamp(HOLD.0, HOLD.1) } else { Duration::ZERO };
        (inner.opened, inner.since_ms) = (Instant::now(), now_ms());
        self.closed.store(false, Ordering::Release);
        self.open.set(1);
        true
    }

    /// True if it was half-open.
    pub(super) fn close(&self) -> bool {
        let mut inner = self.inner.lock();
        if inner.state != State::HalfOpen {
            return false;
        }
        (inner.state, inner.reason, inner.since_ms) = (State::Closed, None, now_ms());
        self.confirmed.store(false, Ordering::Relaxed);
        self.closed.store(true, Ordering::Release);
        self.open.set(0);
        true
    }
}
