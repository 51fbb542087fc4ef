//! The embedded stand-in for Redis: a bounded map in this process, lost when it ends.
//!
//! It never drops a dirty record or a record of a whole kind; when those fill it, it refuses writes.
//! Clean records of other kinds make room first, after which the kind counts as incomplete.

mod identity;
mod list;
mod maintenance;
mod room;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use parking_lot::RwLock;

use super::clock::now_ms;
use super::epoch::{Ballot, Control, Proposal};
use super::list::{ListQuery, listed};
use super::usage::{Counts, counter_fields};
use super::{
    Backend, Backlog, Expect, Key, Kind, MAX_PAGE, Mark, Page, Record, Result, Store, StoreError, Usage,
    UsageEvent, Version, Write, kind,
};

/// How many ids of counted events are kept to recognise a repeated one: about 100 MiB at most.
const REMEMBERED_EVENTS: usize = 1_000_000;

/// A bounded store in memory. Clones share one map.
#[derive(Clone)]
pub struct Memory {
    state: Arc<RwLock<State>>,
    capacity: usize,
}

#[derive(Default)]
struct State {
    kinds: HashMap<&'static str, BTreeMap<Arc<str>, Arc<Record>>>,
    /// (kind, index value) to id.
    index: HashMap<(&'static str, String), Arc<str>>,
    dirty: BTreeSet<(Version, Key)>,
    complete: HashSet<&'static str>,
    /// How often records of a kind were dropped.
    dropped: HashMap<&'static str, u64>,
    counters: BTreeMap<String, Counts>,
    counted: HashSet<Arc<str>>,
    /// The same ids, oldest first.
    counted_order: VecDeque<Arc<str>>,
    owed: BTreeMap<String, UsageEvent>,
    /// Until when nothing is counted.
    closed_until: Option<Instant>,
    /// Bytes held by records and owed events, as estimated by their `size`.
    size: usize,
}

impl Memory {
    /// A store that holds about `capacity` bytes of records.
    pub fn new(capacity: usize) -> Self {
        Self { state: Arc::default(), capacity }
    }

    fn totals(&self, id: &str) -> Option<Arc<Record>> {
        let state = self.state.read();
        let counts = state.counters.get(id)?;
        let key = Key { kind: &kind::USAGE, id: id.into() };
        Some(Arc::new(Record {
            key,
            version: counts[0] as Version,
            deleted: false,
            fields: counter_fields(counts),
            expires_at: None,
            cached_at: None,
        }))
    }
}

#[async_trait]
impl Store for Memory {
    async fn get(&self, key: &Key) -> Result<Option<Arc<Record>>> {
        if *key.kind == kind::USAGE {
            return Ok(self.totals(&key.id));
        }
        let state = self.state.read();
        let record = state.kinds.get(key.kind.name).and_then(|records| records.get(&*key.id));
        Ok(record.filter(|record| !record.is_expired(now_ms())).cloned())
    }

    async fn find(&self, kind: &'static Kind, index: &str, value: &str) -> Result<Option<Arc<Record>>> {
        kind.index_named(index)?;
        let state = self.state.read();
        let id = state.index.get(&(kind.name, value.to_owned()));
        let record = id.and_then(|id| state.kinds.get(kind.name)?.get(id));
        Ok(record.filter(|record| record.is_live(now_ms())).cloned())
    }

    async fn scan(&self, kind: &'static Kind, cursor: Option<&str>, limit: u32) -> Result<Page> {
        use std::ops::Bound::{Excluded, Unbounded};
        let (now, limit) = (now_ms(), limit.clamp(1, MAX_PAGE) as usize);
        let state = self.state.read();
        let Some(records) = state.kinds.get(kind.name) else { return Ok(Page::default()) };
        let after = cursor.map_or(Unbounded, Excluded);
        let live = records.range::<str, _>((after, Unbounded)).filter(|(_, record)| record.is_live(now));
        let mut records: Vec<_> = live.map(|(_, record)| record.clone()).take(limit + 1).collect();
        let more = records.len() > limit;
        records.truncate(limit);
        let next = records.last().filter(|_| more).map(|record| record.key.id.to_string());
        Ok(Page { records, next })
    }

    async fn put(&self, write: &Write) -> Result<()> {
        let mut state = self.state.write();
        if !state.accepts(write)? {
            if write.mark == Mark::Clean {
                state.confirm(&write.record.key);
            }
            return Ok(());
        }
        state.make_room(write.record.size(), self.capacity)?;
        state.store(write);
        Ok(())
    }

    async fn add(&self, usage: &Usage) -> Result<u64> {
        let mut state = self.state.write();
        state.counts()?;
        let new: Vec<_> =
            usage.events.iter().filter(|event| !state.counted.contains(event.id.as_str())).collect();
        if usage.mark == Mark::Dirty {
            state.make_room(new.len() * EVENT_SIZE, self.capacity)?;
        }
        for (id, counts) in Usage::fold(new.iter().copied(), usage.offset) {
            let total = state.counters.entry(id).or_default();
            total.iter_mut().zip(counts).for_each(|(total, count)| *total = total.saturating_add(count));
        }
        for event in &new {
            state.count(event, usage.mark);
        }
        Ok(new.len() as u64)
    }
}

#[async_trait]
impl Backend for Memory {
    async fn dirty(&self, before: Version, skip: u32, limit: u32) -> Result<Vec<Arc<Record>>> {
        let state = self.state.read();
        let old = state.dirty.iter().take_while(|(version, _)| *version < before).skip(skip as usize);
        Ok(old.take(limit as usize).filter_map(|(_, key)| state.record(key)).cloned().collect())
    }

