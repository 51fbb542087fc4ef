//! Puts into one store, from this node's memory, what it acknowledged in, or has shown from, the other one
//! alone, which is away now.
//!
//! The drain cannot: it copies what the other store holds. Only the node that acknowledged a record has it, so that
//! the other nodes do not read PostgreSQL until it has had its time (`store/precedence.rs`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use prometheus_client::metrics::counter::Counter;
use tracing::debug;

use super::conflicts::Conflicts;
use crate::store::side::{Side, Sides};
use crate::store::{Expect, Record, Store, StoreError, Write};
use crate::telemetry::Metrics;

const LOOK: Duration = Duration::from_millis(50);
/// How many records one look takes, and how many are on their way at once.
const BATCH: usize = 2_000;
const AT_ONCE: usize = 128;
/// How long the other nodes have for theirs, from when this one could write to the store that is left.
pub(super) const OTHERS: Duration = Duration::from_secs(3);

/// The rescue of a node.
pub struct Rescue {
    sides: Sides,
    conflicts: Arc<Conflicts>,
    rescued: Counter,
}

impl Rescue {
    pub fn new(sides: Sides, conflicts: Arc<Conflicts>, metrics: &Metrics) -> Self {
        let rescued = Counter::default();
        let help = "Records put into a store from memory, because the only one that had them was away.";
        metrics.register("rescued", help, rescued.clone());
        Self { sides, conflicts, rescued }
    }

    /// Works for as long as the task lives.
    pub async fn run(self) {
        let (Some(redis), Some(postgres)) = (&self.sides.redis, &self.sides.postgres) else { return };
        tokio::join!(self.without(redis, postgres), self.without(postgres, redis));
    }

    /// Works whenever `lost` cannot be read and `left` takes writes.
    async fn without(&self, lost: &Side, left: &Side) {
        let mut since: Option<Instant> = None;
        loop {
            tokio::time::sleep(LOOK).await;
            if lost.breaker().up_for_reads() || !left.breaker().up_for_writes() {
                since = None;
                continue;
            }
            let since = *since.get_or_insert_with(Instant::now);
            let kept = stream::iter(self.due(lost, left).await);
            kept.for_each_concurrent(AT_ONCE, |record| self.put(left, record)).await;
            if since.elapsed() >= OTHERS {
                left.set_waited(Duration::ZERO);
            }
        }
    }

    /// What is kept of a store, except what waits until it is known whether it contradicts what the other one has.
    async fn due(&self, lost: &Side, left: &Side) -> Vec<Arc<Record>> {
        let mut kept = left.kept(BATCH);
        if kept.is_empty() {
            return kept;
        }
        let keys: Vec<_> = kept.iter().map(|record| record.key.clone()).collect();
        // What cannot be asked is asked again by the next look.
        let Ok(theirs) = left.backend.marked(&keys).await else { return Vec::new() };
        match self.conflicts.note((lost.which, &kept), (left.which, &theirs)).await {
            Ok(unsettled) => kept.retain(|record| !unsettled.contains_key(&record.key)),
            // Without PostgreSQL nothing can be listed, and who reads is not to wait for that.
            Err(error) => debug!(%error, "what contradicts a rescued record is not listed"),
        }
        kept
    }

    /// What fails is tried again by the next look.
    async fn put(&self, left: &Side, record: Arc<Record>) {
        match left.put(&Write::new(record.clone(), Expect::Anything)).await {
            Ok(()) => {
                self.rescued.inc();
            }
            Err(StoreError::Conflict(held)) => left.caught_up(&record.key, held),
            Err(error @ (StoreError::Unsupported(_) | StoreError::Other(_))) => {
                debug!(%error, key = %record.key, "not rescued");
                left.keep_no_longer(&record);
            }
            Err(_) => {}
        }
    }
}
