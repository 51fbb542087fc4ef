//! What a running operation tells, and how fast it may go.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use jiff::tz::Offset;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::timeout;

use super::Entry;
use crate::store::side::{Side, Sides};
use crate::store::{Clock, Kind, StoreError};
use crate::strategy::records::CarryOver;

/// How many records one step looks at.
pub(in crate::recovery) const PAGE: u32 = 250;
/// How long to rest after each step: as long as it took, but within this. Live traffic then finds the stores
/// free for half of the time.
const REST: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));
/// A step that a store does not answer is repeated for so long: an outage is no reason to begin anew.
pub(super) const PATIENCE: Duration = Duration::from_secs(900);
const RETRY: Duration = Duration::from_millis(500);
/// How long the stores may take to count what there is.
const COUNTING: Duration = Duration::from_secs(1);

/// Where an operation is: which of its stages, and from where on in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::recovery) struct Place {
    pub(in crate::recovery) stage: usize,
    pub(in crate::recovery) cursor: Option<String>,
    /// How often the target had dropped copies when the stage's kind began to be copied.
    pub(in crate::recovery) dropped: u64,
}

impl Place {
    /// The next step: from this cursor on, or the next stage.
    pub(in crate::recovery) fn then(self, cursor: Option<String>) -> Self {
        let stage = if cursor.is_some() { self.stage } else { self.stage + 1 };
        Self { stage, cursor, ..self }
    }
}

/// Why an operation ended without having done everything.
#[derive(Debug)]
pub(in crate::recovery) enum Stop {
    Cancelled,
    Failed(String),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// The state of a running operation, which everyone may watch.
pub(in crate::recovery) struct Progress(pub(super) Arc<watch::Sender<Entry>>);

impl Progress {
    pub(in crate::recovery) fn place(&self) -> Place {
        self.0.borrow().place.clone()
    }

    /// The report so far; an empty one at the beginning.
    pub(in crate::recovery) fn report<R: DeserializeOwned + Default>(&self) -> R {
        serde_json::from_value(self.0.borrow().operation.result.clone()).unwrap_or_default()
    }

    /// More records were looked at. Some may have come since they were counted.
    pub(in crate::recovery) fn looked_at(&self, more: u64) {
        self.0.send_modify(|entry| {
            let operation = &mut entry.operation;
            operation.done += more;
            operation.total = operation.total.map(|total| total.max(operation.done));
        });
    }

    fn expect(&self, total: Option<u64>) {
        self.0.send_modify(|entry| {
            let done = entry.operation.done;
            entry.operation.total = total.map(|total| total.max(done));
        });
    }

    /// Everything before `place` is done, and this is the report on it.
    pub(in crate::recovery) fn reached(&self, place: &Place, report: &impl Serialize) {
        let report = serde_json::to_value(report).unwrap_or_default();
        self.0.send_modify(|entry| {
            entry.place = place.clone();
            entry.operation.result = report;
        });
    }
}

/// What an operation works with.
pub(in crate::recovery) struct Work<'a> {
    pub(in crate::recovery) sides: &'a Sides,
    pub(in crate::recovery) carry: &'a dyn CarryOver,
    pub(in crate::recovery) clock: &'a Clock,
    pub(in crate::recovery) offset: Offset,
    pub(in crate::recovery) progress: &'a Progress,
}

impl Work<'_> {
    /// Says how many records there are to look at: as many as the store of these has that has most. Nothing is said
    /// when they do not tell in time.
    pub(in crate::recovery) async fn expect(&self, stores: &[&Side]) {
        let count = async |side: &&Side| {
            let counts = Kind::public().map(|kind| side.backend.count(kind));
            Ok::<u64, StoreError>(try_join_all(counts).await?.into_iter().sum())
        };
        let counted = timeout(COUNTING, try_join_all(stores.iter().map(count))).await;
        let total = counted.ok().and_then(|counts| counts.ok()?.into_iter().max());
        self.progress.expect(total);
    }

    /// Takes a step, which may be repeated, as often as a store that does not answer makes necessary; then
    /// rests.
    pub(in crate::recovery) async fn paced<T, S>(&self, step: impl Fn() -> S) -> Result<T, Stop>
    where
        S: Future<Output = crate::store::Result<T>> + Send,
    {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let began = Instant::now();
            match step().await {
                Ok(done) => {
                    tokio::time::sleep(began.elapsed().clamp(REST.0, REST.1)).await;
                    return Ok(done);
                }
                Err(StoreError::Unavailable(_) | StoreError::Timeout | StoreError::Overloaded)
                    if Instant::now() < deadline =>
                {
                    tokio::time::sleep(RETRY).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}
