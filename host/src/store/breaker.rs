//! A circuit breaker per store. Reads and writes have a circuit each, because a store that refuses writes may
//! well answer reads.
//!
//! A closed circuit passes calls on. Failures that nothing comes between open it, and an open one answers at
//! once. It half-opens for the probe alone, so that no crowd of callers meets a store that has just come back.

mod guard;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::{Notify, watch};
use tracing::{info, warn};

use self::guard::Guard;
use super::{Result, StoreError};
use crate::telemetry::Metrics;

/// What failures must weigh together to open a circuit.
const OPENS_AT: u32 = 3;
/// What a failed call weighs, and what a failed probe does.
const CALL: u32 = 1;
const PROBE: u32 = 2;
/// A failed probe opens the circuit by itself when nothing has succeeded for this long.
const SILENCE: Duration = Duration::from_secs(1);
/// What is guarded by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Circuit {
    Reads,
    Writes,
}

impl Circuit {
    pub const ALL: [Self; 2] = [Self::Reads, Self::Writes];

    pub fn name(self) -> &'static str {
        match self {
            Self::Reads => "reads",
            Self::Writes => "writes",
        }
    }
}

/// Whether a circuit lets calls pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Calls pass.
    Closed,
    /// Calls are answered `unavailable` at once.
    Open,
    /// As open, while one probe tries the store.
    HalfOpen,
}

/// A circuit, at a moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BreakerState {
    pub state: State,
    /// Milliseconds since 1970 since when it has been closed, or not closed.
    pub since_ms: i64,
    /// Why it is not closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The two circuits of one store.
pub struct Breaker {
    store: &'static str,
    circuits: [Guard; 2],
    /// How often a circuit has opened or closed.
    changes: watch::Sender<u64>,
    /// A call has failed, so that the store is worth a probe now.
    doubted: Notify,
}

impl Breaker {
    /// One with both circuits closed, for the store of this name.
    pub fn new(store: &'static str) -> Self {
        let circuits = Circuit::ALL.map(|_| Guard::new(Instant::now()));
        Self { store, circuits, changes: watch::Sender::new(0), doubted: Notify::new() }
    }

    pub fn up_for_reads(&self) -> bool {
        self.guard(Circuit::Reads).is_closed()
    }

    pub fn up_for_writes(&self) -> bool {
        self.guard(Circuit::Writes).is_closed()
    }

    pub fn state(&self, circuit: Circuit) -> BreakerState {
        let inner = self.guard(circuit).inner.lock();
        let (state, since_ms, reason) = (inner.state, inner.since_ms, inner.reason.clone());
        BreakerState { state, since_ms, reason }
    }

    /// Changes whenever a circuit has opened or closed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Adds a gauge per circuit: 1 while it is not closed.
    pub fn register(&self, metrics: &Metrics) {
        for circuit in Circuit::ALL {
            let name = format!("{}_{}_breaker_open", self.store, circuit.name());
            let help = "Whether calls are answered at once instead of being tried.";
            metrics.register(&name, help, self.guard(circuit).open.clone());
        }
    }

    /// Lets a call pass, if the circuit is closed. Takes no lock then.
    ///
    /// # Errors
    /// `Unavailable` with the reason, when it is not.
    pub(super) fn admit(&self, circuit: Circuit) -> Result<()> {
        let guard = self.guard(circuit);
        if guard.is_closed() {
            return Ok(());
        }
        let reason = guard.inner.lock().reason.clone().unwrap_or_default();
        Err(StoreError::Unavailable(format!("{} is down: {reason}", self.store)))
    }

