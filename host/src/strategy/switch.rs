//! How one generation takes over from another while requests are in flight.
//!
//! 1. The old generation begins to hand over: what it acknowledges from then on is in both stores.
//! 2. Requests that began before that end; what they left in one store only is carried over.
//! 3. The new generation is published. It reads every write that was ever acknowledged.
//! 4. The old one drains, against a deadline, and is dropped.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use serde::Serialize;

use super::catalogue::{ActiveState, BUILT_IN};
use super::events::Event;
use super::generation::{DrainReport, Generation};
use super::records::CaughtUp;
use super::{Result, Strategies, StrategyError};
use crate::engine::{Digest, Needs};
use crate::store::side::Side;
use crate::telemetry::Metrics;

/// How long the requests of an old generation may take to end. Longer than any call may last, so that a
/// drain which fails is a defect.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(10);

/// Why a switch was made that undoes the one before.
const ROLLBACK: &str = "rollback";

/// What a switch did.
#[derive(Debug, Clone, Serialize)]
pub struct Switched {
    pub strategy: String,
    pub digest: Digest,
    pub generation: u64,
    /// False when this version was active already, and nothing was done.
    pub switched: bool,
    pub from: String,
    /// What had to be carried over for the new generation to read every acknowledged write.
    pub caught_up: CaughtUp,
    pub drain: DrainReport,
    pub at: Timestamp,
}

/// The state of switching, and its metrics.
pub(super) struct Switches {
    state: Mutex<ActiveState>,
    draining: Mutex<Option<(String, Digest)>>,
    pub(super) data: PathBuf,
    count: Counter,
    drain_seconds: Histogram,
    generation: Gauge,
}

impl Switches {
    pub(super) fn new(state: ActiveState, data: PathBuf, metrics: &Metrics) -> Self {
        let switches = Self {
            state: Mutex::new(state),
            draining: Mutex::default(),
            data,
            count: Counter::default(),
            drain_seconds: Histogram::new([0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0]),
            generation: Gauge::default(),
        };
        metrics.register("swaps", "Switches of the active strategy.", switches.count.clone());
        metrics.register("drain_seconds", "Drain of old generations.", switches.drain_seconds.clone());
        metrics.register("generation", "Number of the active generation.", switches.generation.clone());
        switches
    }

    pub(super) fn in_use(&self, name: &str, digest: &Digest) -> bool {
        let is = |(n, d): &(String, String)| n == name && *d == digest.to_string();
        self.state.lock().previous.as_ref().is_some_and(is)
            || self.draining.lock().as_ref().is_some_and(|(n, d)| n == name && d == digest)
    }
}

impl Strategies {
    /// Makes a version active: the newest of the name unless `digest` says which. Goes on to its end even if
    /// the caller stops waiting.
    pub async fn activate(
        self: &Arc<Self>,
        name: &str,
        digest: Option<&Digest>,
        if_match: Option<u64>,
        by: &'static str,
        why: &'static str,
    ) -> Result<Switched> {
        let (this, name, digest) = (self.clone(), name.to_owned(), digest.cloned());
        let switch =
            tokio::spawn(async move { this.activate_here(&name, digest.as_ref(), if_match, by, why).await });
        switch.await.unwrap_or(Err(StrategyError::Busy))
    }

    async fn activate_here(
        &self,
        name: &str,
        digest: Option<&Digest>,
        if_match: Option<u64>,
        by: &str,
        why: &str,
    ) -> Result<Switched> {
        let active = self.active.enter().number;
        if if_match.is_some_and(|expected| expected != active) {
            return Err(StrategyError::Raced(active));
        }
        let digest = self.choose(name, digest).await?;
        let switched = self.switch_if(name, &digest, if_match, by, why).await;
        if let Err(error) = &switched {
            self.events.add(Event::new("refused", name, by, error.to_string())).await;
        }
        switched
    }

    /// Makes active again what was active before the last switch.
    pub async fn rollback(self: &Arc<Self>, by: &'static str) -> Result<Switched> {
        let previous = self.switches.state.lock().previous.clone();
        let (name, digest) = previous.ok_or(StrategyError::NothingBefore)?;
        let digest = Digest::parse(&digest).ok_or(StrategyError::NothingBefore)?;
        self.activate(&name, Some(&digest), None, by, ROLLBACK).await
    }

