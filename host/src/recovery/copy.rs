//! Copies of whole kinds from one store into the other, by compare-and-set, at a bounded rate.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::{Instant, sleep_until};

use crate::store::kind::Kind;
use crate::store::{Backend, MAX_PAGE, Result, StoreError, Write};

/// How many records or events a second are copied: live traffic has the rest.
const RATE: u32 = 20_000;
/// How many records of a copy are on their way at once: enough for a server to batch them.
const AT_ONCE: usize = 64;

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
    /// When a store cannot be reached; the same page is copied again then.
    pub(super) async fn step(
        &mut self,
        from: &dyn Backend,
        to: &dyn Backend,
        kind: &'static Kind,
        pace: &mut Pace,
    ) -> Result<()> {
        let after = self.after.as_deref();
        let (page, next_part) = match self.part {
            Part::Live => (from.scan(kind, after, MAX_PAGE).await?, Part::Deleted),
            Part::Deleted => (from.tombstones(kind, after, MAX_PAGE).await?, Part::Done),
            Part::Done => return Ok(()),
        };
        let count = page.records.len();
        pace.take(count).await;
        let puts = page.records.into_iter().map(|record| async {
            match to.put(&Write::copy(record)).await {
                Ok(()) | Err(StoreError::Conflict(_)) => Ok(()),
                Err(error) => Err(error),
            }
        });
        stream::iter(puts).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
        self.count += count as u64;
        self.after = page.next;
        if self.after.is_none() {
            self.part = next_part;
        }
        Ok(())
    }
}