    /// Learns from a call that began at this time. A call that was dropped tells nothing.
    pub(super) fn note<T>(&self, circuit: Circuit, began: Instant, result: &Result<T>) {
        let guard = self.guard(circuit);
        match result {
            Ok(_) | Err(StoreError::Conflict(_) | StoreError::Fenced(_) | StoreError::Strategy(_)) => {
                guard.succeeded(Instant::now());
                guard.confirm();
            }
            // About this record, or about the whole store: the probe tells.
            Err(StoreError::Other(_)) => self.doubted.notify_one(),
            Err(error @ (StoreError::Unavailable(_) | StoreError::Timeout)) => {
                self.doubted.notify_one();
                if guard.failed(began, CALL) >= OPENS_AT {
                    self.open(circuit, error, true);
                }
            }
            // None of these tells whether the store is well.
            Err(
                StoreError::Overloaded
                | StoreError::Paused(_)
                | StoreError::Unsupported(_)
                | StoreError::ClockSkewed(_),
            ) => {}
        }
    }

    /// A probe is about to be made: circuits that are open become half-open.
    pub fn begin_probe(&self) {
        for guard in &self.circuits {
            let mut inner = guard.inner.lock();
            if inner.state == State::Open && inner.opened.elapsed() >= inner.hold {
                inner.state = State::HalfOpen;
            }
        }
    }

    /// Learns from a probe of the circuit that began at this time. One success closes it, one failure of a
    /// half-open circuit opens it again.
    pub fn note_probe<T>(&self, circuit: Circuit, began: Instant, result: &Result<T>) {
        let guard = self.guard(circuit);
        match result {
            Err(StoreError::Overloaded) => {}
            Err(error) => {
                let weight = if guard.silent_for() >= SILENCE { OPENS_AT } else { PROBE };
                if !guard.is_closed() || guard.failed(began, weight) >= OPENS_AT {
                    self.open(circuit, error, false);
                }
            }
            Ok(_) => {
                guard.succeeded(Instant::now());
                self.close(circuit);
            }
        }
    }

    /// Waits for a call to fail, unless one has failed since this was asked last.
    pub async fn doubted(&self) {
        self.doubted.notified().await;
    }

    /// Whether every circuit is closed and nothing has failed since the last success.
    pub fn is_sound(&self) -> bool {
        self.circuits.iter().all(|guard| guard.is_closed() && guard.weight.load(Ordering::Relaxed) == 0)
    }

    fn guard(&self, circuit: Circuit) -> &Guard {
        &self.circuits[circuit as usize]
    }

    fn open(&self, circuit: Circuit, error: &StoreError, by_call: bool) {
        let (store, circuit_name, reason) = (self.store, circuit.name(), error.to_string());
        if self.guard(circuit).open(reason.clone(), by_call) {
            warn!(store, circuit = circuit_name, reason, "circuit opened: calls are refused");
            self.changes.send_modify(|changes| *changes += 1);
        }
    }

