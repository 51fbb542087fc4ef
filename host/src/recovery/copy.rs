//! Copies of whole kinds from one store into the other, by compare-and-set, at a bounded rate.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::{Instant, sleep_until};

use crate::store::kind::Kind;
use crate::store::maintenance::Skipped;
use crate::store::side::Side;
use crate::store::{Expect, MAX_PAGE, Record, Result, StoreError, Write};
use crate::strategy::records::CarryOver;

/// How many records or events a second are copied: live traffic has the rest.
const RATE: u32 = 20_000;
/// How many records of a copy are on their way at once: enough for a server to batch them.
const AT_ONCE: usize = 64;
/// A store that refuses more records of a kind than this is not copied to: the records are not to blame.
const MOST_SKIPPED: usize = 100;

/// Keeps copies to [`RATE`].
pub(super) struct Pace(Instant);

impl Default for Pace {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Pace {
    /// Waits for as long as what was copied before takes at that rate, and notes that this much more was copied.
    pub(super) async fn take(&mut self, count: usize) {
        sleep_until(self.0).await;
        self.0 = self.0.max(Instant::now()) + Duration::from_secs(count as u64) / RATE;
    }
}

/// How far the copy of a kind has come. Goes on from there after a failure.
#[derive(Debug, Default)]
pub(super) struct Progress {
    part: Part,
    after: Option<String>,
    /// How many records were looked at.
    pub(super) count: u64,
    /// What the other store does not take, whatever it is asked: it does not answer for that.
    pub(super) skipped: Vec<Skipped>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Part {
    #[default]
    Live,
    /// A delete that the other store does not know of.
    Deleted,
    Done,
}

impl Progress {
    pub(super) fn is_done(&self) -> bool {
        self.part == Part::Done
    }

    /// Copies the next page, tombstones after live records, unless the other store has newer ones.
    ///
    /// # Errors
    /// When a store cannot be reached or takes next to nothing; the same page is copied again then.
    pub(super) async fn step(
        &mut self,
        from: &Side,
        to: &Side,
        kind: &'static Kind,
        carry: &dyn CarryOver,
        pace: &mut Pace,
    ) -> Result<()> {
        let after = self.after.as_deref();
        let (page, next_part) = match self.part {
            Part::Live => (from.backend.scan(kind, after, MAX_PAGE).await?, Part::Deleted),
            Part::Deleted => (from.backend.tombstones(kind, after, MAX_PAGE).await?, Part::Done),
            Part::Done => return Ok(()),
        };
        let count = page.records.len();
        pace.take(count).await;
        let waits = carry.before_copies(from.which, to.which, &page.records).await?;
        let due = page.records.into_iter().filter(|record| !waits.contains(&record.key));
        let copies = due.map(|record| copy(from, to, record));
        let skipped: Vec<_> = stream::iter(copies).buffer_unordered(AT_ONCE).try_collect().await?;
        self.skipped.extend(skipped.into_iter().flatten());
        if self.skipped.len() > MOST_SKIPPED {
            self.skipped.truncate(MOST_SKIPPED);
            let (to, of) = (to.which.name(), kind.name);
            return Err(StoreError::Other(format!(
                "{to} refuses more than {MOST_SKIPPED} records of kind {of}"
            )));
        }
        self.count += count as u64;
        self.after = page.next;
        if self.after.is_none() {
            self.part = next_part;
        }
        Ok(())
    }
}

/// Copies a record, unless the other store has a newer one. Answers what the other store refuses.
async fn copy(from: &Side, to: &Side, record: Arc<Record>) -> Result<Option<Skipped>> {
    match to.backend.put(&Write::copy(record.clone())).await {
        Ok(()) | Err(StoreError::Conflict(_)) => Ok(None),
        Err(StoreError::Other(reason) | StoreError::Unsupported(reason)) => {
            mark(from, to, &record).await?;
            Ok(Some(Skipped { key: record.key.to_string(), reason }))
        }
        Err(error) => Err(error),
    }
}

/// Marks a record as what the other store lacks, by a version of its own: so every node knows of it, whatever restarts,
/// and the drain goes on trying.
async fn mark(from: &Side, to: &Side, record: &Arc<Record>) -> Result<()> {
    to.lags_behind(record);
    if !from.backend.marked(std::slice::from_ref(&record.key)).await?.is_empty() {
        return Ok(());
    }
    let again = Arc::new(Record { version: record.version + 1, ..(**record).clone() });
    match from.backend.put(&Write::new(again.clone(), Expect::AtMost(record.version))).await {
        Ok(()) => {
            to.lags_behind(&again);
            Ok(())
        }
        // It was written anew meanwhile.
        Err(StoreError::Conflict(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// What was left out, in words, for an event or a line of the log.
pub(super) fn named(skipped: &[Skipped]) -> String {
    skipped.iter().map(|it| format!("{} ({})", it.key, it.reason)).collect::<Vec<_>>().join(", ")
}
