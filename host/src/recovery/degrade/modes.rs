//! Which stores a node has lost, and how what is in force has changed, for people.

use std::collections::VecDeque;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use serde::{Deserialize, Serialize};

use crate::store::clock::now_ms;
use crate::telemetry::Metrics;

/// How many transitions are remembered.
const KEPT: usize = 50;

/// Which stores count as lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    #[default]
    Normal,
    RedisLost,
    PostgresLost,
    BothLost,
}

impl Mode {
    pub(super) fn of(redis_lost: bool, postgres_lost: bool) -> Self {
        match (redis_lost, postgres_lost) {
            (false, false) => Self::Normal,
            (true, false) => Self::RedisLost,
            (false, true) => Self::PostgresLost,
            (true, true) => Self::BothLost,
        }
    }
}

/// An automatic change of what is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Transition {
    /// Milliseconds since 1970.
    pub at: i64,
    pub from: String,
    pub to: String,
    pub cause: String,
}

/// The mode, and how it came about.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ModeStatus {
    pub mode: Mode,
    /// Why it is not normal.
    pub cause: Option<String>,
    /// Milliseconds since 1970 since when.
    pub since: i64,
    /// The last ones, newest first.
    pub transitions: VecDeque<Transition>,
}

/// The modes of a node over time.
pub struct Modes {
    status: Mutex<ModeStatus>,
    mode: Gauge,
    transitions: Counter,
}

impl Modes {
    pub fn new(metrics: &Metrics) -> Self {
        let status = ModeStatus { since: now_ms(), ..ModeStatus::default() };
        let modes =
            Self { status: Mutex::new(status), mode: Gauge::default(), transitions: Counter::default() };
        let help = "Stores lost: 0 none, 1 Redis, 2 PostgreSQL, 3 both.";
        metrics.register("mode", help, modes.mode.clone());
        let help = "Automatic changes of the strategy in force.";
        metrics.register("transitions", help, modes.transitions.clone());
        modes
    }

    pub fn status(&self) -> ModeStatus {
        self.status.lock().clone()
    }

    pub fn mode(&self) -> Mode {
        self.status.lock().mode
    }

    pub(super) fn set(&self, mode: Mode, cause: impl FnOnce() -> String) {
        let mut status = self.status.lock();
        if status.mode == mode {
            return;
        }
        self.mode.set(mode as i64);
        (status.mode, status.since) = (mode, now_ms());
        status.cause = (mode != Mode::Normal).then(cause);
    }

    pub(super) fn changed(&self, from: String, to: String, cause: String) {
        self.transitions.inc();
        let mut status = self.status.lock();
        status.transitions.push_front(Transition { at: now_ms(), from, to, cause });
        status.transitions.truncate(KEPT);
    }
}
