//! The admin's commands on the store in memory.

use std::ops::Bound::{Excluded, Unbounded};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use jiff::tz::Offset;

use super::super::maintenance::{Adopted, Counted, Windows};
use super::super::{Key, Kind, MAX_PAGE, Maintenance, Page, Result, StoreError, Version};
use super::{Memory, State};

#[async_trait]
impl Maintenance for Memory {
    async fn adopt(&self, _cursor: Option<&str>) -> Result<Adopted> {
        Ok(Adopted::default())
    }

    async fn count(&self, kind: &'static Kind) -> Result<u64> {
        let state = self.state.read();
        let records = state.kinds.get(kind.name).into_iter().flat_map(|records| records.values());
        Ok(records.filter(|record| !record.deleted).count() as u64)
    }

    async fn tombstones(&self, kind: &'static Kind, cursor: Option<&str>, limit: u32) -> Result<Page> {
        let state = self.state.read();
        let Some(records) = state.kinds.get(kind.name) else { return Ok(Page::default()) };
        let after = cursor.map_or(Unbounded, Excluded);
        let deleted = records.range::<str, _>((after, Unbounded)).filter(|(_, record)| record.deleted);
        let limit = limit.clamp(1, MAX_PAGE) as usize;
        let records: Vec<_> = deleted.map(|(_, record)| record.clone()).take(limit).collect();
        let next = records.last().filter(|_| records.len() == limit).map(|last| last.key.id.to_string());
        Ok(Page { records, next })
    }

    async fn windows(&self, cursor: Option<&str>, limit: u32, every: bool) -> Result<Windows> {
        let state = self.state.read();
        let after = cursor.map_or(Unbounded, Excluded);
        let wanted = state.counters.range::<str, _>((after, Unbounded));
        let wanted = wanted.filter(|(id, _)| every || id.ends_with(":total"));
        let limit = limit.max(1) as usize;
        let counted: Vec<_> = wanted.map(|(id, counts)| (id.clone(), *counts)).take(limit).collect();
        let next = counted.last().filter(|_| counted.len() == limit).map(|(id, _)| id.clone());
        Ok(Windows { counted, next, ..Windows::default() })
    }

    async fn has_counted(&self, ids: &[String]) -> Result<Vec<String>> {
        let state = self.state.read();
        Ok(ids.iter().filter(|id| state.counted.contains(id.as_str())).cloned().collect())
    }

    async fn close_usage(&self, hold: Option<Duration>) -> Result<()> {
        self.state.write().closed_until = hold.map(|hold| Instant::now() + hold);
        Ok(())
    }

    async fn open_balances(&self, _held: &[Counted], _offset: Offset, _from: &str) -> Result<u64> {
        Err(StoreError::Unsupported("opening balances are kept in a durable store only".into()))
    }

    async fn dropped(&self, kind: &'static Kind) -> Result<u64> {
        Ok(self.state.read().dropped.get(kind.name).copied().unwrap_or(0))
    }

    async fn complete_since(&self, kind: &'static Kind, dropped: u64) -> Result<bool> {
        let mut state = self.state.write();
        let unchanged = state.dropped.get(kind.name).copied().unwrap_or(0) == dropped;
        if unchanged {
            state.complete.insert(kind.name);
        }
        Ok(unchanged)
    }

    async fn drop_copies(&self, kind: &'static Kind, copies: &[(Key, Version)]) -> Result<u64> {
        let mut state = self.state.write();
        state.no_longer_complete(kind);
        let mut dropped = 0;
        for (key, version) in copies {
            let held = state.record(key).is_some_and(|record| record.version == *version);
            if held && key.kind == kind && state.marked(key).is_none() {
                state.remove(key);
                dropped += 1;
            }
        }
        Ok(dropped)
    }

    async fn forget_near(&self) -> Result<u64> {
        Ok(0)
    }

    async fn reconnect(&self) -> Result<()> {
        Ok(())
    }
}

impl State {
    /// Copies are about to be dropped: whatever is being copied now does not make the kind complete.
    pub(super) fn no_longer_complete(&mut self, kind: &Kind) {
        self.complete.remove(kind.name);
        *self.dropped.entry(kind.name).or_default() += 1;
    }

    /// # Errors
    /// While nothing is counted.
    pub(super) fn counts(&self) -> Result<()> {
        match self.closed_until.is_some_and(|until| Instant::now() < until) {
            true => Err(StoreError::Paused("usage is being compared; nothing is counted".into())),
            false => Ok(()),
        }
    }
}
