//! Carries over what one store has and the other has not, and clears the marks.
//!
//! A mark is state, not a log: the drain copies the record as it is now, by compare-and-set, so that it may
//! be repeated, reordered or interrupted anywhere, and done by several nodes at once. It serves every store that
//! the active strategy needs, or the chosen one, and Redis while that has the last word: other nodes read it. What is
//! owed to another one waits for the switch.
//!
//! # Layout
//! - [`pass`]: one pass in one direction: what was announced, what is marked, what is counted
//! - [`carry`]: records and events on their way, one batch at a time
//! - [`refused`]: what a store does not take, so that it stops nobody
//! - [`watch`]: how long what waits has waited
//! - [`figures`]: what the drain tells about itself

mod carry;
mod figures;
mod pass;
mod refused;
mod watch;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::debug;

use super::conflicts::Conflicts;
use crate::engine::Needs;
use crate::store::side::{Side, Sides, Which};
use crate::store::{Backlog, Key, Record, Result, StoreError, Usage, Version};
use crate::strategy::records::{CarryOver, CaughtUp};
use crate::telemetry::Metrics;
use carry::Halved;
pub use figures::Figures;
use figures::Told;
use refused::Refused;
pub use refused::Waiting;

/// How often the stores are asked for marks that nobody here has announced: those of another node or an
/// earlier run.
const LOOK: Duration = Duration::from_millis(100);
/// How long cleared marks are gathered before they are written.
const GATHER: Duration = Duration::from_millis(50);
/// How long announcements are gathered before they are served.
const ANNOUNCED: Duration = Duration::from_millis(10);
/// How many marks may wait to be cleared. What does not fit is found again by the drain.
const MAX_WAITING: usize = 20_000;

/// The stores that this node needs now.
pub type Needed = Box<dyn Fn() -> Needs + Send + Sync>;

/// The drain of a node. Clones share one.
#[derive(Clone)]
pub struct Drain {
    sides: Sides,
    offset: jiff::tz::Offset,
    conflicts: Arc<Conflicts>,
    settled: Arc<Mutex<Settled>>,
    /// Ids of events that calls in flight are counting.
    in_flight: Arc<Mutex<HashSet<String>>>,
    /// Ids of owed events that the last look has seen, by the store that owes them.
    seen: Arc<Mutex<[HashSet<String>; 2]>>,
    refused: Arc<Mutex<Refused>>,
    halved: Arc<Halved>,
    owed: Arc<Notify>,
    /// One batch at a time on this node; several nodes do no harm.
    turn: Arc<tokio::sync::Mutex<()>>,
    told: Arc<Told>,
}

#[derive(Default)]
struct Settled {
    records: Vec<(Key, Version)>,
    usage: Vec<String>,
}

impl Settled {
    async fn clear(&self, side: &Side) -> Result<()> {
        if !self.records.is_empty() {
            side.backend.settle(&self.records).await?;
        }
        if !self.usage.is_empty() {
            side.backend.settle_usage(&self.usage).await?;
        }
        Ok(())
    }
}

/// The store that has something, and the one that lacks it.
#[derive(Clone, Copy)]
struct Way<'a> {
    from: &'a Side,
    to: &'a Side,
    /// The other store has marks too: of a record with both, the two versions were written without each other.
    contested: bool,
}

impl Drain {
    pub fn new(sides: Sides, offset: jiff::tz::Offset, conflicts: Arc<Conflicts>, metrics: &Metrics) -> Self {
        let told = Arc::new(Told::new(metrics));
        let (settled, in_flight, seen, refused, halved, owed, turn) = Default::default();
        Self { sides, offset, conflicts, settled, in_flight, seen, refused, halved, owed, turn, told }
    }

    /// Drains for as long as the task lives, towards the stores that are needed and those that others read.
    pub async fn run(self, needed: Needed) {
        tokio::join!(self.clear_marks(), self.follow(&needed), self.look(&needed), self.watch());
    }

    /// What it has done and what it could not do.
    pub fn figures(&self) -> Figures {
        self.told.figures()
    }

    /// What a store refuses now: the first hundred records, by name.
    pub fn waiting(&self) -> Vec<Waiting> {
        self.refused.lock().waiting()
    }

    /// Clears the marks of what both stores have.
    async fn clear_marks(&self) {
        loop {
            tokio::time::sleep(GATHER).await;
            self.clear_settled().await;
        }
    }

    async fn clear_settled(&self) {
        let settled = std::mem::take(&mut *self.settled.lock());
        let sides = [&self.sides.redis, &self.sides.postgres].into_iter().flatten();
        for cleared in futures::future::join_all(sides.map(|side| settled.clear(side))).await {
            if let Err(error) = cleared {
                debug!(%error, "marks not cleared; the drain will find them");
            }
        }
    }

