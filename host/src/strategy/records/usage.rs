//! Usage through the active strategy, and what is done with it while no store takes it.

use async_trait::async_trait;

use super::{ATTEMPTS, CarryOver, Records, Written, refused};
use crate::store::{Result, Store, StoreError, Usage, UsageEvent};

/// Keeps usage events while no store takes them. Implemented by the spool.
#[async_trait]
pub trait KeepUsage: Send + Sync {
    /// Keeps the events on this machine, where they outlast a crash, until a store has counted them.
    ///
    /// # Errors
    /// `Unavailable` when there is no room or the disk fails: they are not kept then. `Timeout` when they may be.
    async fn keep(&self, events: &[UsageEvent]) -> Result<()>;
}

/// How many events of a batch were new, and how many were not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Recorded {
    pub recorded: u64,
    pub duplicates: u64,
}

impl Records {
    /// Counts usage events, or keeps them on this machine while no store takes them. Of events with the same id
    /// the first one counts.
    pub async fn add(&self, events: Vec<UsageEvent>) -> Result<Written<Recorded>> {
        let offered = events.len() as u64;
        let usage = Usage::new(events, self.offset, self.mark());
        let error = match self.offer(&usage, offered).await {
            Err(
                error @ (StoreError::Unavailable(_)
                | StoreError::Paused(_)
                | StoreError::Timeout
                | StoreError::Fenced(_)),
            ) => error,
            answer => return answer,
        };
        if let Err(full) = self.spool.keep(&usage.events).await {
            // Whether a store has them is as unknown as before.
            return Err(if error == StoreError::Timeout { error } else { full });
        }
        let recorded = usage.events.len() as u64;
        let value = Recorded { recorded, duplicates: offered - recorded };
        Ok(Written { value, durability: "local", generation: self.active.enter() })
    }

    /// Counts usage events in the stores.
    ///
    /// # Errors
    /// When no store has counted them, or none has said so.
    pub async fn count(&self, events: Vec<UsageEvent>) -> Result<Written<Recorded>> {
        let offered = events.len() as u64;
        self.offer(&Usage::new(events, self.offset, self.mark()), offered).await
    }

    async fn offer(&self, usage: &Usage, offered: u64) -> Result<Written<Recorded>> {
        let mut generation = self.active.enter();
        let counting = Counting::begin(&*self.carry, usage);
        let before = self.redis_class();
        let mut answer = generation.store.add(usage).await;
        for _ in 0..ATTEMPTS {
            // An event counts once whichever store counts it first: one receipt will do.
            if !usage.receipts.fenced() || usage.receipts.any() {
                break;
            }
            drop(generation);
            generation = self.follow().await?;
            answer = generation.store.add(usage).await;
        }
        drop(counting);
        // Decided here: the drain may count it in the other store before the lines below do.
        let recorded = usage.recorded();
        if !usage.receipts.any() {
            return Err(refused(answer.map(drop)));
        }
        for side in self.sides_without(&usage.receipts) {
            side.lags_behind_usage(usage);
            if generation.handover {
                // What cannot be carried over now stays marked.
                let _ = side.add(usage).await;
            }
        }
        if self.both_have(&usage.receipts) {
            self.carry.settled_usage(usage)
        } else {
            self.carry.owed()
        }
        let value = Recorded { recorded, duplicates: offered - recorded };
        Ok(Written { value, durability: self.durability(&usage.receipts, before), generation })
    }
}

/// A batch in flight, to its end or until its caller goes away.
struct Counting<'a>(&'a dyn CarryOver, &'a Usage);

impl<'a> Counting<'a> {
    fn begin(carry: &'a dyn CarryOver, usage: &'a Usage) -> Self {
        carry.in_flight(usage, true);
        Self(carry, usage)
    }
}

impl Drop for Counting<'_> {
    fn drop(&mut self) {
        self.0.in_flight(self.1, false);
    }
}
