//! The near cache: copies of records in this process, which the server tells us to forget.
//!
//! One belongs to one connection and goes with it, so nothing outlives the channel on which the server
//! announces changes. A reply is kept only if nothing that concerns it was forgotten since its request
//! was sent: each forgetting takes a number, and each reply knows the number at which it was asked for.

use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use quick_cache::sync::Cache;
use quick_cache::{Equivalent, Weighter};
use redis::Value;

use super::layout;
use crate::store::{Key, Kind, Record};

/// How long after its last sign of life a connection's copies are believed.
const BELIEVED: Duration = Duration::from_secs(1);
const STRIPES: usize = 256;
/// What a record is assumed to weigh, to size the tables.
const TYPICAL_RECORD: usize = 2_048;

/// The number of forgettings when a request was sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked(u64);

pub(super) struct Near {
    records: Cache<Key, Held, Weigh>,
    found: Cache<Found, Key, Weigh>,
    forgettings: AtomicU64,
    /// The last forgetting of any record whose key falls on the stripe.
    stripes: Vec<Mutex<u64>>,
    /// The last forgetting of any index.
    indexes: Mutex<u64>,
    hasher: RandomState,
    born: Instant,
    /// When the server last proved that it had announced every change, in microseconds after `born`, plus 1.
    proven: AtomicU64,
}

#[derive(Clone)]
struct Held {
    record: Arc<Record>,
    size: u64,
}

#[derive(PartialEq, Eq)]
struct Found {
    kind: &'static Kind,
    value: Box<str>,
}

impl Hash for Found {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.kind, &*self.value).hash(state);
    }
}

impl Equivalent<Found> for (&'static Kind, &str) {
    fn equivalent(&self, found: &Found) -> bool {
        self.0 == found.kind && *self.1 == *found.value
    }
}

#[derive(Clone)]
struct Weigh;

impl Weighter<Key, Held> for Weigh {
    fn weight(&self, _: &Key, held: &Held) -> u64 {
        held.size
    }
}

impl Weighter<Found, Key> for Weigh {
    fn weight(&self, found: &Found, key: &Key) -> u64 {
        (found.value.len() + key.id.len() + 128) as u64
    }
}

impl Near {
    /// One that holds about `bytes`, an eighth of it for what was found by an index.
    pub(super) fn new(bytes: u64) -> Self {
        let (found, typical) = (bytes / 8, bytes as usize / TYPICAL_RECORD + 1);
        Self {
            records: Cache::with_weighter(typical, bytes - found, Weigh),
            found: Cache::with_weighter(typical, found, Weigh),
            forgettings: AtomicU64::new(0),
            stripes: (0..STRIPES).map(|_| Mutex::new(0)).collect(),
            indexes: Mutex::new(0),
            hasher: RandomState::new(),
            born: Instant::now(),
            proven: AtomicU64::new(0),
        }
    }

    /// How many records are kept.
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// To be called before a read is sent.
    pub(super) fn ask(&self) -> Asked {
        Asked(self.forgettings.load(Ordering::Acquire))
    }

    /// The server has answered what it was asked at `sent`: all changes until then are announced.
    pub(super) fn prove(&self, sent: Instant) {
        let at = sent.saturating_duration_since(self.born).as_micros() as u64 + 1;
        self.proven.fetch_max(at, Ordering::AcqRel);
    }

    pub(super) fn get(&self, key: &Key, now_ms: i64) -> Option<Arc<Record>> {
        let record = self.records.get(key)?.record;
        (self.is_believed() && !record.is_expired(now_ms)).then_some(record)
    }

    pub(super) fn find(&self, kind: &'static Kind, value: &str, now_ms: i64) -> Option<Arc<Record>> {
        let key = self.found.get(&(kind, value))?;
        self.get(&key, now_ms).filter(|record| record.is_live(now_ms) && record.index_value() == Some(value))
    }

    fn is_believed(&self) -> bool {
        let proven = self.proven.load(Ordering::Acquire);
        proven != 0 && self.born.elapsed() < Duration::from_micros(proven) + BELIEVED
    }

    /// Keeps a reply, unless something was forgotten of it since it was asked for.
    pub(super) fn keep(&self, asked: Asked, record: &Arc<Record>) {
        let last = self.stripe(&record.key);
        if *last <= asked.0 {
            let held = Held { size: record.size() as u64, record: record.clone() };
            self.records.insert(record.key.clone(), held);
        }
    }

    /// Keeps what an index answered, on the same condition.
    pub(super) fn keep_found(&self, asked: Asked, key: &Key, value: &str) {
        let last = self.indexes.lock();
        if *last <= asked.0 {
            self.found.insert(Found { kind: key.kind, value: value.into() }, key.clone());
        }
    }

    /// Forgets a record, now and in every reply that is under way.
    pub(super) fn forget(&self, key: &Key) {
        let number = self.number();
        let mut last = self.stripe(key);
        *last = number.max(*last);
        self.records.remove(key);
    }

