//! How one generation takes over from another while requests are in flight.
//!
//! 1. The old generation begins to hand over: what it acknowledges from then on is in both stores.
//! 2. Requests that began before that end; what they left in one store only is carried over.
//! 3. The new generation is published. It reads every write that was ever acknowledged.
//! 4. The old one drains, against a deadline, and is dropped.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use serde::Serialize;
use tokio::time::timeout;

use super::activation::ROLLBACK;
use super::catalogue::ActiveState;
use super::choice::{Choice, Choosing, InForce};
use super::events::Event;
use super::generation::{DrainReport, Generation};
use super::records::CaughtUp;
use super::resume::{Remembered, STARTUP};
use super::{Result, Strategies, StrategyError};
use crate::engine::{Digest, Needs};
use crate::store::side::{ShownNoted, Side};
use crate::telemetry::Metrics;

/// How long the requests of an old generation may take to end. Longer than any call may last, so that a
/// drain which fails is a defect.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(10);

/// How long a start waits until what the stores owe each other is carried over. The rest follows while it serves:
/// a store that is owed something for long is not read without the other.
const START_WAITS: Duration = Duration::from_secs(10);

/// What a switch did.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Switched {
    pub strategy: String,
    #[schema(value_type = String)]
    pub digest: Digest,
    pub generation: u64,
    /// False when this version was in force already, or is not yet: then the choice alone has changed.
    pub switched: bool,
    pub from: String,
    /// What had to be carried over for the new generation to read every acknowledged write.
    pub caught_up: CaughtUp,
    pub drain: DrainReport,
    pub chosen: Choice,
    pub in_force: InForce,
    pub pinned: bool,
    #[schema(value_type = String)]
    pub at: Timestamp,
}

/// What is to come into force, and on whose word.
pub(super) struct Order<'a> {
    pub(super) name: &'a str,
    pub(super) digest: &'a Digest,
    /// Only if this generation is active.
    pub(super) if_match: Option<u64>,
    pub(super) by: &'a str,
    pub(super) why: &'a str,
    pub(super) choosing: Choosing,
}

/// The state of switching, and its metrics.
pub(super) struct Switches {
    pub(super) chosen: Mutex<ActiveState>,
    /// Why what is in force is not what was chosen, if it is not.
    pub(super) instead: Mutex<Option<String>>,
    /// The switch under way is one that nobody asked for.
    pub(super) automatic: AtomicBool,
    /// The choice is not in the durable store yet.
    pub(super) unkept: AtomicBool,
    /// The greatest number that a generation of this node has had.
    reached: AtomicU64,
    draining: Mutex<Option<(String, Digest)>>,
    pub(super) data: PathBuf,
    count: Counter,
    drain_seconds: Histogram,
    generation: Gauge,
}

impl Switches {
    pub(super) fn new(remembered: Remembered, data: PathBuf, metrics: &Metrics) -> Self {
        let switches = Self {
            chosen: Mutex::new(remembered.chosen),
            instead: Mutex::default(),
            automatic: AtomicBool::new(false),
            unkept: AtomicBool::new(false),
            reached: AtomicU64::new(remembered.reached),
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
        let chosen = self.chosen.lock();
        let is = |(n, d): &(String, String)| n == name && *d == digest.to_string();
        chosen.is(name, digest)
            || chosen.previous.as_ref().is_some_and(is)
            || self.draining.lock().as_ref().is_some_and(|(n, d)| n == name && d == digest)
    }

    pub(super) fn reached(&self) -> u64 {
        self.reached.load(Ordering::Acquire)
    }
}

impl Strategies {
    /// Brings a version into force, and makes the choice that goes with that.
    pub(super) async fn switch(&self, order: Order<'_>) -> Result<Switched> {
        let compiled = self.prepare(order.name, order.digest).await?;
        let _switching = self.active.begin_switch().ok_or(StrategyError::Busy)?;
        let is_automatic = matches!(order.choosing, Choosing::Kept(_));
        self.switches.automatic.store(is_automatic, Ordering::Release);
        let old = self.active.enter();
        if order.if_match.is_some_and(|expected| expected != old.number) {
            return Err(StrategyError::Raced(old.number));
        }
        let chosen = self.chosen();
        let is_choice = chosen.is(order.name, order.digest);
        if matches!(order.choosing, Choosing::Kept(Some(_))) && chosen.pinned && !is_choice {
            return Err(StrategyError::Pinned(chosen.name));
        }
        let number = self.number_for(&order);
        let same = old.name == order.name && old.digest == *order.digest;
        let is_behind =
            matches!(&order.choosing, Choosing::Elsewhere(state) if state.generation > old.number);
        if same && !is_behind {
            self.choose(&order, &old).await;
            return Ok(self.unchanged(order.name, &old));
        }
        let next = self.generation(number, order.name, &compiled);
        let from = old.label();
        *self.switches.draining.lock() = Some((old.name.clone(), old.digest.clone()));
        // What a lost store alone has cannot be carried over now, and is not answered meanwhile.
        let stands_in = matches!(order.choosing, Choosing::Kept(Some(_))) && !is_choice;
        // What the old one reads in PostgreSQL after that, the new one must not take back.
        let _noted = ShownNoted::on(self.sides.redis.as_ref());
        let caught_up = self.hand_over(old, compiled.needs, !same && !stands_in, order.by).await;
        let carried_over = caught_up.as_ref().is_some_and(|done| done.incomplete.is_none());
        self.prepare.before(compiled.needs, order.why, carried_over).await;
        self.set_in_force(&order, number);
        let drain = self.active.replace(next, DRAIN_DEADLINE).await;
        *self.switches.draining.lock() = None;
        let switched = self.report(&order, number, from, caught_up.unwrap_or_default(), drain);
        self.note(&switched, &order).await;
        Ok(switched)
    }

