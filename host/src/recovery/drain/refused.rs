//! What a store does not take, whatever it is asked: not tried again for a while.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::store::side::Which;
use crate::store::{Key, Record, StoreError, Version};

/// How long until the same record is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// How many are remembered. Others are tried again at each look.
const REMEMBERED: usize = 10_000;

/// How many are named.
const NAMED: usize = 100;
const IN_WORDS: usize = 5;

#[derive(Default)]
pub(super) struct Refused {
    records: HashMap<(Which, Key), Refusal>,
    events: HashMap<(Which, String), Instant>,
}

struct Refusal {
    version: Version,
    at: Instant,
    reason: String,
}

/// A record that waits, because a store does not take it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// The store that refuses it: `redis` or `postgres`.
    pub store: &'static str,
    /// `KIND/ID`
    pub key: String,
    pub reason: String,
}

impl Refused {
    /// How many events the store is known to refuse.
    pub(super) fn count_events(&self, to: Which) -> u64 {
        let lasting = self.events.iter().filter(|((which, _), at)| *which == to && at.elapsed() <= 2 * RETRY);
        lasting.count() as u64
    }

    /// Those that are refused still were tried again meanwhile.
    fn lasting(&self) -> impl Iterator<Item = (&(Which, Key), &Refusal)> {
        self.records.iter().filter(|(_, refusal)| refusal.at.elapsed() <= 2 * RETRY)
    }

    /// The first of the records that wait, by name.
    pub(super) fn waiting(&self) -> Vec<Waiting> {
        let waiting = |((to, key), refusal): (&(Which, Key), &Refusal)| Waiting {
            store: to.name(),
            key: key.to_string(),
            reason: refusal.reason.clone(),
        };
        let mut all: Vec<_> = self.lasting().map(waiting).collect();
        all.sort_by(|a, b| a.key.cmp(&b.key));
        all.truncate(NAMED);
        all
    }

    /// What is refused, in words; none if nothing is.
    pub(super) fn in_words(&self) -> Option<String> {
        let all = self.waiting();
        let one = |it: &Waiting| format!("{} refuses {}: {}", it.store, it.key, it.reason);
        let mut words: Vec<_> = all.iter().take(IN_WORDS).map(one).collect();
        if all.len() > IN_WORDS {
            words.push(format!("{} more are refused", all.len() - IN_WORDS));
        }
        (!words.is_empty()).then(|| words.join("; "))
    }

    /// Whether the store has refused the record and has not taken it since, as far as this node knows.
    pub(super) fn has(&self, to: Which, key: &Key) -> bool {
        !self.records.is_empty() && self.records.contains_key(&(to, key.clone()))
    }

    pub(super) fn has_event(&self, to: Which, id: &str) -> bool {
        !self.events.is_empty() && self.events.contains_key(&(to, id.to_owned()))
    }

    /// The store has taken the record.
    pub(super) fn remove(&mut self, to: Which, key: &Key) {
        if !self.records.is_empty() {
            self.records.remove(&(to, key.clone()));
        }
    }

    /// The store has counted the events.
    pub(super) fn remove_events(&mut self, to: Which, ids: &[String]) {
        if !self.events.is_empty() {
            self.events.retain(|(which, id), _| *which != to || !ids.contains(id));
        }
    }

    /// Whether the record may be offered to the store; a new version always may.
    pub(super) fn is_due(&self, to: Which, record: &Record) -> bool {
        if self.records.is_empty() {
            return true;
        }
        let last = self.records.get(&(to, record.key.clone()));
        last.is_none_or(|last| last.version != record.version || last.at.elapsed() > RETRY)
    }

    pub(super) fn add(&mut self, to: Which, record: &Record, why: &StoreError) {
        make_room(&mut self.records, |refusal| refusal.at.elapsed() <= RETRY);
        let refusal = Refusal { version: record.version, at: Instant::now(), reason: why.to_string() };
        self.records.insert((to, record.key.clone()), refusal);
    }

    pub(super) fn is_event_due(&self, to: Which, id: &str) -> bool {
        self.events.is_empty() || self.events.get(&(to, id.to_owned())).is_none_or(|at| at.elapsed() > RETRY)
    }

    pub(super) fn add_event(&mut self, to: Which, id: &str) {
        make_room(&mut self.events, |at| at.elapsed() <= RETRY);
        self.events.insert((to, id.to_owned()), Instant::now());
    }
}

fn make_room<K: Hash + Eq, V>(map: &mut HashMap<K, V>, recent: impl Fn(&V) -> bool) {
    if map.len() >= REMEMBERED {
        map.retain(|_, value| recent(value));
    }
    if map.len() >= REMEMBERED {
        map.clear();
    }
}
