//! What a store is known not to hold: records that lag, kinds that are incomplete.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::clock::now_ms;
use super::kind::{KINDS, Visibility};
use super::{Key, Kind, Record, UsageEvent, Version};

/// How many lagging records, and how many events, are told apart. Beyond, the whole store counts as lagging.
const TOLD_APART: usize = 100_000;
/// Among how many of them a value is looked for. Beyond, any of them may have it.
const LOOKED_THROUGH: usize = 1_000;
/// How much memory lagging records may take. Beyond, only their versions are known.
const KEPT_BYTES: usize = 64 << 20;

/// For how long an answer may be older than what the store has by then: a read that was under way when the store
/// caught up, or a copy in this process whose change is not announced yet.
const UNDER_WAY: Duration = Duration::from_secs(3);

/// Versions that were acknowledged on this node without this store.
#[derive(Default)]
pub(super) struct Lag {
    behind: Mutex<Behind>,
    /// What the store has caught up with since: until when nothing older is answered.
    caught_up: Mutex<HashMap<Key, (Version, Instant)>>,
    caught_up_len: AtomicUsize,
    /// The size of `behind`, so that the usual question costs no lock.
    len: AtomicUsize,
    /// Ids of usage events that were acknowledged on this node without this store.
    uncounted: Mutex<HashSet<Box<str>>>,
    uncounted_len: AtomicUsize,
    /// How often more was lacking than is told apart, and how many of these times are over.
    overflows: AtomicU64,
    overflows_over: AtomicU64,
    /// Until when other nodes may put here what they acknowledged without it.
    others: Mutex<Option<Instant>>,
    waits_for_others: AtomicBool,
    /// What the other store shows is noted, too.
    pub(super) notes_shown: AtomicBool,
}

/// Records that lag.
#[derive(Default)]
struct Behind {
    records: HashMap<Key, Lacking>,
    /// What those that are kept take.
    bytes: usize,
}

struct Lacking {
    version: Version,
    /// As it was acknowledged, if it is kept.
    record: Option<Arc<Record>>,
}

impl Behind {
    fn add(&mut self, record: &Arc<Record>) {
        let (version, size) = (record.version, record.size());
        let held = self.records.entry(record.key.clone()).or_insert(Lacking { version, record: None });
        if held.version > version {
            return;
        }
        self.bytes -= held.record.take().map_or(0, |old| old.size());
        held.version = version;
        if self.bytes + size <= KEPT_BYTES {
            self.bytes += size;
            held.record = Some(record.clone());
        }
    }

    fn remove(&mut self, key: &Key) {
        let removed = self.records.remove(key).and_then(|held| held.record);
        self.bytes -= removed.map_or(0, |record| record.size());
    }

    fn version(&self, key: &Key) -> Option<Version> {
        self.records.get(key).map(|held| held.version)
    }
}

/// What a store lacked when it was asked.
pub struct Pending {
    pub records: Vec<(Key, Version)>,
    /// Ids of events.
    pub usage: HashSet<Box<str>>,
    /// More than can be told apart: the whole store counts as lagging. Which time this was.
    pub overflow: Option<u64>,
}

impl Lag {
    /// With the record itself, as far as there is room.
    pub(super) fn add(&self, record: &Arc<Record>) {
        let mut behind = self.behind.lock();
        if behind.records.len() >= TOLD_APART && !behind.records.contains_key(&record.key) {
            self.add_all();
            return;
        }
        behind.add(record);
        self.len.store(behind.records.len(), Ordering::Release);
    }

    /// Up to `limit` of the records that are kept.
    pub(super) fn kept(&self, limit: usize) -> Vec<Arc<Record>> {
        if self.len.load(Ordering::Acquire) == 0 {
            return Vec::new();
        }
        let behind = self.behind.lock();
        behind.records.values().filter_map(|held| held.record.clone()).take(limit).collect()
    }

    /// Keeps this record no longer, only its version.
    pub(super) fn forget(&self, record: &Record) {
        let mut behind = self.behind.lock();
        let held = behind.records.get_mut(&record.key).filter(|held| held.version == record.version);
        let forgotten = held.and_then(|held| held.record.take());
        behind.bytes -= forgotten.map_or(0, |record| record.size());
    }