    /// The number after all that this node has had and knows of.
    pub(super) fn next_number(&self) -> u64 {
        self.switches.reached().max(self.switches.chosen.lock().generation) + 1
    }

    /// The number of the generation that an order makes.
    fn number_for(&self, order: &Order<'_>) -> u64 {
        match &order.choosing {
            Choosing::Elsewhere(state) => state.generation.max(self.switches.reached() + 1),
            _ => self.next_number(),
        }
    }

    /// What was chosen and what is in force instead, as of the generation with this number.
    fn set_in_force(&self, order: &Order<'_>, number: u64) {
        let chosen = self.choice_of(order, self.chosen(), number);
        *self.switches.instead.lock() = match &order.choosing {
            Choosing::Kept(Some(cause)) if !chosen.is(order.name, order.digest) => Some(cause.clone()),
            _ => None,
        };
        *self.switches.chosen.lock() = chosen;
        self.switches.reached.fetch_max(number, Ordering::AcqRel);
    }

    /// Steps 1 and 2: afterwards nothing acknowledged is in one store only, as far as both can be reached. None if
    /// there was nothing to carry over, or no need to look. Takes the old generation in any case: a switch that
    /// held it would wait for itself when it drains.
    async fn hand_over(&self, old: Arc<Generation>, to: Needs, carries: bool, by: &str) -> Option<CaughtUp> {
        let (from, handing_over) = (old.needs, old.handing_over());
        drop(old);
        if !carries {
            return None;
        }
        self.active.replace(handing_over, DRAIN_DEADLINE).await;
        let keeps_both = |needs: Needs| needs.redis && needs.postgres;
        let current = |side: &Option<Arc<Side>>| side.as_ref().is_none_or(|side| side.is_caught_up());
        let nothing_waits = current(&self.sides.redis) && current(&self.sides.postgres);
        if keeps_both(from) && keeps_both(to) && nothing_waits && self.is_alone().await {
            return None;
        }
        let carrying = self.carry.catch_up();
        if by != STARTUP {
            return Some(carrying.await);
        }
        let goes_on = || CaughtUp { incomplete: Some("the rest follows".into()), ..CaughtUp::default() };
        Some(timeout(START_WAITS, carrying).await.unwrap_or_else(|_| goes_on()))
    }

    /// Whether no other node uses these stores, as far as each says: others' writes are not known here.
    async fn is_alone(&self) -> bool {
        for side in [&self.sides.redis, &self.sides.postgres].into_iter().flatten() {
            let Some(board) = side.backend.board() else { continue };
            match board.lines().await {
                Ok(lines) if lines.len() <= 1 => {}
                // Who cannot be asked may know of others.
                _ => return false,
            }
        }
        true
    }

    fn report(
        &self,
        order: &Order<'_>,
        generation: u64,
        from: String,
        caught_up: CaughtUp,
        drain: DrainReport,
    ) -> Switched {
        let (chosen, in_force) = (self.choice(), self.in_force());
        Switched {
            strategy: order.name.into(),
            digest: order.digest.clone(),
            generation,
            switched: true,
            from,
            caught_up,
            drain,
            pinned: chosen.pinned,
            chosen,
            in_force,
            at: Timestamp::now(),
        }
    }

    /// The report on a switch that left in force what was.
    pub(super) fn unchanged(&self, name: &str, active: &Generation) -> Switched {
        let (chosen, in_force) = (self.choice(), self.in_force());
        Switched {
            strategy: name.into(),
            digest: active.digest.clone(),
            generation: active.number,
            switched: false,
            from: active.label(),
            caught_up: CaughtUp::default(),
            drain: DrainReport { in_flight: 0, drained: true, after_ms: 0.0 },
            pinned: chosen.pinned,
            chosen,
            in_force,
            at: Timestamp::now(),
        }
    }

    async fn note(&self, switched: &Switched, order: &Order<'_>) {
        self.switches.count.inc();
        self.switches.generation.set(switched.generation as i64);
        self.switches.drain_seconds.observe(switched.drain.after_ms / 1_000.0);
        let chosen = self.chosen();
        match order.choosing {
            Choosing::Here { .. } => self.keep(&chosen).await,
            _ => self.keep_here(&chosen).await,
        }
        let DrainReport { in_flight, drained, after_ms } = switched.drain;
        let ended = if drained { "drained" } else { "still not drained" };
        let carried = &switched.caught_up;
        let detail = format!(
            "{}; from {}, {in_flight} in flight at the switch, {ended} after {after_ms:.1} ms, carried over {} records and {} usage events{}{}",
            order.why,
            switched.from,
            carried.records,
            carried.usage,
            carried.incomplete.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default(),
            carried.refused.as_ref().map(|refused| format!("; {refused}")).unwrap_or_default(),
        );
        let action = if order.why == ROLLBACK { "rolled-back" } else { "activated" };
        let event = Event::new(action, order.name, order.by, detail);
        let (digest, generation) = (Some(order.digest.to_string()), Some(switched.generation));
        self.events.add(Event { digest, generation, ..event }).await;
    }
}