    fn close(&self, circuit: Circuit) {
        if self.guard(circuit).close() {
            info!(store = self.store, circuit = circuit.name(), "circuit closed: calls pass again");
            self.changes.send_modify(|changes| *changes += 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOST: Result<()> = Err(StoreError::Timeout);

    fn call(breaker: &Breaker, circuit: Circuit, result: &Result<()>) {
        breaker.note(circuit, Instant::now(), result);
    }

    fn probe(breaker: &Breaker, circuit: Circuit, result: &Result<()>) {
        breaker.begin_probe();
        breaker.note_probe(circuit, Instant::now(), result);
    }

    /// One that has just heard of its store, so that no failure is a long silence.
    fn breaker() -> Breaker {
        let breaker = Breaker::new("redis");
        Circuit::ALL.into_iter().for_each(|circuit| call(&breaker, circuit, &Ok(())));
        breaker
    }

    fn full() -> Result<()> {
        Err(StoreError::Unavailable("OOM".into()))
    }

    fn odd() -> StoreError {
        StoreError::Other("max daily request limit exceeded".into())
    }

    #[test]
    fn calls_that_are_all_refused_oddly_do_not_hide_a_probe_that_fails_too() {
        let breaker = breaker();
        (0..100).for_each(|_| call(&breaker, Circuit::Writes, &Err(odd())));
        assert!(breaker.up_for_writes(), "each may have been about its record");
        for _ in 0..2 {
            let began = Instant::now();
            call(&breaker, Circuit::Writes, &Err(odd()));
            breaker.note_probe(Circuit::Writes, began, &Err::<(), _>(odd()));
        }
        assert!(!breaker.up_for_writes());
    }

    #[test]
    fn three_failures_in_a_row_open_one_circuit_and_answers_begin_anew() {
        let breaker = breaker();
        for answer in [Ok(()), Err(StoreError::Conflict(7))] {
            call(&breaker, Circuit::Writes, &full());
            call(&breaker, Circuit::Writes, &full());
            call(&breaker, Circuit::Writes, &answer);
            assert!(breaker.up_for_writes());
        }
        let untold = [StoreError::Overloaded, StoreError::Unsupported("x".into()), odd()];
        for error in untold {
            call(&breaker, Circuit::Writes, &Err(error));
        }
        assert!(breaker.up_for_writes(), "none of them tells of the store");
        call(&breaker, Circuit::Writes, &full());
        call(&breaker, Circuit::Writes, &full());
        call(&breaker, Circuit::Writes, &Err(odd()));
        assert!(breaker.up_for_writes());
        call(&breaker, Circuit::Writes, &full());
        assert!(!breaker.up_for_writes() && breaker.up_for_reads());
        assert_eq!(breaker.admit(Circuit::Reads), Ok(()));
        let refusal = StoreError::Unavailable("redis is down: unavailable: OOM".into());
        assert_eq!(breaker.admit(Circuit::Writes), Err(refusal));
    }

    #[test]
    fn a_slow_call_does_not_count_while_others_are_answered() {
        let breaker = breaker();
        for _ in 0..9 {
            let began = Instant::now();
            std::thread::sleep(Duration::from_millis(1));
            call(&breaker, Circuit::Reads, &Ok(()));
            breaker.note(Circuit::Reads, began, &LOST);
        }
        assert!(breaker.up_for_reads());
    }

    #[test]
    fn two_probes_open_and_one_closes() {
        let breaker = breaker();
        let changes = breaker.changes();
        probe(&breaker, Circuit::Reads, &LOST);
        assert!(breaker.up_for_reads() && !breaker.is_sound());
        probe(&breaker, Circuit::Reads, &LOST);
        assert!(!breaker.up_for_reads() && changes.has_changed().unwrap());
        let since = breaker.state(Circuit::Reads).since_ms;
        breaker.begin_probe();
        assert_eq!(breaker.state(Circuit::Reads).state, State::HalfOpen);
        assert!(breaker.admit(Circuit::Reads).is_err(), "half-open is for the probe alone");
        breaker.note_probe(Circuit::Reads, Instant::now(), &full());
        let state = breaker.state(Circuit::Reads);
        assert_eq!((state.state, state.since_ms), (State::Open, since));
        probe(&breaker, Circuit::Reads, &Ok(()));
        assert!(breaker.up_for_reads() && breaker.is_sound());
        assert_eq!(breaker.state(Circuit::Reads).reason, None);
    }

    #[test]
    fn a_success_of_a_call_does_not_close_what_is_open() {
        let breaker = breaker();
        (0..3).for_each(|_| call(&breaker, Circuit::Reads, &LOST));
        call(&breaker, Circuit::Reads, &Ok(()));
        assert!(!breaker.up_for_reads());
    }

    #[test]
    fn probes_that_succeed_while_calls_go_on_failing_do_not_close_it_at_once() {
        let breaker = breaker();
        let fail = || (0..3).for_each(|_| call(&breaker, Circuit::Writes, &full()));
        fail();
        probe(&breaker, Circuit::Writes, &Ok(()));
        assert!(breaker.up_for_writes());
        fail();
        probe(&breaker, Circuit::Writes, &Ok(()));
        assert!(!breaker.up_for_writes(), "the last success of a probe meant nothing");
        std::thread::sleep(guard::HOLD.0);
        probe(&breaker, Circuit::Writes, &Ok(()));
        assert!(breaker.up_for_writes());
        call(&breaker, Circuit::Writes, &Ok(()));
        fail();
        probe(&breaker, Circuit::Writes, &Ok(()));
        assert!(breaker.up_for_writes(), "calls had succeeded in between");
    }
}