    pub(super) fn remove(&self, key: &Key, version: Version) {
        if self.is_empty() {
            return;
        }
        let mut behind = self.behind.lock();
        if let Some(held) = behind.version(key).filter(|held| *held <= version) {
            // First there, then not here: a reader finds it in one of the two.
            self.keep_caught_up(key, held);
            behind.remove(key);
        }
        self.len.store(behind.records.len(), Ordering::Release);
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

    /// Other nodes may have acknowledged something a moment ago without this store, and have this long to put it here.
    pub(super) fn wait_for_others(&self, time: Duration) {
        *self.others.lock() = Some(Instant::now() + time);
        self.waits_for_others.store(true, Ordering::Release);
    }

    fn waits_for_others(&self) -> bool {
        if !self.waits_for_others.load(Ordering::Acquire) {
            return false;
        }
        let others = self.others.lock();
        let waits = others.is_some_and(|until| Instant::now() < until);
        self.waits_for_others.store(waits, Ordering::Release);
        waits
    }

    /// Anything may have been acknowledged elsewhere without this store.
    pub(super) fn add_all(&self) {
        self.overflows.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn add_usage(&self, events: &[UsageEvent]) {
        let mut uncounted = self.uncounted.lock();
        if uncounted.len() + events.len() > TOLD_APART {
            self.add_all();
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
        self.uncounted_len.load(Ordering::Acquire) == 0 && !self.is_everything()
    }

    /// Up to `limit` records and events that are missing now.
    pub(super) fn pending(&self, limit: usize) -> Pending {
        // First: what overflows from now on is not among the records.
        let overflow = self.has_overflowed().then(|| self.overflows.load(Ordering::Acquire));
        let behind = self.behind.lock();
        let lacking = behind.records.iter().take(limit);
        let records = lacking.map(|(key, held)| (key.clone(), held.version)).collect();
        drop(behind);
        Pending { records, usage: self.uncounted.lock().iter().take(limit).cloned().collect(), overflow }
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
        if let Some(overflow) = pending.overflow {
            self.overflows_over.fetch_max(overflow, Ordering::AcqRel);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len.load(Ordering::Acquire) == 0 && !self.is_everything()
    }

    /// Whether a record that the store lacks may be the one with this value in the index of its kind.
    pub(super) fn may_hide(&self, kind: &Kind, value: &str) -> bool {
        if self.is_empty() {
            return false;
        }
        let records = &self.behind.lock().records;
        let has_it = |held: &Lacking| held.record.as_ref().is_none_or(|it| it.index_value() == Some(value));
        self.is_everything()
            || records.len() > LOOKED_THROUGH
            || records.iter().any(|(key, held)| key.kind == kind && has_it(held))
    }

    /// Whether the whole store counts as lagging.
    pub(super) fn is_everything(&self) -> bool {
        self.has_overflowed() || self.waits_for_others()
    }

    fn has_overflowed(&self) -> bool {
        self.overflows.load(Ordering::Acquire) > self.overflows_over.load(Ordering::Acquire)
    }

    pub(super) fn is_behind(&self, key: &Key, found: Option<Version>) -> bool {
        self.is_everything()
            || self.behind.lock().version(key).is_some_and(|held| found.is_none_or(|found| found < held))
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

    fn record(id: &str, version: Version, bytes: usize) -> Arc<Record> {
        let (key, fields) = (Key::new(&kind::API_KEY, id).unwrap(), [("f".into(), "x".repeat(bytes))].into());
        Arc::new(Record { key, version, deleted: false, fields, expires_at: None, cached_at: None })
    }

    #[test]
    fn what_lags_is_kept_up_to_a_bound_and_until_it_lags_no_longer() {
        let (lag, half) = (Lag::default(), KEPT_BYTES / 2);
        let kept = || lag.kept(9).iter().map(|record| record.version).collect::<Vec<_>>();
        lag.add(&record("a", 5, half));
        lag.add(&record("a", 4, 9));
        assert_eq!(kept(), [5], "the newest");
        lag.add(&record("b", 6, half));
        assert_eq!((kept(), lag.pending(9).records.len()), (vec![5], 2), "no room for another");
        lag.add(&record("a", 7, 9));
        lag.add(&record("b", 8, half));
        assert_eq!(kept().len(), 2, "there is room again");
        lag.forget(&record("b", 8, half));
        assert_eq!((kept(), lag.pending(9).records.len()), (vec![7], 2));
        lag.end(lag.pending(9));
        assert!(kept().is_empty() && lag.behind.lock().bytes == 0);
    }

    #[test]
    fn an_answer_that_was_under_way_when_the_store_caught_up_is_known_to_be_old() {
        let (lag, key) = (Lag::default(), Key::new(&kind::API_KEY, "a").unwrap());
        let record = record("a", 5, 0);
        let is_refused = |found| lag.is_behind(&key, found) || lag.is_overtaken(&key, found);
        lag.add(&record);
        assert!(is_refused(Some(4)) && is_refused(None) && !is_refused(Some(5)));
        lag.remove(&key, 4);
        assert!(!lag.is_empty());
        for end in [true, false] {
            lag.add(&record);
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
        let before = lag.pending(10);
        lag.add_all();
        lag.end(before);
        assert!(lag.is_everything(), "what came meanwhile is for the next pass");
        lag.end(lag.pending(10));
        assert!(!lag.is_everything() && !lag.is_behind(&key, Some(9)));
        lag.wait_for_others(Duration::from_secs(60));
        assert!(lag.is_everything() && lag.pending(10).overflow.is_none(), "whatever is carried over");
        lag.wait_for_others(Duration::ZERO);
        assert!(!lag.is_everything());
    }
}
