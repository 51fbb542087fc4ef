//! What the host tells about itself: metrics and log lines. Never a record's contents, never a secret.

pub mod latency;
pub mod log;
mod seldom;
mod store;

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

pub use seldom::Seldom;
pub use store::{Calls, StoreMetrics};

/// An operation of the contract, or one that only the host does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Get,
    Find,
    Scan,
    Put,
    Add,
}

impl Operation {
    pub const ALL: [Self; 5] = [Self::Get, Self::Find, Self::Scan, Self::Put, Self::Add];

    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Find => "find",
            Self::Scan => "scan",
            Self::Put => "put",
            Self::Add => "add",
        }
    }
}

/// How a store call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Ok,
    Unavailable,
    Timeout,
    Conflict,
    Unsupported,
    Error,
}

impl Outcome {
    const ALL: [Self; 6] =
        [Self::Ok, Self::Unavailable, Self::Timeout, Self::Conflict, Self::Unsupported, Self::Error];

    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Conflict => "conflict",
            Self::Unsupported => "unsupported",
            Self::Error => "error",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    store: String,
    operation: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LatencyLabels {
    store: String,
    operation: &'static str,
}

/// How a strategy's call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StrategyOutcome {
    Ok,
    /// An error that the contract has: the strategy's answer.
    Error,
    /// The strategy trapped, passed a limit or broke the contract.
    Failed,
    Overloaded,
}

/// The labels of [`StrategyOutcome`], in its order.
const STRATEGY_OUTCOMES: [&str; 4] = ["ok", "error", "failed", "overloaded"];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StrategyLabels {
    strategy: String,
    generation: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StrategyCallLabels {
    strategy: String,
    generation: u64,
    outcome: &'static str,
}

/// Seconds; from a near-cache hit to a deadline.
const BUCKETS: [f64; 12] =
    [0.000_01, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.25, 1.0];

fn latency() -> Histogram {
    Histogram::new(BUCKETS)
}

/// The registry of one server. A value, not a global: a process may run several servers.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<parking_lot::Mutex<Registry>>,
    calls: Family<CallLabels, Counter>,
    latency: Family<LatencyLabels, Histogram, fn() -> Histogram>,
    strategy_calls: Family<StrategyCallLabels, Counter>,
    strategy_leases: Family<StrategyLabels, Gauge>,
    strategy_queue: Family<StrategyLabels, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            registry: Arc::new(parking_lot::Mutex::new(Registry::with_prefix("switchyard"))),
            calls: Family::default(),
            latency: Family::new_with_constructor(latency as fn() -> Histogram),
            strategy_calls: Family::default(),
            strategy_leases: Family::default(),
            strategy_queue: Family::default(),
        };
        metrics.register("store_calls", "Calls of a store by operation and outcome.", metrics.calls.clone());
        metrics.register("store_call_seconds", "How long a store took.", metrics.latency.clone());
        let calls =
            "Calls of a strategy; failed means that it trapped, passed a limit or broke the contract.";
        metrics.register("strategy_calls", calls, metrics.strategy_calls.clone());
        let leases = "Instances that are lent to a call.";
        metrics.register("strategy_leases", leases, metrics.strategy_leases.clone());
        metrics.register(
            "strategy_queue",
            "Calls that wait for an instance.",
            metrics.strategy_queue.clone(),
        );
        metrics
    }
}

impl Metrics {
    /// Adds a metric; its name gets the prefix `switchyard_`.
    pub fn register(&self, name: &str, help: &str, metric: impl prometheus_client::registry::Metric) {
        self.registry.lock().register(name, help.trim_end_matches('.'), metric);
    }

    /// All metrics in the Prometheus text format.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry.lock());
        text
    }

    /// The counters of one store, looked up once.
    pub fn store(&self, store: &str) -> StoreMetrics {
        let call = |operation: Operation, outcome: Outcome| {
            let (operation, outcome) = (operation.name(), outcome.name());
            let labels = CallLabels { store: store.into(), operation, outcome };
            self.calls.get_or_create_owned(&labels)
        };
        let calls = Operation::ALL.map(|operation| Outcome::ALL.map(|outcome| call(operation, outcome)));
        let seconds = Operation::ALL.map(|operation| {
            let labels = LatencyLabels { store: store.into(), operation: operation.name() };
            self.latency.get_or_create_owned(&labels)
        });
        StoreMetrics::new(calls, seconds)
    }

    /// The metrics of one generation of a strategy, looked up once and gone with the value returned.
    pub fn strategy(&self, strategy: &str, generation: u64) -> StrategyMetrics {
        let labels = StrategyLabels { strategy: strategy.into(), generation };
        StrategyMetrics {
            calls: STRATEGY_OUTCOMES.map(|outcome| {
                let labels = StrategyCallLabels { strategy: strategy.into(), generation, outcome };
                self.strategy_calls.get_or_create_owned(&labels)
            }),
            leases: self.strategy_leases.get_or_create_owned(&labels),
            queue: self.strategy_queue.get_or_create_owned(&labels),
            labels,
            metrics: self.clone(),
        }
    }
}

/// Calls of one generation of a strategy.
pub struct StrategyMetrics {
    calls: [Counter; STRATEGY_OUTCOMES.len()],
    pub leases: Gauge,
    pub queue: Gauge,
    labels: StrategyLabels,
    metrics: Metrics,
}

impl StrategyMetrics {
    pub fn record(&self, outcome: StrategyOutcome) {
        self.calls[outcome as usize].inc();
    }
}

/// A generation that is gone is no longer listed, so that the list stays short.
impl Drop for StrategyMetrics {
    fn drop(&mut self) {
        for outcome in STRATEGY_OUTCOMES {
            let StrategyLabels { strategy, generation } = self.labels.clone();
            self.metrics.strategy_calls.remove(&StrategyCallLabels { strategy, generation, outcome });
        }
        self.metrics.strategy_leases.remove(&self.labels);
        self.metrics.strategy_queue.remove(&self.labels);
    }
}