    async fn choose(&self, name: &str, digest: Option<&Digest>) -> Result<Digest> {
        if digest.is_none()
            && let Some((_, bytes)) = BUILT_IN.iter().find(|(built_in, _)| *built_in == name)
            && let Err(StrategyError::Store(_)) = self.get(name).await
        {
            // The catalogue cannot be reached; a built-in strategy needs none.
            return Ok(Digest::of(bytes));
        }
        let versions = self.get(name).await?.versions;
        let newest = versions.last().map(|version| version.digest.clone());
        let unknown = |digest: &Digest| StrategyError::UnknownVersion(name.into(), digest.to_string());
        match digest {
            Some(digest) if versions.iter().any(|version| version.digest == *digest) => Ok(digest.clone()),
            Some(digest) => Err(unknown(digest)),
            None => newest.ok_or_else(|| StrategyError::UnknownStrategy(name.into())),
        }
    }

    pub(super) async fn switch(&self, name: &str, digest: &Digest, by: &str, why: &str) -> Result<Switched> {
        self.switch_if(name, digest, None, by, why).await
    }

    async fn switch_if(
        &self,
        name: &str,
        digest: &Digest,
        if_match: Option<u64>,
        by: &str,
        why: &str,
    ) -> Result<Switched> {
        let compiled = self.prepare(name, digest).await?;
        let _switching = self.active.begin_switch().ok_or(StrategyError::Busy)?;
        let old = self.active.enter();
        if if_match.is_some_and(|expected| expected != old.number) {
            return Err(StrategyError::Raced(old.number));
        }
        let from = old.label();
        if old.name == name && old.digest == *digest {
            return Ok(unchanged(&old));
        }
        let number = self.switches.state.lock().generation + 1;
        let next = self.generation(number, name, &compiled);
        let (old_needs, old_id) = (old.needs, (old.name.clone(), old.digest.clone()));
        let handing_over = old.handing_over();
        drop(old);
        *self.switches.draining.lock() = Some(old_id.clone());
        let caught_up = self.hand_over(handing_over, old_needs, compiled.needs).await;
        let drain = self.active.replace(next, DRAIN_DEADLINE).await;
        *self.switches.draining.lock() = None;
        let switched = Switched {
            strategy: name.into(),
            digest: digest.clone(),
            generation: number,
            switched: true,
            from,
            caught_up,
            drain,
            at: Timestamp::now(),
        };
        self.note(&switched, old_id, by, why).await;
        Ok(switched)
    }

    /// Steps 1 and 2: afterwards nothing acknowledged is in one store only, as far as both can be reached.
    async fn hand_over(&self, old: Generation, from: Needs, to: Needs) -> CaughtUp {
        self.active.replace(old, DRAIN_DEADLINE).await;
        let keeps_both = |needs: Needs| needs.redis && needs.postgres;
        let current = |side: &Option<Arc<Side>>| side.as_ref().is_none_or(|side| side.is_caught_up());
        let nothing_waits = current(&self.sides.redis) && current(&self.sides.postgres);
        if keeps_both(from) && keeps_both(to) && nothing_waits {
            return CaughtUp::default();
        }
        self.carry.catch_up().await
    }

    async fn note(&self, switched: &Switched, old: (String, Digest), by: &str, why: &str) {
        let previous = (!old.0.is_empty()).then(|| (old.0, old.1.to_string()));
        let (name, digest) = (switched.strategy.clone(), switched.digest.to_string());
        let state = {
            let mut state = self.switches.state.lock();
            let previous = previous.or_else(|| state.previous.take());
            *state = ActiveState { generation: switched.generation, name, digest, previous };
            state.clone()
        };
        self.switches.count.inc();
        self.switches.generation.set(switched.generation as i64);
        self.switches.drain_seconds.observe(switched.drain.after_ms / 1_000.0);
        self.keep(&state).await;
        let DrainReport { in_flight, drained, after_ms } = switched.drain;
        let ended = if drained { "drained" } else { "still not drained" };
        let carried = &switched.caught_up;
        let detail = format!(
            "{why}; from {}, {in_flight} in flight at the switch, {ended} after {after_ms:.1} ms, carried over {} records and {} usage events{}",
            switched.from,
            carried.records,
            carried.usage,
            carried.incomplete.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default(),
        );
        let action = if why == ROLLBACK { "rolled-back" } else { "activated" };
        let event = Event::new(action, &state.name, by, detail);
        self.events
            .add(Event { digest: Some(state.digest), generation: Some(state.generation), ..event })
            .await;
    }
}

fn unchanged(active: &Generation) -> Switched {
    Switched {
        strategy: active.name.clone(),
        digest: active.digest.clone(),
        generation: active.number,
        switched: false,
        from: active.label(),
        caught_up: CaughtUp::default(),
        drain: DrainReport { in_flight: 0, drained: true, after_ms: 0.0 },
        at: Timestamp::now(),
    }
}
