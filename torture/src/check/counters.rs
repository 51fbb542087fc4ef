//! Usage: I4. Acknowledged events are counted once, unknown ones at most once, and no others.

use std::collections::{BTreeMap, HashSet};

use super::Findings;
use crate::history::{Durability, Entry, History, KeyIndex, Op, Outcome};
use crate::keys;

#[derive(Default)]
struct Sent {
    acknowledged: HashSet<u64>,
    all: HashSet<u64>,
}

pub fn check(history: &History, findings: &mut Findings) {
    let mut sent: BTreeMap<KeyIndex, Sent> = BTreeMap::new();
    for entry in &history.entries {
        let Op::Add(events) = &entry.op else { continue };
        let sent = sent.entry(entry.key).or_default();
        sent.all.extend(events);
        if entry.durability().is_some() {
            let (excused, bound): (Vec<u64>, Vec<u64>) =
                events.iter().partition(|event| is_excused(entry, **event, history));
            findings.exempt += excused.len() as u64;
            sent.acknowledged.extend(bound);
        }
        if let Outcome::Wrong(what) = &entry.outcome {
            findings.violation("I0", entry.key, entry.ended, what.clone());
        }
    }
    let none = HashSet::new();
    for (subject, sent) in &sent {
        let counted = history.truth.events.get(subject).unwrap_or(&none);
        let mut report = |what: String| findings.violation("I4", *subject, history.calm_from, what);
        let lost: Vec<_> = sent.acknowledged.difference(counted).collect();
        if !lost.is_empty() {
            let first = lost.iter().take(5).map(|event| of(**event, *subject, history)).collect::<Vec<_>>();
            report(format!("{} acknowledged events are not counted: {} ...", lost.len(), first.join(", ")));
        }
        let invented: Vec<_> = counted.difference(&sent.all).take(5).collect();
        if !invented.is_empty() {
            report(format!("events are counted that nobody sent: {invented:?} ..."));
        }
        let sum = (counted.len() as u64, counted.iter().map(|event| keys::tokens(*event)).sum());
        for (store, contents) in [("redis", &history.truth.redis), ("postgres", &history.truth.postgres)] {
            let total = contents.totals.get(subject).copied().unwrap_or_default();
            if total != sum {
                report(format!("{store} has counted {total:?} (requests, tokens); the events are {sum:?}"));
            }
        }
    }
}

/// An event for people: when it was acknowledged, and as what.
fn of(event: u64, subject: KeyIndex, history: &History) -> String {
    let carries = |entry: &&Entry| {
        entry.key == subject && matches!(&entry.op, Op::Add(events) if events.contains(&event))
    };
    let of = history.entries.iter().filter(carries).map(|entry| {
        let (began, ended) = (entry.began as f64 / 1e6, entry.ended as f64 / 1e6);
        format!("{began:.4} to {ended:.4} {:?} {}", entry.outcome, entry.strategy)
    });
    format!("{event} ({})", of.collect::<Vec<_>>().join("; "))
}

fn is_excused(entry: &Entry, event: u64, history: &History) -> bool {
    let lost = history
        .losses
        .iter()
        .any(|loss| entry.began <= loss.at && (loss.events.contains(&event) || entry.ended >= loss.from));
    // What a host kept by itself may have been given to Redis, and then nobody else has it.
    let carried = history.losses.iter().any(|loss| entry.began <= loss.at && loss.events.contains(&event));
    match entry.durability() {
        Some(Durability::Local) => carried,
        Some(Durability::Redis) => lost,
        Some(Durability::RedisLate) => lost || super::is_excused(entry, history),
        Some(Durability::Memory) => true,
        _ => false,
    }
}
