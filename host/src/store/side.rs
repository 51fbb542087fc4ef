//! One of the two stores as a strategy sees it: receipts, completeness and metrics around a backend.

mod age;
mod allowance;
mod counted;
mod list;
mod owed;
mod reads;
mod shown;
mod which;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;

pub use self::age::Refresh;
pub use self::owed::HELD_UP;
pub use self::shown::ShownNoted;
pub use self::which::Which;
pub use super::sides::Sides;

use self::counted::Spooled;
use self::owed::Owed;
use super::belief::Belief;
use super::breaker::{Breaker, Circuit};
use super::lag::{Completeness, Lag, Pending};
use super::precedence::Precedence;
use super::{Backend, Expect, Key, Kind, Page, Record, Result, Store, StoreError, Usage, Version, Write};
use crate::telemetry::{Operation, Outcome, StoreMetrics};

/// A backend in its role. Whatever a strategy does goes through here.
pub struct Side {
    pub which: Which,
    pub backend: Arc<dyn Backend>,
    complete: Completeness,
    lag: Lag,
    metrics: StoreMetrics,
    refresh: Option<Refresh>,
    breaker: Breaker,
    /// Whether what it holds may be believed.
    pub(super) belief: Belief,
    /// Whether the other store has what this one lacks.
    pub(super) precedence: Precedence,
    spooled: Spooled,
    /// What the other store owes this one.
    owed: Owed,
}

impl Side {
    pub fn new(
        which: Which,
        backend: Arc<dyn Backend>,
        metrics: StoreMetrics,
        refresh: Option<Refresh>,
    ) -> Self {
        let (complete, lag, breaker) = (Completeness::default(), Lag::default(), Breaker::new(which.name()));
        let (belief, precedence, spooled, owed) = Default::default();
        Self { which, backend, complete, lag, metrics, refresh, breaker, belief, precedence, spooled, owed }
    }

    /// Whether the store is asked at all. Fed by every call here, and by the probe.
    pub fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// How calls of this store went.
    pub fn metrics(&self) -> &StoreMetrics {
        &self.metrics
    }

    /// Refuses a call at once when the store is down.
    fn admit(&self, operation: Operation) -> Result<()> {
        let circuit = match operation {
            Operation::Get | Operation::Find | Operation::Scan => Circuit::Reads,
            Operation::Put | Operation::Add => Circuit::Writes,
        };
        self.breaker.admit(circuit).inspect_err(|error| self.refused(operation, error))
    }

    /// A call of the backend, from which the breaker learns.
    async fn ask<T>(&self, circuit: Circuit, call: impl Future<Output = Result<T>>) -> Result<T> {
        let began = Instant::now();
        let result = call.await;
        self.breaker.note(circuit, began, &result);
        result
    }

    /// This store has not taken a version that was acknowledged: until it has, what it holds of the record
    /// is old, and is not answered. The record is kept here, as far as there is room: the other store may be lost.
    pub fn lags_behind(&self, record: &Arc<Record>) {
        self.lag.add(record);
    }

    /// Up to `limit` records that this store lacks and this node has kept.
    pub fn kept(&self, limit: usize) -> Vec<Arc<Record>> {
        self.lag.kept(limit)
    }

    /// This store refuses the record: there is no use in keeping it.
    pub fn keep_no_longer(&self, record: &Record) {
        self.lag.forget(record);
    }

    /// Other nodes acknowledge what this store does not take: until all that the other store has marked is carried
    /// over, nothing that it holds is answered.
    pub fn lags_as_a_whole(&self) {
        self.lag.add_all();
    }

    /// Whether nothing that it holds is answered, because it may lack anything.
    pub fn lags(&self) -> bool {
        self.lag.is_everything()
    }

    /// Other nodes may have acknowledged something a moment ago without this store, and have so long to put it here
    /// from memory: until then nothing that it holds is answered.
    pub fn waits_for_others(&self, time: Duration) {
        self.lag.wait_for_others(time);
    }

