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
/// How long until it is looked again whether two versions contradict each other.
const UNSETTLED: Duration = Duration::from_millis(200);
/// A store that refuses more than this of what it is asked has not caught up.
const MOST_REFUSED: u64 = 1_000;
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
            self.carry_announced_events(way, &mut pending.usage).await?;
        }
        pending.overflow = None;
        // A store that may have lost its data may have lost the marks, too.
        if way.from.is_trusted() {
            way.to.end_pending(pending);
        }
        Ok(())
    }

    /// Leaves of these events those that nobody owes any more.
    async fn carry_announced_events(&self, way: Way<'_>, pending: &mut HashSet<Box<str>>) -> Result<()> {
        let (mut after, mut left) = (None, HashSet::new());
        loop {
            let owed = way.from.backend.owed_usage(after.as_deref(), BATCH).await?;
            let (all, last, ids) = (owed.len() < BATCH as usize, last(&owed), ids(&owed));
            let ours = owed.into_iter().filter(|event| pending.contains(event.id.as_str())).collect();
            self.carry_events(way, ours).await?;
            let refused = self.refuses_any(way, &ids);
            left.extend(ids);
            if all || !refused || last <= after {
                pending.retain(|id| all && !left.contains(&**id));
                return Ok(());
            }
            after = last;
        }
    }

    /// Whether the store is known to refuse one of these events: then there are others after them.
    fn refuses_any(&self, way: Way<'_>, ids: &[String]) -> bool {
        let refused = self.refused.lock();
        ids.iter().any(|id| refused.has_event(way.to.which, id))
    }

    /// What a look has found, except what may still be on its way.
    pub(super) async fn carry_found(&self, way: Way<'_>, owed: &Backlog) -> Result<()> {
        if way.to.pending(1).overflow.is_some() {
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

    /// Everything that is owed, until no mark is left that was there at the beginning, except of what the store
    /// refuses: for that it does not answer.
    pub(super) async fn carry_all(&self, way: Way<'_>, report: &mut CaughtUp) -> Result<()> {
        let (mut pending, deadline) = (way.to.pending(usize::MAX), Instant::now() + CATCH_UP);
        let mut unsettled: Option<HashSet<(Key, Version)>> = None;
        let done = loop {
            let done = self.carry_marked(way, Version::MAX, deadline, None).await?;
            report.records += done.carried;
            // Others that came meanwhile are for the next pass.
            let left = |known: HashSet<_>| known.intersection(&done.unsettled).cloned().collect();
            let waits: HashSet<_> = unsettled.take().map_or_else(|| done.unsettled.clone(), left);
            if waits.is_empty() {
                break done;
            }
            if Instant::now() > deadline {
                return Err(StoreError::Timeout);
            }
            unsettled = Some(waits);
            tokio::time::sleep(UNSETTLED).await;
        };
        report.usage += self.carry_all_events(way, deadline).await?;
        let to = way.to.which;
        let refused = {
            let known = self.refused.lock();
            let waits: HashSet<_> = done.unsettled.iter().map(|(key, _)| key).collect();
            pending.records.retain(|(key, _)| !known.has(to, key) && !waits.contains(key));
            pending.usage.retain(|id| !known.has_event(to, id));
            done.left - done.unsettled.len() as u64 + known.count_events(to)
        };
        if refused > MOST_REFUSED {
            return Err(StoreError::Other(format!("{} has refused {refused} records or events", to.name())));
        }
        // A store that may have lost its data may have lost the marks, too.
        if way.from.is_trusted() {
            way.to.end_pending(pending);
        }
        Ok(())
    }

    /// Records that were marked before a version.
    async fn carry_marked(
        &self,
        way: Way<'_>,
        before: Version,
        deadline: Instant,
        pace: Option<Duration>,
    ) -> Result<Done> {
        let mut done = Done::default();
        loop {
            // Between two batches the turn may go to a switch, which waits for it.
            let turn = if pace.is_some() { Some(self.turn.lock().await) } else { None };
            let began = Instant::now();
            let skip = u32::try_from(done.left).unwrap_or(u32::MAX);
            let records = way.from.backend.dirty(before, skip, BATCH).await?;
            let (carried, unsettled) = self.carry_records(way, &records).await?;
            done.carried += carried;
            done.left += records.len() as u64 - carried;
            done.unsettled.extend(unsettled);
            // What was marked meanwhile is for the next pass: callers may mark as fast as this clears.
            if records.len() < BATCH as usize {
                return Ok(done);
            }
            drop(turn);
            match pace {
                None if Instant::now() > deadline => return Err(StoreError::Timeout),
                Some(_) if Instant::now() > deadline => return Ok(done),
                Some(pace) => tokio::time::sleep(pace.saturating_sub(began.elapsed())).await,
                None => {}
            }
        }
    }

    /// Events that the last look has seen already, or that are old: nobody is counting them now.
    async fn carry_seen(&self, way: Way<'_>) -> Result<()> {
        let (place, deadline) = (way.from.which as usize, Instant::now() + PASS);
        let seen = std::mem::take(&mut self.seen.lock()[place]);
        let (old, mut after) = (now_ms() - OLD_EVENT_MS, None);
        loop {
            let _turn = self.turn.lock().await;
            let owed = way.from.backend.owed_usage(after.as_deref(), BATCH).await?;
            let (all, last, ids) = (owed.len() < BATCH as usize, last(&owed), ids(&owed));
            let lasting = |event: &UsageEvent| seen.contains(&event.id) || event.at.as_millisecond() < old;
            let (due, young): (Vec<_>, Vec<_>) = owed.into_iter().partition(lasting);
            self.seen.lock()[place].extend(young.into_iter().map(|event| event.id));
            let done = self.carry_events(way, due).await?;
            let goes_on = done > 0 || (self.refuses_any(way, &ids) && last > after);
            if all || !goes_on || Instant::now() > deadline {
                return Ok(());
            }
            after = after.max(last);
        }
    }

    /// Every owed event, except those that calls in flight are counting: whoever counts an event is told whether it
    /// was new; and except those that are refused. Answers how many were carried over.
    async fn carry_all_events(&self, way: Way<'_>, deadline: Instant) -> Result<u64> {
        let (mut carried, mut after) = (0, None);
        loop {
            let owed = way.from.backend.owed_usage(after.as_deref(), BATCH).await?;
            let (all, last, counting) = (owed.len() < BATCH as usize, last(&owed), self.counting(&owed));
            let done = self.carry_events(way, owed).await?;
            carried += done;
            // What is owed since then is for the next pass.
            if all {
                return Ok(carried);
            }
            if Instant::now() > deadline {
                return Err(StoreError::Timeout);
            }
            if done == 0 && last <= after {
                if counting == 0 {
                    let to = way.to.which.name();
                    return Err(StoreError::Other(format!("{to} refuses more events than are told apart")));
                }
                tokio::time::sleep(PACE / 5).await;
            }
            after = after.max(last);
        }
    }
}

/// What a pass over marked records has done.
#[derive(Default)]
struct Done {
    carried: u64,
    left: u64,
    /// Those among the left that wait: see [`Drain::carry_records`].
    unsettled: HashSet<(Key, Version)>,
}

fn last(events: &[UsageEvent]) -> Option<String> {
    events.iter().map(|event| &event.id).max().cloned()
}

fn ids(events: &[UsageEvent]) -> Vec<String> {
    events.iter().map(|event| event.id.clone()).collect()
}
