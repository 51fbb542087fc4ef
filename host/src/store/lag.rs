//! What a store is known not to hold: records that lag, kinds that are incomplete.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::clock::now_ms;
use super::kind::{KINDS, Visibility};
use super::{Key, Kind, UsageEvent, Version};

/// How many lagging records, and how many events, are told apart. Beyond, the whole store counts as lagging.
const TOLD_APART: usize = 100_000;

/// For how long an answer may be older than what the store has by then: a read that was under way when the store
/// caught up, or a copy in this process whose change is not announced yet.
const UNDER_WAY: Duration = Duration::from_secs(3);

/// Versions that were acknowledged on this node without this store.
#[derive(Default)]
pub(super) struct Lag {
    behind: Mutex<HashMap<Key, Version>>,
    /// What the store has caught up with since: until when nothing older is answered.
    caught_up: Mutex<HashMap<Key, (Version, Instant)>>,
    caught_up_len: AtomicUsize,
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
        if let Some(held) = behind.get(key).copied().filter(|held| *held <= version) {
            // First there, then not here: a reader finds it in one of the two.
            self.keep_caught_up(key, held);
            behind.remove(key);
        }
        self.len.store(behind.len(), Ordering::Release);
    }

    fn keep_caught_up(&self, key: &Key, version: Version) {
        let (now, mut caught_up) = (Instant::now(), self.caught_up.lock());
        if caught_up.len() >= TOLD_APART {
            caught_up.retain(|_, (_, until)| *until > now);
        }
        if caught_up.len() < TOLD_APART {
            caught_up.insert(key.clone(), (version, now + UNDER_WAY));
        }
        self.caught_up_len.store(caught_up.len(), Ordering::Release);
    }

    /// Whether an answer that was under way when the store caught up is older than what it has now.
    pub(super) fn is_overtaken(&self, key: &Key, found: Option<Version>) -> bool {
        if self.caught_up_len.load(Ordering::Acquire) == 0 {
            return false;
        }
        let mut caught_up = self.caught_up.lock();
        let Some((version, until)) = caught_up.get(key).copied() else { return false };
        if until > Instant::now() {
            return found.is_none_or(|found| found < version);
        }
        caught_up.remove(key);
        self.caught_up_len.store(caught_up.len(), Ordering::Release);
        false
    }

    /// Anything may have been acknowledged elsewhere without this store.
    pub(super) fn add_all(&self) {
        self.overflowed.store(true, Ordering::Release);
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

    /// Whether the whole store counts as lagging.
    pub(super) fn is_everything(&self) -> bool {
        self.overflowed.load(Ordering::Acquire)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::kind;

    #[test]
    fn an_answer_that_was_under_way_when_the_store_caught_up_is_known_to_be_old() {
        let (lag, key) = (Lag::default(), Key::new(&kind::API_KEY, "a").unwrap());
        let is_refused = |found| lag.is_behind(&key, found) || lag.is_overtaken(&key, found);
        lag.add(&key, 5);
        assert!(is_refused(Some(4)) && is_refused(None) && !is_refused(Some(5)));
        lag.remove(&key, 4);
        assert!(!lag.is_empty());
        for end in [true, false] {
            lag.add(&key, 5);
            if end {
                lag.end(lag.pending(10))
            } else {
                lag.remove(&key, 6)
            }
            assert!(lag.is_empty());
            assert!(is_refused(Some(4)) && is_refused(None) && !is_refused(Some(5)));
        }
        lag.caught_up.lock().values_mut().for_each(|(_, until)| *until = Instant::now());
        assert!(!is_refused(Some(4)) && lag.caught_up.lock().is_empty(), "forgotten in time");
    }

    #[test]
    fn a_store_that_lags_as_a_whole_does_so_until_all_is_carried_over() {
        let lag = Lag::default();
        lag.add_all();
        let key = Key::new(&kind::API_KEY, "a").unwrap();
        assert!(lag.is_everything() && lag.is_behind(&key, Some(9)));
        lag.end(lag.pending(10));
        assert!(!lag.is_everything() && !lag.is_behind(&key, Some(9)));
    }
}
