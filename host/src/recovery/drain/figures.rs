//! What the drain tells about itself: how much it has carried over, and how far a store is behind.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use serde::Serialize;
use tracing::error;

use crate::store::clock::now_ms;
use crate::store::side::Which;
use crate::store::{Backlog, StoreError};
use crate::telemetry::{Metrics, Seldom};

/// What the drain of this node has done since it started.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Figures {
    /// Records and events carried over.
    pub carried: u64,
    /// Carried over per second, over about the last second.
    pub per_second: f64,
    /// How often a store refused a record or an event.
    pub refused: u64,
}

pub(super) struct Told {
    carried: Counter,
    refused: Counter,
    refusals: Seldom,
    looks: AtomicU64,
    /// By store: when its oldest mark was set, as far as known; 0 for none.
    oldest_ms: [AtomicI64; 2],
    lag_seconds: [Gauge<f64, AtomicU64>; 2],
    rate: Mutex<Rate>,
}

struct Rate {
    at: Instant,
    carried: u64,
    per_second: f64,
}

impl Told {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let told = Self {
            carried: Counter::default(),
            refused: Counter::default(),
            refusals: Seldom::new(),
            looks: AtomicU64::new(0),
            oldest_ms: Default::default(),
            lag_seconds: Default::default(),
            rate: Mutex::new(Rate { at: Instant::now(), carried: 0, per_second: 0.0 }),
        };
        metrics.register(
            "carried_over",
            "Records and events carried over by the drain.",
            told.carried.clone(),
        );
        let refused = "Records and events that a store refused to take from the drain.";
        metrics.register("carry_over_refused", refused, told.refused.clone());
        for (which, lag) in [Which::Redis, Which::Postgres].into_iter().zip(&told.lag_seconds) {
            let help = "Age of the oldest record that it holds and the other store does not.";
            metrics.register(&format!("{}_lag_seconds", which.name()), help, lag.clone());
        }
        told
    }

    /// Notes what a look has found in Redis and in PostgreSQL; none where it could not be asked.
    pub(super) fn note(&self, backlogs: [Option<&Backlog>; 2]) {
        self.looks.fetch_add(1, Ordering::Relaxed);
        for (place, backlog) in backlogs.into_iter().enumerate() {
            let known = &self.oldest_ms[place];
            if let Some(backlog) = backlog {
                known.store(backlog.oldest_ms.unwrap_or(0), Ordering::Relaxed);
            }
            let lag = match known.load(Ordering::Relaxed) {
                0 => 0,
                oldest => (now_ms() - oldest).max(0),
            };
            self.lag_seconds[place].set(lag as f64 / 1_000.0);
        }
        self.rate.lock().note(self.carried.get());
    }

    pub(super) fn looks(&self) -> u64 {
        self.looks.load(Ordering::Relaxed)
    }

    pub(super) fn carried(&self, count: usize) {
        self.carried.inc_by(count as u64);
    }

    pub(super) fn refused(&self, store: &'static str, what: &str, why: &StoreError) {
        self.refused.inc();
        if self.refusals.is_due() {
            error!(store, what, %why, "refused from the other store, and tried again every few seconds");
        }
    }

    pub(super) fn figures(&self) -> Figures {
        // What has decayed to nothing is nothing.
        let per_second = (self.rate.lock().per_second * 1_000.0).round() / 1_000.0;
        Figures { carried: self.carried.get(), per_second, refused: self.refused.get() }
    }
}

impl Rate {
    /// The newest second weighs the most.
    fn note(&mut self, carried: u64) {
        let seconds = self.at.elapsed().as_secs_f64().max(0.001);
        let now = (carried - self.carried) as f64 / seconds;
        let weight = (seconds / (seconds + 1.0)).clamp(0.0, 1.0);
        *self = Self {
            at: Instant::now(),
            carried,
            per_second: self.per_second + (now - self.per_second) * weight,
        };
    }
}