    /// This store has taken the version, or a greater one.
    pub fn caught_up(&self, key: &Key, version: Version) {
        self.lag.remove(key, version);
    }

    /// This store has not counted a batch that was acknowledged: until it has, its totals are not answered.
    pub fn lags_behind_usage(&self, usage: &Usage) {
        self.lag.add_usage(&usage.events);
    }

    /// Up to `limit` records and events of what this store lacks now. To be asked before the other store is
    /// asked what it has marked.
    pub fn pending(&self, limit: usize) -> Pending {
        self.lag.pending(limit)
    }

    /// The other store has no mark of these any more: they are here, whoever has carried them over.
    pub fn end_pending(&self, pending: Pending) {
        self.lag.end(pending);
    }

    /// Whether nothing acknowledged through this node is known to be missing here.
    pub fn is_caught_up(&self) -> bool {
        self.lag.is_empty() && self.lag.has_counted_all()
    }

    fn found(&self, result: &Result<Option<Arc<Record>>>) {
        if let Ok(Some(_)) = result {
            self.metrics.found();
        }
    }

    fn measure<T>(&self, operation: Operation, began: Instant, result: Result<T>) -> Result<T> {
        let outcome = result.as_ref().err().map_or(Outcome::Ok, StoreError::outcome);
        self.metrics.record(operation, outcome, began.elapsed());
        result
    }
}

#[async_trait]
impl Store for Side {
    async fn get(&self, key: &Key) -> Result<Option<Arc<Record>>> {
        self.admit(Operation::Get)?;
        let began = Instant::now();
        let result = self.read(self.get_current(key)).await;
        self.found(&result);
        self.measure(Operation::Get, began, result)
    }

    async fn find(&self, kind: &'static Kind, index: &str, value: &str) -> Result<Option<Arc<Record>>> {
        self.admit(Operation::Find)?;
        let began = Instant::now();
        let result = self.read(self.find_current(kind, index, value)).await;
        self.found(&result);
        self.measure(Operation::Find, began, result)
    }

    async fn scan(&self, kind: &'static Kind, cursor: Option<&str>, limit: u32) -> Result<Page> {
        self.admit(Operation::Scan)?;
        let began = Instant::now();
        let page = async {
            self.not_as_a_whole()?;
            // No evidence for or against the store: a page may be long, or the index still be built.
            let page = self.backend.scan(kind, cursor, limit).await?;
            page.records.iter().for_each(|record| self.note_found(record));
            self.absent(kind, page).await
        };
        let result = self.read(page).await;
        self.measure(Operation::Scan, began, result)
    }

    async fn put(&self, write: &Write) -> Result<()> {
        self.admit(Operation::Put)?;
        let began = Instant::now();
        let offer = write.offer();
        // A precondition on what may be missing decides nothing.
        let believed = match offer.expect {
            Expect::Anything => Ok(()),
            _ => self.believe().and_then(|()| self.not_preceded()),
        };
        let result = match believed {
            Ok(()) => self.ask(Circuit::Writes, self.backend.put(&offer)).await,
            refused => refused,
        };
        if result.is_ok() {
            self.belief.took(offer.record.version);
            write.receipts.set(self.which.receipt());
            self.caught_up(&write.record.key, write.record.version);
        } else if let Err(StoreError::Fenced(_)) = result {
            write.receipts.set_fenced();
        }
        self.measure(Operation::Put, began, result)
    }

    async fn add(&self, usage: &Usage) -> Result<u64> {
        self.admit(Operation::Add)?;
        let began = Instant::now();
        let result = self.ask(Circuit::Writes, self.backend.add(&usage.offer())).await;
        if let Ok(new) = result {
            usage.counted(self.which.receipt(), new);
            self.lag.remove_usage(&usage.events);
        } else if let Err(StoreError::Fenced(_)) = result {
            usage.receipts.set_fenced();
        }
        self.measure(Operation::Add, began, result)
    }
}
