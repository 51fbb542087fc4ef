//! Records and events on their way from one store into the other.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures::{StreamExt, stream};

use super::{Drain, Way};
use crate::store::side::Which;
use crate::store::{Key, Mark, Record, Result, Store, StoreError, Usage, UsageEvent, Version, Write};

/// How many records are on their way at once: enough for a server to batch them, few beside the callers.
const AT_ONCE: usize = 128;
/// How many events are counted at once, and how often that is halved at most: down to one.
const EVENTS_AT_ONCE: usize = 500;
const HALVINGS: u32 = EVENTS_AT_ONCE.ilog2();

/// How often the events that a store counts at once are halved, for each store: once for every batch that it did not
/// count in time. It outlasts a look, for the connection is given up then.
#[derive(Default)]
pub(super) struct Halved([AtomicU32; 2]);

impl Halved {
    fn at_once(&self, to: Which) -> usize {
        EVENTS_AT_ONCE >> self.0[to as usize].load(Ordering::Relaxed)
    }

    fn note<T>(&self, to: Which, offered: usize, counted: &Result<T>) {
        let halved = &self.0[to as usize];
        let (was, whole) = (halved.load(Ordering::Relaxed), offered >= self.at_once(to));
        match counted {
            Err(StoreError::Timeout) => halved.store((was + 1).min(HALVINGS), Ordering::Relaxed),
            Ok(_) if whole => halved.store(was.saturating_sub(1), Ordering::Relaxed),
            _ => {}
        }
    }
}

impl Drain {
    /// Carries records over and clears their marks. What one of them is refused for stops no other one.
    /// Answers how many were carried over, and which ones wait until it is known whether they contradict a version of
    /// the other store: the key, and the smaller version.
    ///
    /// # Errors
    /// When a store cannot be reached; what was carried over until then is settled.
    pub(super) async fn carry_records(
        &self,
        way: Way<'_>,
        records: &[Arc<Record>],
    ) -> Result<(u64, HashMap<Key, Version>)> {
        let mut due: Vec<_> = {
            let refused = self.refused.lock();
            records.iter().filter(|record| refused.is_due(way.to.which, record)).cloned().collect()
        };
        let mut unsettled = HashMap::new();
        if way.contested && !due.is_empty() {
            let keys: Vec<_> = due.iter().map(|record| record.key.clone()).collect();
            let theirs = way.to.backend.marked(&keys).await?;
            unsettled = self.conflicts.note((way.from.which, &due), (way.to.which, &theirs)).await?;
            due.retain(|record| !unsettled.contains_key(&record.key));
        }
        let offers = due.into_iter().map(|record| async move {
            let carried = carry_record(way, &record).await;
            (record, carried)
        });
        let mut offers = stream::iter(offers).buffer_unordered(AT_ONCE);
        let (mut settled, mut failure) = (Vec::new(), None);
        while let Some((record, carried)) = offers.next().await {
            match carried {
                Ok(()) => {
                    self.refused.lock().remove(way.to.which, &record.key);
                    settled.push((record.key.clone(), record.version));
                }
                Err(error) if is_of_the_record(&error) => self.refuse_record(way, &record, &error),
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        drop(offers);
        if !settled.is_empty() {
            way.from.backend.settle(&settled).await?;
        }
        self.told.carried(settled.len());
        failure.map_or(Ok((settled.len() as u64, unsettled)), Err)
    }

    /// The store lacks it from now on, and does not answer for it.
    fn refuse_record(&self, way: Way<'_>, record: &Arc<Record>, error: &StoreError) {
        way.to.lags_behind(record);
        self.refused.lock().add(way.to.which, record, error);
        self.told.refused(way.to.which.name(), &record.key.to_string(), error);
    }

    /// How many of these calls in flight are counting.
    pub(super) fn counting(&self, events: &[UsageEvent]) -> u64 {
        let in_flight = self.in_flight.lock();
        events.iter().filter(|event| in_flight.contains(&event.id)).count() as u64
    }

    /// Counts events in the other store, except those that calls in flight are counting, and forgets that they
    /// are owed. What one of them is refused for stops no other one. Answers how many were counted.
    ///
    /// # Errors
    /// When a store cannot be reached, or did not count in time: fewer are offered at once then.
    pub(super) async fn carry_events(&self, way: Way<'_>, mut events: Vec<UsageEvent>) -> Result<u64> {
        {
            let (in_flight, refused) = (self.in_flight.lock(), self.refused.lock());
            let is_due = |event: &UsageEvent| refused.is_event_due(way.to.which, &event.id);
            events.retain(|event| !in_flight.contains(&event.id) && is_due(event));
        }
        let (mut carried, to) = (0, way.to.which);
        let mut parts: Vec<_> = events.chunks(self.halved.at_once(to)).map(<[_]>::to_vec).collect();
        while let Some(mut part) = parts.pop() {
            let ids: Vec<_> = part.iter().map(|event| event.id.clone()).collect();
            let counted = way.to.add(&Usage::new(part.clone(), self.offset, Mark::Clean)).await;
            self.halved.note(to, part.len(), &counted);
            match counted {
                Ok(_) => {
                    self.refused.lock().remove_events(way.to.which, &ids);
                    way.from.backend.settle_usage(&ids).await?;
                    self.told.carried(ids.len());
                    carried += ids.len() as u64;
                }
                Err(error) if is_of_the_record(&error) && part.len() > 1 => {
                    // One of them is to blame: it is in one of the halves.
                    let half = part.split_off(part.len() / 2);
                    parts.extend([part, half]);
                }
                Err(error) if is_of_the_record(&error) => {
                    self.refused.lock().add_event(to, &ids[0]);
                    self.told.refused(to.name(), &format!("usage event {:?}", ids[0]), &error);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(carried)
    }
}

async fn carry_record(way: Way<'_>, record: &Arc<Record>) -> Result<()> {
    let held = match way.to.put(&Write::copy(record.clone())).await {
        Err(StoreError::Conflict(held)) => held,
        done => return done,
    };
    way.to.caught_up(&record.key, held);
    // The other store is ahead: this one has the newer version back.
    let Some(newer) = way.to.backend.get(&record.key).await? else { return Ok(()) };
    match way.from.put(&Write::copy(newer)).await {
        // It has gone on meanwhile.
        Err(StoreError::Conflict(_)) => Ok(()),
        done => done,
    }
}

/// Whether the next record may fare better.
fn is_of_the_record(error: &StoreError) -> bool {
    matches!(error, StoreError::Unsupported(_) | StoreError::Other(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_counted_in_time_is_halved_down_to_one_and_grows_again() {
        let (halved, to, late) = (Halved::default(), Which::Redis, Err::<u64, _>(StoreError::Timeout));
        assert_eq!(halved.at_once(to), EVENTS_AT_ONCE);
        for _ in 0..20 {
            halved.note(to, halved.at_once(to), &late);
        }
        assert_eq!((halved.at_once(to), halved.at_once(Which::Postgres)), (1, EVENTS_AT_ONCE));
        for _ in 0..20 {
            halved.note(to, halved.at_once(to), &Ok(1));
        }
        assert_eq!(halved.at_once(to), EVENTS_AT_ONCE);
        halved.note(to, 500, &late);
        halved.note(to, 3, &Ok(3));
        assert_eq!(halved.at_once(to), EVENTS_AT_ONCE / 2, "a few in time prove nothing");
    }
}
