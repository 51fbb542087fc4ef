//! What a store does not take, whatever it is asked: not tried again for a while.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use crate::store::side::Which;
use crate::store::{Key, Record, Version};

/// How long until the same record is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// How many are remembered. Others are tried again at each look.
const REMEMBERED: usize = 10_000;

#[derive(Default)]
pub(super) struct Refused {
    records: HashMap<(Which, Key), (Version, Instant)>,
    events: HashMap<(Which, String), Instant>,
}

impl Refused {
    /// How many records the store is known to refuse.
    pub(super) fn count(&self, to: Which) -> u64 {
        // Those that are refused still were tried again meanwhile.
        let lasting =
            self.records.iter().filter(|((which, _), (_, at))| *which == to && at.elapsed() <= 2 * RETRY);
        lasting.count() as u64
    }

    /// Whether the record may be offered to the store; a new version always may.
    pub(super) fn is_due(&self, to: Which, record: &Record) -> bool {
        if self.records.is_empty() {
            return true;
        }
        let last = self.records.get(&(to, record.key.clone()));
        last.is_none_or(|(version, at)| *version != record.version || at.elapsed() > RETRY)
    }

    pub(super) fn add(&mut self, to: Which, record: &Record) {
        make_room(&mut self.records, |(_, at)| at.elapsed() <= RETRY);
        self.records.insert((to, record.key.clone()), (record.version, Instant::now()));
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
