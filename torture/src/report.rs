//! What a run says in the end.

use std::collections::{BTreeMap, BTreeSet};

use crate::check::{Findings, Violation};
use crate::history::{Entry, History, Outcome, SECOND};
use crate::keys;
use crate::run::Tally;

/// How many violations of each rule are told in full, and how much of a record's history with each.
const TOLD: usize = 3;
const BEFORE: usize = 10;

pub fn print(history: &History, tally: &Tally, findings: &Findings) {
    print_faults(history, tally);
    print_outcomes(&history.entries);
    let excused = findings.exempt;
    println!(
        "excused: {excused} writes and events that only a destroyed Redis had, or whose class allows it"
    );
    let (late, latest) = (findings.late_reads, findings.latest as f64 / 1e6);
    println!(
        "under faults {late} reads on another host were behind a put by more than 2 s, the worst by {latest:.1} s"
    );
    let split = findings.split_reads;
    println!("in full splits {split} reads on another host were behind a delete");
    let early = findings.early_reads;
    println!("{early} reads no longer saw a write that an earlier one had seen before it was acknowledged");
    match tally.agreed_after {
        Some(after) => println!("both stores agreed {:.1} s after the last call", after.as_secs_f64()),
        None => println!("the stores did not agree"),
    }
    print_noise(history, findings);
    tally.unchecked.iter().for_each(|what| println!("NOT CHECKED, for the machine was busy: {what}"));
    print_violations(history, &findings.violations);
    if !findings.violations.is_empty() {
        tally.said.iter().for_each(|said| println!("\n{said}"));
    }
}

fn print_faults(history: &History, tally: &Tally) {
    println!("faults: {} windows", history.faults.len());
    for (family, count) in &tally.faults {
        let mut gaps = tally.write_gaps.get(family).cloned().unwrap_or_default();
        gaps.sort_unstable();
        let [median, worst] =
            [gaps.get(gaps.len() / 2), gaps.last()].map(|gap| gap.copied().unwrap_or(0) as f64 / 1e6);
        println!(
            "  {count:4} {family:<36} longest time without an accepted write: median {median:.2} s, worst {worst:.2} s"
        );
    }
    let (with, without) = tally.kills;
    println!("kills: {with} with writes under way, {without} without; strategy switches: {}", tally.switches);
    let (taken, refused) = tally.commands;
    println!("commands of an admin: {taken} taken, {refused} refused");
    println!("calls dropped because their host had too many under way: {}", tally.dropped);
    tally.failed.iter().take(10).for_each(|failed| println!("  not done: {failed}"));
    if tally.is_hollow() {
        println!("RED: {} faults could not be inflicted or healed, more than a tenth", tally.failed.len());
    }
}

fn print_outcomes(entries: &[Entry]) {
    let mut counts: BTreeMap<(&str, String), u64> = BTreeMap::new();
    for entry in entries {
        let outcome = match &entry.outcome {
            Outcome::Found { .. } => "found".into(),
            Outcome::Absent => "absent".into(),
            Outcome::Acknowledged { durability, .. } => format!("{durability:?}").to_lowercase(),
            Outcome::Failed(why) => format!("failed: {why}"),
            Outcome::Unknown(why) => format!("unknown: {why}"),
            Outcome::Wrong(_) => "wrong".into(),
        };
        *counts.entry((entry.op.name(), outcome)).or_default() += 1;
    }
    let seconds = entries.iter().map(|entry| entry.ended).max().unwrap_or(0) / SECOND;
    println!("operations: {} in {seconds} s", entries.len());
    for ((op, outcome), count) in counts {
        println!("  {op:<7} {outcome:<44} {count:>8}");
    }
}

/// What nothing but a busy machine excuses: it is worth a look, and another run on a machine that has time.
fn print_noise(history: &History, findings: &Findings) {
    let time: u64 = history.stalls.iter().map(|stall| stall.to - stall.from).sum();
    println!("machine stalls: {}, {:.1} s in all", history.stalls.len(), time as f64 / 1e6);
    for (why, (count, first)) in &findings.noise {
        println!("  excused by that alone: {count:6} {why}; the first: {first}");
    }
}

fn print_violations(history: &History, violations: &[Violation]) {
    let mut by_rule: BTreeMap<&str, (usize, BTreeSet<Option<u16>>)> = BTreeMap::new();
    for violation in violations {
        let (count, keys) = by_rule.entry(violation.rule).or_default();
        *count += 1;
        keys.insert(violation.key);
    }
    println!("violations: {}", violations.len());
    for (rule, (count, keys)) in &by_rule {
        println!("  {rule}: {count} about {} records", keys.len());
    }
    // The first of each rule and record tell the most; each of those that are about no record is another one.
    let mut told = BTreeSet::new();
    let first = violations.iter().filter(|violation| {
        let what = violation.what.as_str();
        told.insert((violation.rule, violation.key, violation.key.is_none().then_some(what)))
    });
    let mut of_rule: BTreeMap<&str, usize> = BTreeMap::new();
    for violation in first {
        let told = of_rule.entry(violation.rule).or_default();
        *told += 1;
        if *told <= TOLD || violation.key.is_none() {
            tell(history, violation);
        }
    }
}

fn tell(history: &History, violation: &Violation) {
    let key = violation.key.map(keys::name).unwrap_or_default();
    println!("\n{} {key} at {:.4}: {}", violation.rule, violation.at as f64 / 1e6, violation.what);
    for fault in &history.faults {
        if fault.from <= violation.at && violation.at <= fault.to + 15 * SECOND {
            println!(
                "    fault {:.4} to {:.4}: {}",
                fault.from as f64 / 1e6,
                fault.to as f64 / 1e6,
                fault.name
            );
        }
    }
    let Some(key) = violation.key.filter(|_| violation.rule != "I4") else { return };
    let mut entries: Vec<_> =
        history.entries.iter().filter(|entry| entry.key == key && !is_usage(entry)).collect();
    entries.sort_by_key(|entry| entry.began);
    let at = entries.partition_point(|entry| entry.began <= violation.at);
    for entry in &entries[at.saturating_sub(BEFORE)..(at + 2).min(entries.len())] {
        println!("    {}", entry.show());
    }
    let (redis, postgres) = (&history.truth.redis.records, &history.truth.postgres.records);
    println!("    in the end: redis {:?}, postgres {:?}", redis.get(&key), postgres.get(&key));
}

fn is_usage(entry: &Entry) -> bool {
    entry.op.name() == "add"
}
