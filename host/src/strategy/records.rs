//! Records through the active strategy: versions before, receipts after. Usage is in [`usage`].

mod following;
mod listing;
mod usage;

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::tz::Offset;

pub use self::usage::{KeepUsage, Recorded};
use super::generation::{Active, Generation};
use crate::planted;
use crate::store::side::{Side, Sides, Which};
use crate::store::{
    Clock, Epoch, Expect, Fields, Key, Kind, Mark, Page, Receipts, Record, Result, Store, StoreError, Usage,
    Version, Write,
    clock::{MAX_VERSION, now_ms},
    stale::noticed,
};

/// How often a write is given a new version because a store held a greater one, or a later epoch.
const ATTEMPTS: usize = 4;

/// Carries over what one store has and the other has not. Implemented by the drain.
#[async_trait]
pub trait CarryOver: Send + Sync {
    /// Both stores have this version: its marks may be cleared.
    fn settled(&self, key: &Key, version: Version);
    /// Both stores have counted these events.
    fn settled_usage(&self, usage: &Usage);
    /// A batch is being counted, or is no longer: what is in flight is not carried over.
    fn in_flight(&self, usage: &Usage, is: bool);
    /// Only one store took something: carry it over soon.
    fn owed(&self);
    /// Carries over all that is owed now, in both directions.
    async fn catch_up(&self) -> CaughtUp;
    /// These records of one store are about to be copied over what the other one holds: lists what was written there
    /// without them. Answers those that must not be copied yet; they are carried over later.
    async fn before_copies(&self, from: Which, to: Which, records: &[Arc<Record>]) -> Result<HashSet<Key>>;
}

/// What a catch-up did.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct CaughtUp {
    pub records: u64,
    pub usage: u64,
    /// Why something may still be owed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incomplete: Option<String>,
    /// What a store refuses whatever it is asked, and why: it stays in the other one, and this one does not answer for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// What a read answers, and through which generation.
pub struct Read<T> {
    pub value: T,
    pub generation: Arc<Generation>,
    /// Whether it may be old, because the store that decides could not be asked.
    pub stale: bool,
}

/// An acknowledgement.
pub struct Written<T> {
    pub value: T,
    /// What the acknowledgement is worth: `both`, `postgres`, `redis`, `memory`, or `local` for usage events that
    /// no store has taken yet.
    pub durability: &'static str,
    pub generation: Arc<Generation>,
}

/// What a caller wants stored.
pub struct Change {
    pub fields: Fields,
    pub deleted: bool,
    pub expires_at: Option<i64>,
}

impl Change {
    pub fn delete() -> Self {
        Self { fields: Fields::new(), deleted: true, expires_at: None }
    }
}

/// Reads and writes records through the active strategy.
pub struct Records {
    pub active: Arc<Active>,
    pub sides: Sides,
    pub clock: Arc<Clock>,
    pub carry: Arc<dyn CarryOver>,
    pub epoch: Arc<Epoch>,
    pub spool: Arc<dyn KeepUsage>,
    /// Where days begin.
    pub offset: Offset,
}

impl Records {
    /// The live record; none when it is absent, deleted or expired.
    pub async fn get(&self, key: &Key) -> Result<Read<Option<Arc<Record>>>> {
        let generation = self.active.enter();
        let (found, stale) = noticed(generation.store.get(key)).await;
        let found = found?.inspect(|record| self.clock.observe(record.version));
        let value = found.filter(|record| record.is_live(now_ms()));
        Ok(Read { value, generation, stale })
    }

    pub async fn find(
        &self,
        kind: &'static Kind,
        index: &str,
        value: &str,
    ) -> Result<Read<Option<Arc<Record>>>> {
        let generation = self.active.enter();
        let (found, stale) = noticed(generation.store.find(kind, index, value)).await;
        let found = found?.inspect(|record| self.clock.observe(record.version));
        let value = found.filter(|record| record.is_live(now_ms()));
        Ok(Read { value, generation, stale })
    }

    pub async fn scan(&self, kind: &'static Kind, cursor: Option<&str>, limit: u32) -> Result<Read<Page>> {
        let generation = self.active.enter();
        let (value, stale) = noticed(generation.store.scan(kind, cursor, limit)).await;
        Ok(Read { value: value?, generation, stale })
    }

