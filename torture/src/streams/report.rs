//! What the trial says in the end.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Kill;
use super::ask::End;
use super::judge::{Answer, Attempt, Due, Saw, Verdict};

/// How many violations are told.
const TOLD: usize = 12;

pub fn print(attempts: &[Attempt], kills: &[Kill], settled: Option<Duration>, verdict: &Verdict) {
    let mut ends: BTreeMap<String, u64> = BTreeMap::new();
    attempts.iter().for_each(|attempt| *ends.entry(end(attempt, kills)).or_default() += 1);
    // The first attempt of each.
    let streams = || attempts.iter().filter(|attempt| attempt.request_id.ends_with(".0"));
    let broken = streams().filter(|attempt| attempt.ask.end != End::Whole).count();
    println!("streams: {}, {broken} of them to be cut, ended by an error or hung up", streams().count());
    println!("attempts: {}, by how they ended", attempts.len());
    ends.iter().for_each(|(end, count)| println!("  {end:<44} {count:>8}"));
    for (number, kill) in (1..).zip(kills) {
        let met = attempts.iter().filter(|attempt| attempt.met(kill) && attempt.is_broken()).count();
        let begun = attempts.iter().filter(|attempt| attempt.lost_its_host(kill)).count();
        let away = (kill.until - kill.at) as f64 / 1e6;
        println!(
            "kill {number}: broke off {met} streams, {begun} of them after message_start; alive again after {away:.1} s"
        );
    }
    for (due, (all, counted)) in &verdict.attempts {
        let due = match due {
            Due::Must => "must be counted (message_start was seen)",
            Due::May => "may be counted (nothing of it was seen)",
            Due::Never => "must not be counted (refused)",
        };
        println!("  {due:<44} {all:>8}, counted {counted:>8}");
    }
    match settled {
        Some(after) => {
            println!("both stores had everything {:.1} s after the last stream", after.as_secs_f64())
        }
        None => println!("the stores did not get everything in time"),
    }
    println!(
        "lost: {}, doubled: {}, violations: {}",
        verdict.lost,
        verdict.doubled,
        verdict.violations.len()
    );
    verdict.violations.iter().take(TOLD).for_each(|violation| println!("  {violation}"));
}

fn end(attempt: &Attempt, kills: &[Kill]) -> String {
    let killed = kills.iter().any(|kill| attempt.met(kill)) && attempt.is_broken();
    match &attempt.saw {
        Saw::NotConnected => "not connected, tried again".into(),
        Saw::Refused(why) => format!("refused, tried again: {why}"),
        _ if killed => "host killed".into(),
        Saw::Answer(Answer { closed: true, stopped: true, .. }) => "whole".into(),
        _ => attempt.ask.end.name().into(),
    }
}