    async fn settle(&self, settled: &[(Key, Version)]) -> Result<()> {
        let mut state = self.state.write();
        for (key, version) in settled {
            if state.record(key).is_some_and(|record| record.version == *version) {
                state.dirty.remove(&(*version, key.clone()));
            }
        }
        Ok(())
    }

    async fn owed_usage(&self, after: Option<&str>, limit: u32) -> Result<Vec<UsageEvent>> {
        let (state, after) = (self.state.read(), after.unwrap_or_default());
        Ok(state.owed.values().filter(|it| *it.id > *after).take(limit as usize).cloned().collect())
    }

    async fn settle_usage(&self, ids: &[String]) -> Result<()> {
        let mut state = self.state.write();
        for id in ids {
            if state.owed.remove(id).is_some() {
                state.size -= EVENT_SIZE;
            }
        }
        Ok(())
    }

    async fn backlog(&self) -> Result<Backlog> {
        let state = self.state.read();
        let oldest = state.dirty.first().map(|mark| mark.0);
        Ok(Backlog::new(state.dirty.len() as u64, state.owed.len() as u64, oldest))
    }

    async fn complete(&self, kind: &'static Kind) -> Result<bool> {
        Ok(self.state.read().complete.contains(kind.name))
    }

    async fn set_complete(&self, kind: &'static Kind) -> Result<()> {
        self.state.write().complete.insert(kind.name);
        Ok(())
    }

    async fn counts_usage(&self) -> Result<bool> {
        Ok(!self.state.read().counters.is_empty())
    }

    async fn probe(&self) -> Result<()> {
        Ok(())
    }

    fn durability(&self) -> &'static str {
        "memory"
    }

    async fn control(&self, _: &str, _: Ballot, _: Option<&Proposal>) -> Result<Option<Control>> {
        Ok(None)
    }

    async fn sync_all(&self, _: bool) -> Result<()> {
        Ok(())
    }

    async fn list(&self, kind: &'static Kind, query: &ListQuery) -> Result<Page> {
        listed(kind).map(|()| self.list_records(kind, query))
    }

    async fn marked(&self, keys: &[Key]) -> Result<Vec<Arc<Record>>> {
        let state = self.state.read();
        Ok(keys.iter().filter_map(|key| state.marked(key)).cloned().collect())
    }
}

/// Roughly what an owed event occupies, in bytes.
const EVENT_SIZE: usize = 512;

impl State {
    fn record(&self, key: &Key) -> Option<&Arc<Record>> {
        self.kinds.get(key.kind.name)?.get(&*key.id)
    }

    fn marked(&self, key: &Key) -> Option<&Arc<Record>> {
        self.record(key).filter(|record| self.dirty.contains(&(record.version, key.clone())))
    }

    /// Whether the write is news; an error when it must be refused.
    fn accepts(&self, write: &Write) -> Result<bool> {
        let Some(held) = self.record(&write.record.key) else { return Ok(true) };
        let refused = match write.expect {
            Expect::Anything => false,
            Expect::AtMost(version) => held.version > version && held.version != write.record.version,
            Expect::Absent => held.is_live(now_ms()) && held.version != write.record.version,
        };
        match held.version.cmp(&write.record.version) {
            _ if refused => Err(StoreError::Conflict(held.version)),
            std::cmp::Ordering::Greater => Err(StoreError::Conflict(held.version)),
            std::cmp::Ordering::Equal => Ok(false),
            std::cmp::Ordering::Less => Ok(true),
        }
    }

    fn store(&mut self, write: &Write) {
        let key = &write.record.key;
        self.remove(key);
        let mut record = (*write.record).clone();
        record.cached_at = Some(now_ms());
        if let Some(value) = record.index_value() {
            self.index.insert((key.kind.name, value.to_owned()), key.id.clone());
        }
        if write.mark == Mark::Dirty {
            self.dirty.insert((record.version, key.clone()));
        }
        self.size += record.size();
        self.kinds.entry(key.kind.name).or_default().insert(key.id.clone(), Arc::new(record));
    }

    /// The other store has this very version now: the copy is as good as a new one.
    fn confirm(&mut self, key: &Key) {
        let held = self.kinds.get_mut(key.kind.name).and_then(|records| records.get_mut(&*key.id));
        if let Some(held) = held {
            Arc::make_mut(held).cached_at = Some(now_ms());
        }
    }

    fn remove(&mut self, key: &Key) {
        let Some(old) = self.kinds.get_mut(key.kind.name).and_then(|records| records.remove(&*key.id)) else {
            return;
        };
        self.size -= old.size();
        self.dirty.remove(&(old.version, key.clone()));
        if let Some(value) = old.index_value() {
            let entry = (key.kind.name, value.to_owned());
            if self.index.get(&entry).is_some_and(|id| *id == key.id) {
                self.index.remove(&entry);
            }
        }
    }

    fn count(&mut self, event: &UsageEvent, mark: Mark) {
        let id: Arc<str> = event.id.as_str().into();
        self.counted.insert(id.clone());
        self.counted_order.push_back(id);
        if self.counted_order.len() > REMEMBERED_EVENTS
            && let Some(oldest) = self.counted_order.pop_front()
        {
            self.counted.remove(&oldest);
        }
        if mark == Mark::Dirty {
            self.size += EVENT_SIZE;
            self.owed.insert(event.id.clone(), event.clone());
        }
    }
}
