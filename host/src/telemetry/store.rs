//! Calls of one store: counted for Prometheus, and summed up for the admin API.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use serde::Serialize;

use super::latency::{Latency, Summary};
use super::{Operation, Outcome};

/// Calls of one store.
pub struct StoreMetrics {
    calls: [[Counter; Outcome::ALL.len()]; Operation::ALL.len()],
    seconds: [Histogram; Operation::ALL.len()],
    latency: [Latency; Operation::ALL.len()],
    found: Counter,
}

/// One operation since the start. The latency is of the calls that were tried.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Calls {
    pub calls: u64,
    /// Calls that ended unavailable, without an answer in time, or in an unexpected way.
    pub errors: u64,
    #[serde(flatten)]
    pub latency: Summary,
}

impl StoreMetrics {
    pub(super) fn new(
        calls: [[Counter; Outcome::ALL.len()]; Operation::ALL.len()],
        seconds: [Histogram; Operation::ALL.len()],
    ) -> Self {
        Self {
            calls,
            seconds,
            latency: Operation::ALL.map(|_| Latency::default()),
            found: Counter::default(),
        }
    }

    /// A call that was tried.
    pub fn record(&self, operation: Operation, outcome: Outcome, took: Duration) {
        let operation = operation as usize;
        self.calls[operation][outcome as usize].inc();
        self.seconds[operation].observe(took.as_secs_f64());
        self.latency[operation].record(took);
    }

    /// A call that was not tried: it says nothing about how long the store takes.
    pub fn refused(&self, operation: Operation, outcome: Outcome) {
        self.calls[operation as usize][outcome as usize].inc();
    }

    /// A lookup that has found a record.
    pub fn found(&self) {
        self.found.inc();
    }

    pub fn calls(&self, operation: Operation) -> Calls {
        let of = |outcome: Outcome| self.calls[operation as usize][outcome as usize].get();
        Calls {
            calls: Outcome::ALL.into_iter().map(of).sum(),
            errors: [Outcome::Unavailable, Outcome::Timeout, Outcome::Error].into_iter().map(of).sum(),
            latency: self.latency[operation as usize].summary(),
        }
    }

    /// Lookups that have found a record, and lookups.
    pub fn hits(&self) -> (u64, u64) {
        let lookups = [Operation::Get, Operation::Find].map(|operation| self.calls(operation).calls);
        (self.found.get(), lookups.iter().sum())
    }
}