    /// Writes a record, or its tombstone, under a new version, and answers the version.
    ///
    /// # Errors
    /// `Conflict` when the precondition fails. `Timeout` when no store has confirmed and some may have it.
    /// `Fenced` when this node could not follow the others into their epoch in time.
    pub async fn put(&self, key: &Key, change: Change, expect: Expect) -> Result<Written<Version>> {
        self.clock.check()?;
        let (mut generation, mut expect) = (self.active.enter(), expect);
        self.check_precondition(&generation, key, expect).await?;
        let Change { fields, deleted, expires_at } = change;
        let version = self.clock.next();
        let mut record =
            Arc::new(Record { key: key.clone(), version, deleted, fields, expires_at, cached_at: None });
        for _ in 0..ATTEMPTS {
            let write = Write { mark: self.mark(), ..Write::new(record.clone(), expect) };
            let (before, under) = (self.redis_class(), self.epoch.get());
            let answer = generation.store.put(&write).await;
            if write.receipts.fenced() || self.has_moved_on(&write.receipts, under).await? {
                // One store may have it. It counts only under the strategy of the epoch that refused it.
                drop(generation);
                let taken = write.receipts.any();
                expect = if taken { expect.after(record.version) } else { expect };
                let behind = |behind| if taken { StoreError::Timeout } else { behind };
                generation = self.follow().await.map_err(behind)?;
                Arc::make_mut(&mut record).version = self.clock.next();
                continue;
            }
            if let Err(StoreError::Conflict(held)) = answer
                && expect == Expect::Anything
                && held < MAX_VERSION
            {
                Arc::make_mut(&mut record).version = self.clock.after(held);
                continue;
            }
            return self.acknowledge(generation, &write, answer, before).await;
        }
        Err(StoreError::Conflict(record.version))
    }

    /// A precondition is first held against what the strategy reads; the store that takes the write then
    /// decides, atomically, that nothing newer came in between.
    async fn check_precondition(&self, generation: &Generation, key: &Key, expect: Expect) -> Result<()> {
        if expect == Expect::Anything {
            return Ok(());
        }
        let found = generation.store.get(key).await?;
        let live = found.filter(|record| record.is_live(now_ms())).map(|record| record.version);
        match (expect, live) {
            (Expect::AtMost(expected), held) if held != Some(expected) => {
                Err(StoreError::Conflict(held.unwrap_or(0)))
            }
            (Expect::Absent, Some(held)) => Err(StoreError::Conflict(held)),
            _ => Ok(()),
        }
    }

    /// Acknowledges on receipts, whatever the strategy says.
    async fn acknowledge(
        &self,
        generation: Arc<Generation>,
        write: &Write,
        answer: Result<()>,
        before: Option<&'static str>,
    ) -> Result<Written<Version>> {
        let (key, version) = (&write.record.key, write.record.version);
        if !write.receipts.any() {
            return match planted::is("acknowledged-before-the-receipt") {
                true => Ok(Written { value: version, durability: "both", generation }),
                false => Err(refused(answer)),
            };
        }
        for side in self.sides_without(&write.receipts) {
            side.lags_behind(&write.record);
            if generation.handover {
                // What cannot be carried over now stays marked.
                let _ = side.put(write).await;
            }
        }
        if self.both_have(&write.receipts) {
            self.carry.settled(key, version)
        } else {
            self.carry.owed()
        }
        Ok(Written { value: version, durability: self.durability(&write.receipts, before), generation })
    }

    /// A store that may have lost its data since it gave its receipt gets the write once more, by the drain.
    fn both_have(&self, receipts: &Receipts) -> bool {
        let whole = |side: &Option<Arc<Side>>| side.as_ref().is_none_or(|side| side.is_trusted());
        receipts.both() && whole(&self.sides.redis) && whole(&self.sides.postgres)
    }

    /// The stores that have not taken it.
    fn sides_without(&self, receipts: &Receipts) -> impl Iterator<Item = &Arc<Side>> {
        let taken = receipts.get();
        let sides = [&self.sides.postgres, &self.sides.redis].into_iter().flatten();
        sides.filter(move |side| taken & side.which.receipt() == 0)
    }

    /// Nothing is owed to a store that is switched off.
    fn mark(&self) -> Mark {
        if self.sides.redis.is_some() && self.sides.postgres.is_some() { Mark::Dirty } else { Mark::Clean }
    }

    /// What Redis alone is worth at this moment.
    fn redis_class(&self) -> Option<&'static str> {
        self.sides.redis.as_ref().map(|side| side.backend.durability())
    }

    /// What an acknowledgement is worth, given what Redis was worth before it was asked: it may sync each
    /// write from then on, or no longer.
    fn durability(&self, receipts: &Receipts, before: Option<&'static str>) -> &'static str {
        match receipts.get() {
            Receipts::POSTGRES => {
                self.sides.postgres.as_ref().map_or("none", |side| side.backend.durability())
            }
            Receipts::REDIS if self.redis_class() != before => "redis-2s",
            Receipts::REDIS => before.unwrap_or("none"),
            _ => "both",
        }
    }
}

/// Why nothing was acknowledged. A strategy that says ok without a receipt has broken the contract.
fn refused(answer: Result<()>) -> StoreError {
    match answer {
        Err(error) => error,
        Ok(()) => StoreError::Strategy("it answered ok, but no store has taken the write".into()),
    }
}
