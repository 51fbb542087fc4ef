//! Whether each store takes writes: probed twice a second, with a real write.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use serde::Serialize;
use tracing::{info, warn};

use crate::engine::Needs;
use crate::store::side::{Side, Sides};
use crate::store::{Backlog, StoreError, clock::now_ms};
use crate::telemetry::Metrics;

const PROBE_EVERY: Duration = Duration::from_millis(500);

/// One store, as the last probe found it.
#[derive(Debug, Clone, Serialize)]
pub struct StoreHealth {
    /// `redis` or `postgres`.
    pub store: &'static str,
    /// What serves it, such as `embedded cache` or `PostgreSQL`.
    pub backend: &'static str,
    pub up: bool,
    /// Milliseconds since 1970 since when it has been up or down.
    pub since: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What it holds that the other store does not.
    pub backlog: Backlog,
}

/// What is known about the stores.
pub struct Health {
    stores: Vec<Probed>,
}

struct Probed {
    side: Arc<Side>,
    last: Mutex<StoreHealth>,
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

    /// Probes for as long as the task lives.
    pub async fn run(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(PROBE_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.probe().await;
        }
    }

    pub fn stores(&self) -> Vec<StoreHealth> {
        self.stores.iter().map(|probed| probed.last.lock().clone()).collect()
    }

    /// Whether a strategy with these needs can serve: a strategy of two stores survives the loss of one.
    pub fn can_serve(&self, needs: Needs) -> bool {
        let needed =
            |store: &str| (store == "redis" && needs.redis) || (store == "postgres" && needs.postgres);
        self.stores().iter().any(|health| needed(health.store) && health.up)
    }
}

impl Probed {
    fn new(side: &Arc<Side>, backend: &'static str, metrics: &Metrics) -> Self {
        let store = side.which.name();
        let last = StoreHealth {
            store,
            backend,
            up: false,
            since: now_ms(),
            error: Some("not probed yet".into()),
            backlog: Backlog::default(),
        };
        let probed = Self {
            side: side.clone(),
            last: Mutex::new(last),
            up: Gauge::default(),
            owed_records: Gauge::default(),
            owed_usage: Gauge::default(),
        };
        metrics.register(
            &format!("{store}_up"),
            "Whether the last write probe succeeded.",
            probed.up.clone(),
        );
        let owed = "What it holds that the other store does not.";
        metrics.register(&format!("{store}_owed_records"), owed, probed.owed_records.clone());
        metrics.register(&format!("{store}_owed_usage_events"), owed, probed.owed_usage.clone());
        probed
    }

    async fn probe(&self) {
        let probed = self.side.backend.probe().await;
        let backlog = self.side.backend.backlog().await.unwrap_or_default();
        self.owed_records.set(backlog.records as i64);
        self.owed_usage.set(backlog.usage as i64);
        self.note(probed.err(), backlog);
    }

    fn note(&self, error: Option<StoreError>, backlog: Backlog) {
        let mut last = self.last.lock();
        let (store, up) = (last.store, error.is_none());
        if up != last.up {
            last.since = now_ms();
            match &error {
                None => info!(store, "store is up"),
                Some(error) => warn!(store, %error, "store is down"),
            }
        }
        self.up.set(up.into());
        (last.up, last.error, last.backlog) = (up, error.map(|error| error.to_string()), backlog);
    }
}
