//! Requests by method, route and status. A route is a pattern, so that labels stay few.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use serde::Serialize;

use crate::telemetry::Metrics;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answer {
    method: &'static str,
    route: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: &'static str,
}

/// Seconds; from an answer out of memory to an upload.
const BUCKETS: [f64; 14] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

pub(super) struct Requests {
    answers: Family<Answer, Counter>,
    seconds: Family<Route, Histogram, fn() -> Histogram>,
    answered: AtomicU64,
    failed: AtomicU64,
}

/// Requests since the start.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Totals {
    answered: u64,
    /// With a status of 500 or more.
    failed: u64,
}

impl Requests {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let seconds = || Histogram::new(BUCKETS);
        let requests = Self {
            answers: Family::default(),
            seconds: Family::new_with_constructor(seconds as fn() -> Histogram),
            answered: AtomicU64::default(),
            failed: AtomicU64::default(),
        };
        let help = "Requests answered, by method, route and status.";
        metrics.register("http_requests", help, requests.answers.clone());
        metrics.register("http_request_seconds", "How long an answer took.", requests.seconds.clone());
        requests
    }

    pub(super) fn record(&self, method: &'static str, route: &'static str, status: u16, took: Duration) {
        self.answers.get_or_create(&Answer { method, route, status }).inc();
        self.seconds.get_or_create(&Route { route }).observe(took.as_secs_f64());
        self.answered.fetch_add(1, Ordering::Relaxed);
        self.failed.fetch_add((status >= 500).into(), Ordering::Relaxed);
    }

    pub(super) fn totals(&self) -> Totals {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Totals { answered: of(&self.answered), failed: of(&self.failed) }
    }
}
