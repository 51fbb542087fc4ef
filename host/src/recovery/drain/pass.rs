//! One pass in one direction.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::{Drain, Way};
use crate::store::clock::now_ms;
use crate::store::{Backlog, Key, Result, StoreError, UsageEvent, Version};
use crate::strategy::records::CaughtUp;

/// How many records or events are asked for at once.
const BATCH: u32 = 500;
/// The least time for a batch: at most 20,000 records a second leave room for callers.
const PACE: Duration = Duration::from_millis(25);
/// How long a pass over found marks may take before the stores are asked anew.
const PASS: Duration = Duration::from_secs(2);
/// A catch-up gives up after this long, and says so.
const CATCH_UP: Duration = Duration::from_secs(30);
/// A younger record may still be on its way into both stores, from whichever node.
const YOUNG_MS: i64 = 100;
/// Every so many looks the young ones are carried over, too: a record that is written again and again is
/// always young.
const YOUNG_TOO: u64 = 8;
/// An event this old is not on its way any more.
const OLD_EVENT_MS: i64 = 10_000;
/// How many announced records and events are looked after at once.
const ANNOUNCED: usize = 2_000;

impl Drain {
    /// What was acknowledged on this node without `to`.
    pub(super) async fn carry_announced(&self, way: Way<'_>) -> Result<()> {
        let mut pending = way.to.pending(ANNOUNCED);
        if !pending.records.is_empty() {
            let _turn = self.turn.lock().await;
            let keys: Vec<Key> = pending.records.iter().map(|(key, _)| key.clone()).collect();
            let marked = way.from.backend.marked(&keys).await?;
            self.carry_records(way, &marked).await?;
            // Those that were carried over here are noted by now; the others have lost their mark to another.
            let marked: HashSet<&Key> = marked.iter().map(|record| &record.key).collect();
            pending.records.retain(|(key, _)| !marked.contains(key));
        }
        if !pending.usage.is_empty() {
            let _turn = self.turn.lock().await;
            let owed = way.from.backend.owed_usage(BATCH).await?;
            let all = owed.len() < BATCH as usize;
            let announced = |event: &UsageEvent| pending.usage.contains(event.id.as_str());
            let (ours, others): (Vec<_>, Vec<_>) = owed.into_iter().partition(announced);
            let left: HashSet<Box<str>> =
                ours.iter().chain(&others).map(|event| event.id.as_str().into()).collect();
            self.carry_events(way, ours).await?;
            pending.usage.retain(|id| all && !left.contains(id));
        }
        pending.overflowed = false;
        way.to.end_pending(pending);
        Ok(())
    }

    /// What a look has found, except what may still be on its way.
    pub(super) async fn carry_found(&self, way: Way<'_>, owed: &Backlog) -> Result<()> {
        if way.to.pending(1).overflowed {
            // Only a pass that leaves nothing can say that nothing is missing any more.
            let _turn = self.turn.lock().await;
            return self.carry_all(way, &mut CaughtUp::default()).await;
        }
        if !way.to.is_caught_up() {
            self.carry_announced(way).await?;
        }
        let young_too = self.told.looks().is_multiple_of(YOUNG_TOO);
        let old_ms = now_ms() - YOUNG_MS;
        if owed.oldest_ms.is_some_and(|oldest| young_too || oldest < old_ms) {
            let before = if young_too { Version::MAX } else { old_ms as Version * 1_000 };
            self.carry_marked(way, before, Instant::now() + PASS, Some(PACE)).await?;
        }
        match owed.usage {
            0 => self.seen.lock()[way.from.which as usize].clear(),
            _ => self.carry_seen(way).await?,
        }
        Ok(())
    }

    /// Everything that is owed, until no mark is left that was there at the beginning.
    pub(super) async fn carry_all(&self, way: Way<'_>, report: &mut CaughtUp) -> Result<()> {
        let (pending, deadline) = (way.to.pending(usize::MAX), Instant::now() + CATCH_UP);
        let (carried, left) = self.carry_marked(way, Version::MAX, deadline, None).await?;
        report.records += carried;
        let (counted, uncounted) = self.carry_all_events(way, deadline).await?;
        report.usage += counted;
        if left + uncounted > 0 {
            let (to, owed) = (way.to.which.name(), left + uncounted);
            return Err(StoreError::Other(format!("{to} has refused {owed} records or events")));
        }
        way.to.end_pending(pending);
        Ok(())
    }

    /// Records that were marked before a version. Answers how many were carried over, and how many were left.
    async fn carry_marked(
        &self,
        way: Way<'_>,
        before: Version,
        deadline: Instant,
        pace: Option<Duration>,
    ) -> Result<(u64, u64)> {
        let (mut carried, mut left) = (0, 0);
        loop {
            // Between two batches the turn may go to a switch, which waits for it.
            let turn = if pace.is_some() { Some(self.turn.lock().await) } else { None };
            let began = Instant::now();
            let skip = u32::try_from(left).unwrap_or(u32::MAX);
            let records = way.from.backend.dirty(before, skip, BATCH).await?;
            let done = self.carry_records(way, &records).await?;
            carried += done;
            left += records.len() as u64 - done;
            // What was marked meanwhile is for the next pass: callers may mark as fast as this clears.
            if records.len() < BATCH as usize {
                return Ok((carried, left));
            }
            drop(turn);
            match pace {
                None if Instant::now() > deadline => return Err(StoreError::Timeout),
                Some(_) if Instant::now() > deadline => return Ok((carried, left)),
                Some(pace) => tokio::time::sleep(pace.saturating_sub(began.elapsed())).await,
                None => {}
            }
        }
    }

    /// Events that the last look has seen already, or that are old: nobody is counting them now.
    async fn carry_seen(&self, way: Way<'_>) -> Result<()> {
        let (place, deadline) = (way.from.which as usize, Instant::now() + PASS);
        let last = std::mem::take(&mut self.seen.lock()[place]);
        let old = now_ms() - OLD_EVENT_MS;
        loop {
            let _turn = self.turn.lock().await;
            let owed = way.from.backend.owed_usage(BATCH).await?;
            let lasting = |event: &UsageEvent| last.contains(&event.id) || event.at.as_millisecond() < old;
            let (due, young): (Vec<_>, Vec<_>) = owed.into_iter().partition(lasting);
            self.seen.lock()[place].extend(young.into_iter().map(|event| event.id));
            let done = self.carry_events(way, due).await?;
            if done == 0 || Instant::now() > deadline {
                return Ok(());
            }
        }
    }

    /// Every owed event, except those that calls in flight are counting: whoever counts an event is told whether it
    /// was new. Answers how many were carried over, and how many were left.
    async fn carry_all_events(&self, way: Way<'_>, deadline: Instant) -> Result<(u64, u64)> {
        let mut carried = 0;
        loop {
            let owed = way.from.backend.owed_usage(BATCH).await?;
            let (listed, counting) = (owed.len() as u64, self.counting(&owed));
            let done = self.carry_events(way, owed).await?;
            carried += done;
            let left = listed.saturating_sub(counting + done);
            // What is owed since then is for the next pass.
            if listed < u64::from(BATCH) || (done == 0 && counting == 0) {
                return Ok((carried, left));
            }
            if Instant::now() > deadline {
                return Err(StoreError::Timeout);
            }
            if done == 0 {
                tokio::time::sleep(PACE / 5).await;
            }
        }
    }
}
