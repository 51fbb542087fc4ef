//! Carries over what one store has and the other has not, and clears the marks.
//!
//! A mark is state, not a log: the drain copies the record as it is now, by compare-and-set, so that it may
//! be repeated, reordered or interrupted anywhere. It runs while the active strategy uses both stores; under
//! a single-store strategy the marks wait for the switch.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::Notify;
use tracing::debug;

use crate::store::side::{Side, Sides};
use crate::store::{Key, Mark, Record, Result, Store, StoreError, Usage, UsageEvent, Version, Write};
use crate::strategy::generation::Active;
use crate::strategy::records::{CarryOver, CaughtUp};
use crate::telemetry::Metrics;

/// How many records or events are carried over in one step.
const BATCH: u32 = 500;
/// How long cleared marks are gathered before they are written.
const GATHER: Duration = Duration::from_millis(50);
/// How many marks may wait to be cleared. What does not fit is found again by the drain.
const MAX_WAITING: usize = 20_000;
/// A catch-up gives up after this long, and says so.
const CATCH_UP_DEADLINE: Duration = Duration::from_secs(30);

/// The drain of a node. Clones share one.
#[derive(Clone)]
pub struct Drain {
    sides: Sides,
    offset: jiff::tz::Offset,
    settled: Arc<Mutex<Settled>>,
    /// Ids of events that calls in flight are counting.
    in_flight: Arc<Mutex<HashSet<String>>>,
    owed: Arc<Notify>,
    /// One drain at a time on this node; several nodes do no harm.
    turn: Arc<tokio::sync::Mutex<()>>,
    carried: Counter,
}

#[derive(Default)]
struct Settled {
    records: Vec<(Key, Version)>,
    usage: Vec<String>,
}

impl Drain {
    pub fn new(sides: Sides, offset: jiff::tz::Offset, metrics: &Metrics) -> Self {
        let carried = Counter::default();
        metrics.register("carried_over", "Records and events carried over by the drain.", carried.clone());
        let (settled, in_flight, owed, turn) = Default::default();
        Self { sides, offset, settled, in_flight, owed, turn, carried }
    }

    /// Drains for as long as the task lives, while the active strategy uses both stores. Looks every so often
    /// for marks that nobody has announced: those of another node or an earlier run.
    pub async fn run(self, active: Arc<Active>, look_every: Duration) {
        let mut looked = Instant::now();
        loop {
            // Gathering and looking are both served by waking up.
            let announced = tokio::time::timeout(GATHER, self.owed.notified()).await.is_ok();
            if let Err(error) = self.clear_settled().await {
                debug!(%error, "marks not cleared; the drain will find them");
            }
            let needs = active.enter().needs;
            let due = announced || looked.elapsed() >= look_every;
            if due && needs.redis && needs.postgres {
                looked = Instant::now();
                let report = self.catch_up().await;
                if let Some(reason) = report.incomplete {
                    debug!(reason, "drain incomplete");
                    tokio::time::sleep(GATHER * 4).await;
                    // What is still owed is nobody else's to announce.
                    self.owed();
                }
            }
        }
    }

    /// Clears the marks of what both stores have.
    async fn clear_settled(&self) -> Result<()> {
        let Settled { records, usage } = std::mem::take(&mut *self.settled.lock());
        for side in [&self.sides.redis, &self.sides.postgres].into_iter().flatten() {
            if !records.is_empty() {
                side.backend.settle(&records).await?;
            }
            if !usage.is_empty() {
                side.backend.settle_usage(&usage).await?;
            }
        }
        Ok(())
    }

    /// Everything marked in `from` into `to`, until no mark is left that was there at the beginning.
    async fn carry(&self, from: &Side, to: &Side, report: &mut CaughtUp) -> Result<()> {
        let deadline = Instant::now() + CATCH_UP_DEADLINE;
        let pending = to.pending();
        loop {
            let records = from.backend.dirty(BATCH).await?;
            let mut events = from.backend.owed_usage(BATCH).await?;
            let (records_len, events_len) = (records.len(), events.len());
            self.leave_those_in_flight(&mut events).await;
            self.carry_records(from, to, records).await?;
            report.records += records_len as u64;
            if !events.is_empty() {
                let ids: Vec<_> = events.iter().map(|event| event.id.clone()).collect();
                to.add(&Usage::new(events, self.offset, Mark::Clean)).await?;
                from.backend.settle_usage(&ids).await?;
                report.usage += ids.len() as u64;
            }
            self.carried.inc_by((records_len + events_len) as u64);
            if records_len < BATCH as usize && events_len < BATCH as usize {
                to.end_pending(pending);
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(StoreError::Timeout);
            }
        }
    }

    /// Whoever is counting an event is told whether it was new: nobody else may count it first. When nothing
    /// else is left, gives the calls in flight time to end.
    async fn leave_those_in_flight(&self, events: &mut Vec<UsageEvent>) {
        let before = events.len();
        {
            let in_flight = self.in_flight.lock();
            events.retain(|event| !in_flight.contains(&event.id));
        }
        if before > 0 && events.is_empty() {
            tokio::time::sleep(GATHER / 10).await;
        }
    }

    async fn carry_records(&self, from: &Side, to: &Side, records: Vec<Arc<Record>>) -> Result<()> {
        let carried = records.iter().map(|record| self.carry_record(from, to, record));
        let carried: Vec<_> = futures::future::join_all(carried).await;
        let done = records.iter().zip(&carried).filter(|(_, result)| result.is_ok());
        let settled: Vec<_> = done.map(|(record, _)| (record.key.clone(), record.version)).collect();
        if !settled.is_empty() {
            from.backend.settle(&settled).await?;
        }
        carried.into_iter().collect()
    }

    async fn carry_record(&self, from: &Side, to: &Side, record: &Arc<Record>) -> Result<()> {
        match to.put(&Write::copy(record.clone())).await {
            Err(StoreError::Conflict(held)) => {
                to.caught_up(&record.key, held);
                // The other store is ahead: it has the newer version back.
                if let Some(newer) = to.backend.get(&record.key).await?
                    && let Err(error) = from.put(&Write::copy(newer)).await
                    && !matches!(error, StoreError::Conflict(_))
                {
                    return Err(error);
                }
                Ok(())
            }
            result => result,
        }
    }

    async fn carry_both_ways(&self, report: &mut CaughtUp) -> Result<()> {
        let (Some(redis), Some(postgres)) = (&self.sides.redis, &self.sides.postgres) else { return Ok(()) };
        self.clear_settled().await?;
        self.carry(redis, postgres, report).await?;
        self.carry(postgres, redis, report).await
    }
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
        if let Err(error) = self.carry_both_ways(&mut report).await {
            report.incomplete = Some(error.to_string());
        }
        report
    }

    fn carried(&self) -> u64 {
        self.carried.get()
    }
}