    /// Carries over what this node announces.
    async fn follow(&self, needed: &Needed) {
        loop {
            self.owed.notified().await;
            tokio::time::sleep(ANNOUNCED).await;
            let needs = self.read_by_somebody(needed());
            // What was known of marks is of the last look.
            for way in self.ways(needs, [true; 2]) {
                let carried = async {
                    is_up(way.from).and(is_up(way.to))?;
                    self.carry_announced(way).await
                };
                if let Err(error) = carried.await {
                    debug!(%error, to = way.to.which.name(), "not carried over; the next look finds it");
                }
            }
        }
    }

    /// Looks for what nobody here has announced. Takes at most a fifth of the time, except for carrying over.
    async fn look(&self, needed: &Needed) {
        loop {
            let began = Instant::now();
            let needs = self.read_by_somebody(needed());
            if let Err(error) = self.look_once(needs).await {
                debug!(%error, "drain incomplete");
            }
            tokio::time::sleep(LOOK.max(began.elapsed())).await;
        }
    }

    /// Other nodes read Redis while it has the last word.
    fn read_by_somebody(&self, here: Needs) -> Needs {
        let precedes = self.sides.postgres.as_ref().is_some_and(|side| side.is_preceded());
        Needs { redis: here.redis || precedes, ..here }
    }

    async fn look_once(&self, needs: Needs) -> Result<()> {
        let (Some(redis), Some(postgres)) = (&self.sides.redis, &self.sides.postgres) else { return Ok(()) };
        let (redis, postgres) = tokio::join!(backlog(redis), backlog(postgres));
        self.told.note([redis.as_ref().ok(), postgres.as_ref().ok()]);
        let backlogs = [redis?, postgres?];
        let marked = backlogs.each_ref().map(|backlog| backlog.records > 0);
        let mut outcome = Ok(());
        for way in self.ways(needs, marked) {
            let owed = &backlogs[way.from.which as usize];
            outcome = self.carry_found(way, owed).await.and(outcome);
        }
        outcome
    }

    /// The ways towards stores that are needed; `marked` says whether Redis and PostgreSQL have marks that may
    /// contradict one of the other store.
    fn ways(&self, needs: Needs, marked: [bool; 2]) -> impl Iterator<Item = Way<'_>> {
        let both = self.sides.redis.as_deref().zip(self.sides.postgres.as_deref());
        both.into_iter().flat_map(move |(redis, postgres)| {
            let to_postgres = Way { from: redis, to: postgres, contested: marked[1] };
            let to_redis = Way { from: postgres, to: redis, contested: marked[0] };
            let needed = [(needs.postgres, to_postgres), (needs.redis, to_redis)];
            needed.into_iter().filter_map(|(needed, way)| needed.then_some(way))
        })
    }

    async fn carry_both_ways(&self, report: &mut CaughtUp) -> Result<()> {
        self.clear_settled().await;
        for way in self.ways(Needs { redis: true, postgres: true }, [true, true]) {
            self.carry_all(way, report).await?;
        }
        Ok(())
    }
}

async fn backlog(side: &Side) -> Result<Backlog> {
    is_up(side)?;
    side.backend.backlog().await
}

/// Fails at once while a store is down.
fn is_up(side: &Side) -> Result<()> {
    if side.breaker().up_for_reads() && side.breaker().up_for_writes() {
        return Ok(());
    }
    Err(StoreError::Unavailable(format!("{} is down", side.which.name())))
}

#[async_trait]
impl CarryOver for Drain {
    fn settled(&self, key: &Key, version: Version) {
        let mut settled = self.settled.lock();
        if settled.records.len() < MAX_WAITING {
            settled.records.push((key.clone(), version));
        }
    }

    fn settled_usage(&self, usage: &Usage) {
        let mut settled = self.settled.lock();
        if settled.usage.len() < MAX_WAITING {
            settled.usage.extend(usage.events.iter().map(|event| event.id.clone()));
        }
    }

    fn in_flight(&self, usage: &Usage, is: bool) {
        let mut in_flight = self.in_flight.lock();
        for event in usage.events.iter() {
            if is {
                in_flight.insert(event.id.clone());
            } else {
                in_flight.remove(&event.id);
            }
        }
    }

    fn owed(&self) {
        self.owed.notify_one();
    }

    async fn catch_up(&self) -> CaughtUp {
        let _turn = self.turn.lock().await;
        let mut report = CaughtUp::default();
        match self.carry_both_ways(&mut report).await {
            Err(error) => report.incomplete = Some(error.to_string()),
            Ok(()) => {
                // A store may be lost before the watch has looked again.
                let sides = [&self.sides.redis, &self.sides.postgres].into_iter().flatten();
                sides.for_each(|side| side.set_waited(Duration::ZERO));
            }
        }
        report.refused = self.refused.lock().in_words();
        report
    }

    async fn before_copies(&self, from: Which, to: Which, records: &[Arc<Record>]) -> Result<HashSet<Key>> {
        self.conflicts.before_copies(self.sides.side(from)?, self.sides.side(to)?, records).await
    }
}