    /// Forgets what this process has just overwritten, before the server says so.
    pub(super) fn forget_own(&self, written: &Record) {
        self.forget(&written.key);
        if let Some(value) = written.index_value() {
            let number = self.number();
            let mut last = self.indexes.lock();
            *last = number.max(*last);
            self.found.remove(&(written.key.kind, value));
        }
    }

    fn forget_found(&self) {
        let number = self.number();
        let mut last = self.indexes.lock();
        *last = number.max(*last);
        self.found.clear();
    }

    /// Forgets everything.
    pub(super) fn forget_all(&self) {
        for stripe in &self.stripes {
            let number = self.number();
            let mut last = stripe.lock();
            *last = number.max(*last);
        }
        self.records.clear();
        self.forget_found();
    }

    /// Forgets what the server says has changed: a list of Redis keys, or everything.
    pub(super) fn on_invalidation(&self, changed: Vec<Value>) {
        for keys in changed {
            let Ok(keys) = layout::list(keys) else {
                self.forget_all();
                continue;
            };
            for name in keys.into_iter().filter_map(|name| layout::text(name).ok()) {
                if let Some(key) = layout::key_of(&name) {
                    self.forget(&key);
                } else if is_index(&name) {
                    self.forget_found();
                }
            }
        }
    }

    fn number(&self) -> u64 {
        self.forgettings.fetch_add(1, Ordering::AcqRel) + 1
    }

    fn stripe(&self, key: &Key) -> MutexGuard<'_, u64> {
        self.stripes[self.hasher.hash_one(key) as usize % STRIPES].lock()
    }
}

fn is_index(name: &str) -> bool {
    Kind::public().filter_map(|kind| kind.index.as_ref()).any(|index| index.redis_key == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Fields, kind};

    fn near() -> Near {
        let near = Near::new(1 << 20);
        near.prove(Instant::now());
        near
    }

    fn record(id: &str) -> Arc<Record> {
        let fields = Fields::from([("apiKey".into(), "hash".into())]);
        let key = Key::new(&kind::API_KEY, id).unwrap();
        Arc::new(Record { key, version: 1, deleted: false, fields, expires_at: Some(100), cached_at: None })
    }

    fn names(keys: &[&str]) -> Vec<Value> {
        vec![Value::Array(keys.iter().map(|key| Value::BulkString((*key).into())).collect())]
    }

    #[test]
    fn a_reply_that_a_change_overtook_is_not_kept() {
        let (near, record) = (near(), record("a"));
        let asked = near.ask();
        near.on_invalidation(names(&["apikey:a", "apikey:hash_map"]));
        near.keep(asked, &record);
        near.keep_found(asked, &record.key, "hash");
        assert!(near.get(&record.key, 0).is_none() && near.find(&kind::API_KEY, "hash", 0).is_none());
        near.keep(near.ask(), &record);
        assert!(near.get(&record.key, 0).is_some());
        assert!(near.find(&kind::API_KEY, "hash", 0).is_none());
        near.keep_found(near.ask(), &record.key, "hash");
        assert!(near.find(&kind::API_KEY, "hash", 0).is_some());
    }

    #[test]
    fn a_change_makes_it_forget_one_record_a_flush_all() {
        let (near, a, b) = (near(), record("a"), record("b"));
        near.keep(near.ask(), &a);
        near.keep(near.ask(), &b);
        near.on_invalidation(names(&["apikey:a"]));
        assert!(near.get(&a.key, 0).is_none() && near.get(&b.key, 0).is_some());
        let asked = near.ask();
        near.on_invalidation(vec![Value::Nil]);
        near.keep(asked, &a);
        assert!(near.get(&a.key, 0).is_none() && near.get(&b.key, 0).is_none());
    }

    #[test]
    fn an_expired_record_and_an_unproven_connection_are_misses() {
        let (near, record) = (near(), record("a"));
        near.keep(near.ask(), &record);
        assert!(near.get(&record.key, 99).is_some() && near.get(&record.key, 100).is_none());
        let silent = Near::new(1 << 20);
        silent.keep(silent.ask(), &record);
        assert!(silent.get(&record.key, 0).is_none());
    }

    #[test]
    fn a_write_of_our_own_is_forgotten_with_its_index_entry() {
        let (near, record) = (near(), record("a"));
        let asked = near.ask();
        near.keep(asked, &record);
        near.keep_found(asked, &record.key, "hash");
        near.forget_own(&record);
        assert!(near.get(&record.key, 0).is_none());
        near.keep(near.ask(), &record);
        assert!(near.find(&kind::API_KEY, "hash", 0).is_none());
        near.keep_found(asked, &record.key, "hash");
        assert!(near.find(&kind::API_KEY, "hash", 0).is_none());
    }

    #[test]
    fn it_stays_within_its_bytes() {
        let near = Near::new(100_000);
        for number in 0..10_000 {
            let record = record(&number.to_string());
            near.keep(near.ask(), &record);
            near.keep_found(near.ask(), &record.key, &number.to_string());
        }
        assert!(near.records.weight() + near.found.weight() <= 100_000);
        assert!(near.records.len() > 100);
        Near::new(1).keep(near.ask(), &record("a"));
    }
}
