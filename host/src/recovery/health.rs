//! Whether each store takes writes and answers reads: probed four times a second with a real write and a real
//! read, because a store that answers `PING` may still be full, read-only or the wrong one.
//!
//! What the probes find goes into the store's breaker, as does what real calls meet; the answers here are the
//! breaker's.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use serde::Serialize;
use tokio::time::{sleep, timeout};

use crate::engine::Needs;
use crate::store::breaker::{Breaker, BreakerState, Circuit, State};
use crate::store::side::{Side, Sides, Which};
use crate::store::{Backlog, Key, Result, StoreError, clock::now_ms, kind};
use crate::telemetry::Metrics;

/// From the end of a probe to the next one: while all is well, while a failure is not confirmed, and while the
/// store is down.
const PAUSE: Duration = Duration::from_millis(250);
const PAUSE_IN_DOUBT: Duration = Duration::from_millis(100);
const PAUSE_WHILE_DOWN: Duration = Duration::from_millis(200);
/// The shortest of all: however many calls fail, there are no more probes than this allows.
const PAUSE_AT_LEAST: Duration = Duration::from_millis(25);

/// How long a probe may take, whatever the deadline of calls is.
const REDIS_DEADLINE: Duration = Duration::from_millis(250);
const POSTGRES_DEADLINE: Duration = Duration::from_secs(1);

/// How often what a store owes is counted, apart from the probes: counting may take long.
const COUNT_EVERY: Duration = Duration::from_millis(500);

/// The totals that the probe reads: of nobody, so that there are none.
const NOBODY: &str = "switchyard-probe:total";

/// One store, now.
#[derive(Debug, Clone, Serialize)]
pub struct StoreHealth {
    /// `redis` or `postgres`.
    pub store: &'static str,
    /// What serves it, such as `embedded cache` or `PostgreSQL`.
    pub backend: &'static str,
    /// Whether calls of both sorts pass.
    pub up: bool,
    pub reads: State,
    pub writes: State,
    /// Milliseconds since 1970 since when it has been up or down.
    pub since: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What it holds that the other store does not, as counted last.
    pub backlog: Backlog,
    /// Whether what it holds has been compared since it came back: only then is it read.
    pub trusted: bool,
    /// Whether it may lack anything that was acknowledged while it was away: then it is not read.
    pub lags: bool,
}

impl StoreHealth {
    /// Whether it takes writes and its reads are believed.
    pub fn is_sound(&self) -> bool {
        self.up && self.trusted && !self.lags
    }
}

/// What is known about the stores.
pub struct Health {
    stores: Vec<Probed>,
}

struct Probed {
    side: Arc<Side>,
    backend: &'static str,
    deadline: Duration,
    nobody: Key,
    /// When a probe succeeded for the first time, in milliseconds since 1970; 0: never.
    reached: AtomicI64,
    /// Why the last probe failed, if it did.
    failure: Mutex<Option<StoreError>>,
    backlog: Mutex<Backlog>,
    up: Gauge,
    owed_records: Gauge,
    owed_usage: Gauge,
}

impl Health {
    pub fn new(sides: &Sides, backends: [&'static str; 2], metrics: &Metrics) -> Self {
        let sides = [&sides.redis, &sides.postgres];
        let configured =
            sides.into_iter().zip(backends).filter_map(|(side, name)| side.as_ref().zip(Some(name)));
        Self { stores: configured.map(|(side, backend)| Probed::new(side, backend, metrics)).collect() }
    }

    /// Probes every store once.
    pub async fn probe(&self) {
        futures::future::join_all(self.stores.iter().map(Probed::probe)).await;
    }

    /// Probes and counts for as long as the task lives, each store by itself.
    pub async fn run(self: Arc<Self>) {
        let watched = self.stores.iter().map(|store| async { tokio::join!(store.watch(), store.count()) });
        futures::future::join_all(watched).await;
    }

    pub fn stores(&self) -> Vec<StoreHealth> {
        self.stores.iter().map(Probed::health).collect()
    }

    /// Whether a strategy with these needs can serve: a strategy of two stores survives the loss of one. A store
    /// that is up and yet to be compared answers no read.
    pub fn can_serve(&self, needs: Needs) -> bool {
        let needed =
            |store: &str| (store == "redis" && needs.redis) || (store == "postgres" && needs.postgres);
        self.stores().iter().any(|health| needed(health.store) && health.is_sound())
    }
}

impl Probed {
    fn new(side: &Arc<Side>, backend: &'static str, metrics: &Metrics) -> Self {
        let store = side.which.name();
        let probed = Self {
            side: side.clone(),
            backend,
            deadline: match side.which {
                Which::Redis => REDIS_DEADLINE,
                Which::Postgres => POSTGRES_DEADLINE,
            },
            nobody: Key { kind: &kind::USAGE, id: NOBODY.into() },
            reached: AtomicI64::new(0),
            failure: Mutex::new(Some(StoreError::Unavailable("not probed yet".into()))),
            backlog: Mutex::default(),
            up: Gauge::default(),
            owed_records: Gauge::default(),
            owed_usage: Gauge::default(),
        };
        let up = "Whether calls of the store pass, as probes and calls have found it.";
        metrics.register(&format!("{store}_up"), up, probed.up.clone());
        let owed = "What it holds that the other store does not.";
        metrics.register(&format!("{store}_owed_records"), owed, probed.owed_records.clone());
        metrics.register(&format!("{store}_owed_usage_events"), owed, probed.owed_usage.clone());
        side.breaker().register(metrics);
        probed
    }

