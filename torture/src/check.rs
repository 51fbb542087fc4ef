//! Whether a history keeps the promises I1 to I6. Knows nothing of the program that it is about.
//!
//! Versions make it nearly linear: what a reader must see at least is the greatest version that was
//! acknowledged before it asked.

mod counters;
mod enough;
mod floor;
mod reads;
mod refusals;
mod splits;
pub mod stores;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::history::{At, Durability, Entry, History, KeyIndex, Op, Outcome, SECOND};
use floor::Floor;

/// How long a write may take to reach the readers of another host.
pub const LAG: At = 2 * SECOND;
/// How far back a crash of Redis may reach into writes of the class that says so.
const LATE: At = 5 * SECOND / 2;
/// How long a write may still take effect after its client has given it up.
const LINGERS: At = 15 * SECOND;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The invariant, such as `I1`.
    pub rule: &'static str,
    pub key: Option<KeyIndex>,
    pub at: At,
    pub what: String,
}

/// What the checker found, and what it had to let pass.
#[derive(Debug, Default)]
pub struct Findings {
    pub violations: Vec<Violation>,
    /// Acknowledged writes and events that an operator's loss, or the class they were given, excuses.
    pub exempt: u64,
    /// Reads on another host than the write's that were behind for longer than [`LAG`], while a fault excused it.
    pub late_reads: u64,
    /// Reads that were behind another host's delete in a full split, in which each side goes on by itself.
    pub split_reads: u64,
    /// Reads that no longer saw what an earlier one had seen before it was acknowledged.
    pub early_reads: u64,
    /// Refusals that only a busy machine excuses, with the first of each sort.
    pub noise: BTreeMap<String, (u64, String)>,
    /// The latest of the late ones.
    pub latest: At,
}

impl Findings {
    fn violation(&mut self, rule: &'static str, key: KeyIndex, at: At, what: String) {
        self.violations.push(Violation { rule, key: Some(key), at, what });
    }
}

/// The entries of one record, and what follows from them.
pub struct Register<'a> {
    key: KeyIndex,
    entries: Vec<&'a Entry>,
    /// Acknowledged writes that nothing excuses: on each host, and anywhere.
    by_host: HashMap<u8, Floor<'a>>,
    anywhere: Floor<'a>,
    /// The acknowledged writes that something excuses.
    excused: BTreeSet<u64>,
    /// Who wrote a value.
    writers: HashMap<u64, &'a Entry>,
}

pub fn check(history: &History) -> Findings {
    let mut findings = Findings::default();
    let mut by_key: BTreeMap<KeyIndex, Vec<&Entry>> = BTreeMap::new();
    for entry in history.entries.iter().filter(|entry| !matches!(entry.op, Op::Add(_))) {
        by_key.entry(entry.key).or_default().push(entry);
    }
    for (key, entries) in by_key {
        let register = Register::new(key, entries, history);
        findings.exempt += register.excused.len() as u64;
        reads::check(&register, history, &mut findings);
        stores::check_final(&register, history, &mut findings);
    }
    stores::check_agreement(history, &mut findings);
    counters::check(history, &mut findings);
    refusals::check(history, &mut findings);
    enough::check(history, &mut findings);
    findings.violations.sort_by_key(|violation| (violation.rule, violation.at));
    findings
}

impl<'a> Register<'a> {
    fn new(key: KeyIndex, entries: Vec<&'a Entry>, history: &History) -> Self {
        let written = |entry: &&&Entry| entry.op.writes() && entry.durability().is_some();
        let (excused, bound): (Vec<&Entry>, Vec<&Entry>) =
            entries.iter().filter(written).partition(|entry| is_excused(entry, history));
        let hosts: BTreeSet<u8> = entries.iter().map(|entry| entry.host).collect();
        let on = |host: u8| Floor::of(bound.iter().copied().filter(|entry| entry.host == host));
        let writers = entries.iter().filter_map(|entry| match entry.op {
            Op::Put(write) => Some((write, *entry)),
            _ => None,
        });
        Self {
            key,
            by_host: hosts.iter().map(|host| (*host, on(*host))).collect(),
            anywhere: Floor::of(bound.iter().copied()),
            excused: excused.iter().filter_map(|entry| entry.version()).collect(),
            writers: writers.collect(),
            entries,
        }
    }

    /// The write that a reader on `host` who asks at `at` must see, or a newer one.
    fn required(&self, host: u8, at: At) -> Option<&'a Entry> {
        let own = self.by_host.get(&host).and_then(|floor| floor.at(at));
        let others = self.anywhere.at(at.saturating_sub(LAG));
        own.into_iter().chain(others).max_by_key(|entry| entry.version())
    }

    /// Whether a reader sees less than what its own host has acknowledged.
    fn is_behind_itself(&self, read: &Entry, version: u64) -> bool {
        let own = self.by_host.get(&read.host).and_then(|floor| floor.at(read.began));
        own.and_then(Entry::version).is_some_and(|own| version < own)
    }

    /// Whether a delete may have come after this write for a reader whose answer came at `by`. One that nobody
    /// knows about only if it may still have been on its way when the write began.
    fn may_be_deleted(&self, required: &Entry, by: At) -> bool {
        self.entries.iter().any(|entry| {
            entry.op == Op::Delete
                && entry.began < by
                && match entry.outcome {
                    Outcome::Unknown(_) | Outcome::Wrong(_) => entry.ended + LINGERS >= required.began,
                    _ => entry.version() > required.version(),
                }
        })
    }
}

/// Whether an acknowledged write may be lost: its class says so, or an operator has destroyed the only copy.
fn is_excused(entry: &Entry, history: &History) -> bool {
    let crossed = |at: At, back: At| entry.began <= at && entry.ended + back >= at;
    match entry.durability() {
        Some(Durability::Memory) => true,
        Some(Durability::RedisLate) => {
            let mut all = history.crashes.iter().copied().chain(history.losses.iter().map(|loss| loss.at));
            all.any(|at| crossed(at, LATE)) || lost(entry, history)
        }
        Some(Durability::Redis) => lost(entry, history),
        _ => false,
    }
}

/// Whether Redis alone had it when an operator destroyed that: it was marked, and PostgreSQL had something older.
fn lost(entry: &Entry, history: &History) -> bool {
    let lacks = |had: &u64| entry.version().is_none_or(|version| version > *had);
    history.losses.iter().any(|loss| {
        let alone = loss.keys.get(&entry.key).is_some_and(lacks);
        entry.began <= loss.at && (alone || entry.ended >= loss.from)
    })
}
