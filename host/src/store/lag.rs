//! What a store is known not to hold: records that lag, kinds that are incomplete.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::clock::now_ms;
use super::kind::{KINDS, Visibility};
use super::{Key, Kind, UsageEvent, Version};

/// How many lagging records, and how many events, are told apart. Beyond, the whole store counts as lagging.
const TOLD_APART: usize = 100_000;

/// Versions that were acknowledged on this node without this store.
#[derive(Default)]
pub(super) struct Lag {
    behind: Mutex<HashMap<Key, Version>>,
    /// The size of `behind`, so that the usual question costs no lock.
    len: AtomicUsize,
    /// Ids of usage events that were acknowledged on this node without this store.
    uncounted: Mutex<HashSet<Box<str>>>,
    uncounted_len: AtomicUsize,
    overflowed: AtomicBool,
}

/// What a store lacked when it was asked.
pub struct Pending {
    pub records: Vec<(Key, Version)>,
    /// Ids of events.
    pub usage: HashSet<Box<str>>,
    /// More than can be told apart: the whole store counts as lagging.
    pub overflowed: bool,
}

impl Lag {
    pub(super) fn add(&self, key: &Key, version: Version) {
        let mut behind = self.behind.lock();
        if behind.len() >= TOLD_APART && !behind.contains_key(key) {
            self.overflowed.store(true, Ordering::Release);
            return;
        }
        let held = behind.entry(key.clone()).or_insert(version);
        *held = version.max(*held);
        self.len.store(behind.len(), Ordering::Release);
    }

    pub(super) fn remove(&self, key: &Key, version: Version) {
        if self.is_empty() {
            return;
        }
        let mut behind = self.behind.lock();
        if behind.get(key).is_some_and(|held| *held <= version) {
            behind.remove(key);
        }
        self.len.store(behind.len(), Ordering::Release);
    }

    pub(super) fn add_usage(&self, events: &[UsageEvent]) {
        let mut uncounted = self.uncounted.lock();
        if uncounted.len() + events.len() > TOLD_APART {
            self.overflowed.store(true, Ordering::Release);
            return;
        }
        uncounted.extend(events.iter().map(|event| Box::from(event.id.as_str())));
        self.uncounted_len.store(uncounted.len(), Ordering::Release);
    }

    pub(super) fn remove_usage(&self, events: &[UsageEvent]) {
        if self.uncounted_len.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut uncounted = self.uncounted.lock();
        for event in events {
            uncounted.remove(event.id.as_str());
        }
        self.uncounted_len.store(uncounted.len(), Ordering::Release);
    }

    /// Whether every event acknowledged on this node is counted here.
    pub(super) fn has_counted_all(&self) -> bool {
        self.uncounted_len.load(Ordering::Acquire) == 0 && !self.overflowed.load(Ordering::Acquire)
    }

    /// Up to `limit` records and events that are missing now.
    pub(super) fn pending(&self, limit: usize) -> Pending {
        let behind = self.behind.lock();
        let records = behind.iter().take(limit).map(|(key, version)| (key.clone(), *version)).collect();
        drop(behind);
        Pending {
            records,
            usage: self.uncounted.lock().iter().take(limit).cloned().collect(),
            overflowed: self.overflowed.load(Ordering::Acquire),
        }
    }

    /// All of this has been carried over, by whoever did it.
    pub(super) fn end(&self, pending: Pending) {
        for (key, version) in &pending.records {
            self.remove(key, *version);
        }
        let mut uncounted = self.uncounted.lock();
        for id in &pending.usage {
            uncounted.remove(id);
        }
        self.uncounted_len.store(uncounted.len(), Ordering::Release);
        if pending.overflowed {
            self.overflowed.store(false, Ordering::Release);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len.load(Ordering::Acquire) == 0 && !self.overflowed.load(Ordering::Acquire)
    }

    pub(super) fn is_behind(&self, key: &Key, found: Option<Version>) -> bool {
        self.overflowed.load(Ordering::Acquire)
            || self.behind.lock().get(key).is_some_and(|held| found.is_none_or(|found| found < *held))
    }
}

/// Which kinds a store was found complete for, believed for a second at a time: a store may lose its data.
#[derive(Default)]
pub(super) struct Completeness([AtomicI64; KINDS.len()]);

impl Completeness {
    const BELIEVED_MS: i64 = 1_000;

    fn slot(&self, kind: &Kind) -> Option<&AtomicI64> {
        KINDS.iter().position(|k| *k == kind).and_then(|i| self.0.get(i))
    }

    pub(super) fn is_fresh(&self, kind: &Kind) -> bool {
        kind.visibility == Visibility::Internal
            || self.slot(kind).is_some_and(|until| until.load(Ordering::Relaxed) > now_ms())
    }

    pub(super) fn confirm(&self, kind: &Kind) {
        if let Some(until) = self.slot(kind) {
            until.store(now_ms() + Self::BELIEVED_MS, Ordering::Relaxed);
        }
    }
}