    fn breaker(&self) -> &Breaker {
        self.side.breaker()
    }

    /// Probes for ever, and at once when a call has failed.
    async fn watch(&self) {
        loop {
            self.probe().await;
            let breaker = self.breaker();
            let pause = match breaker.up_for_reads() && breaker.up_for_writes() {
                false => PAUSE_WHILE_DOWN,
                true if breaker.is_sound() => PAUSE,
                true => PAUSE_IN_DOUBT,
            };
            sleep(PAUSE_AT_LEAST).await;
            // A call that fails cuts the pause short.
            let _ = timeout(pause - PAUSE_AT_LEAST, breaker.doubted()).await;
        }
    }

    /// One write and one read at the same time.
    async fn probe(&self) {
        let (breaker, began) = (self.breaker(), Instant::now());
        breaker.begin_probe();
        let write = async {
            let written = self.within_deadline(self.side.backend.probe()).await;
            breaker.note_probe(Circuit::Writes, began, &written);
            written.err()
        };
        let read = async {
            let read = self.within_deadline(self.side.backend.get(&self.nobody)).await;
            breaker.note_probe(Circuit::Reads, began, &read);
            read.err()
        };
        let (write, read) = tokio::join!(write, read);
        let failure = write.or(read);
        if failure.is_none() && self.reached.load(Ordering::Acquire) == 0 {
            self.reached.store(now_ms(), Ordering::Release);
        }
        *self.failure.lock() = failure;
        self.up.set(self.is_up().into());
    }

    /// A probe that is given up is dropped; its backend makes sure that no late answer meets another question.
    async fn within_deadline<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        timeout(self.deadline, call).await.unwrap_or(Err(StoreError::Timeout))
    }

    /// Counts for ever what is owed, as long as the store answers.
    async fn count(&self) {
        loop {
            if self.breaker().up_for_reads()
                && let Ok(backlog) = self.side.backend.backlog().await
            {
                self.owed_records.set(backlog.records as i64);
                self.owed_usage.set(backlog.usage as i64);
                *self.backlog.lock() = backlog;
            }
            sleep(COUNT_EVERY).await;
        }
    }

    fn is_up(&self) -> bool {
        let reached = self.reached.load(Ordering::Acquire) > 0;
        reached && self.breaker().up_for_reads() && self.breaker().up_for_writes()
    }

    fn health(&self) -> StoreHealth {
        let circuits = Circuit::ALL.map(|circuit| self.breaker().state(circuit));
        let reached = self.reached.load(Ordering::Acquire);
        let broken = |circuit: &&BreakerState| circuit.state != State::Closed;
        let (since, error) = match circuits.iter().filter(broken).min_by_key(|circuit| circuit.since_ms) {
            Some(circuit) => (circuit.since_ms, circuit.reason.clone()),
            None if reached == 0 => {
                let failure = self.failure.lock().as_ref().map(ToString::to_string);
                (circuits[0].since_ms, failure)
            }
            None => (circuits.iter().map(|circuit| circuit.since_ms).fold(reached, i64::max), None),
        };
        StoreHealth {
            store: self.side.which.name(),
            backend: self.backend,
            up: reached > 0 && circuits.iter().all(|circuit| circuit.state == State::Closed),
            reads: circuits[0].state,
            writes: circuits[1].state,
            since,
            error,
            backlog: *self.backlog.lock(),
            trusted: self.side.is_trusted(),
            lags: self.side.lags(),
        }
    }
}
