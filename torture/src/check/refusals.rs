//! Refusals: the second half of I6. Nobody is refused without a reason.

use std::collections::BTreeMap;

use super::{Findings, Violation};
use crate::history::{At, Entry, Excuse, History, Op, Outcome, SECOND, Window};
use crate::stage::Store;

/// How long after the machine has let the bench wait.
const AFTER_STALL: At = 3 * SECOND;
/// How much later than a write a read is answered without a lost store: what only that had is put into the other one.
const READS_LATER: At = 5 * SECOND;

pub fn check(history: &History, findings: &mut Findings) {
    let mut unjustified: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
    for entry in &history.entries {
        if let Outcome::Failed(why) | Outcome::Unknown(why) = &entry.outcome
            && !is_justified(entry, history)
        {
            match was_stalled(entry, history) {
                true => {
                    let first = || (0, entry.show());
                    findings.noise.entry(why.clone()).or_insert_with(first).0 += 1;
                }
                false => unjustified.entry(why).or_default().push(entry),
            }
        }
    }
    for (why, entries) in unjustified {
        let Some(first) = entries.first() else { continue };
        let what = format!("{} refused without a reason: {why}; the first: {}", entries.len(), first.show());
        findings.violations.push(Violation { rule: "I6", key: None, at: first.began, what });
    }
}

/// Whether a fault may be the reason for what came of a call.
fn is_justified(entry: &Entry, history: &History) -> bool {
    let by_fault = |fault: &Window| {
        fault.excuse.is_some_and(|excuse| {
            excuse.host.is_none_or(|host| host == entry.host)
                && (excuse.usage || !matches!(entry.op, Op::Add(_)))
                && lasts(fault, &excuse, entry)
                && excuse.store.is_none_or(|store| !has_stand_in(fault, store, &excuse, entry, history))
        })
    };
    history.faults.iter().any(by_fault)
}

/// Whether a read may be far behind what another host has written: a fault concerns one of the two.
pub fn may_be_late(read: &Entry, writer: u8, history: &History) -> bool {
    let by_fault = |fault: &Window| {
        fault.excuse.is_some_and(|excuse| {
            excuse.host.is_none_or(|host| [read.host, writer].contains(&host)) && lasts(fault, &excuse, read)
        })
    };
    history.faults.iter().any(by_fault) || was_stalled(read, history)
}

fn lasts(fault: &Window, excuse: &Excuse, entry: &Entry) -> bool {
    entry.ended >= fault.from && entry.began <= fault.to + excuse.after
}

pub fn was_stalled(entry: &Entry, history: &History) -> bool {
    let within = |stall: &Window| entry.ended >= stall.from && entry.began <= stall.to + AFTER_STALL;
    history.stalls.iter().any(within)
}

/// Whether the other store had to do without the lost one by then. Only if nothing else was wrong: it may lack what
/// was acknowledged while it was ill itself.
fn has_stand_in(fault: &Window, store: Store, excuse: &Excuse, entry: &Entry, history: &History) -> bool {
    let patience = if entry.op.changes() { excuse.degraded } else { excuse.degraded + READS_LATER };
    let is_over = entry.began > fault.from + patience && entry.ended < fault.to;
    // Nothing stands in for Redis where it was chosen alone.
    let needs_it = store == Store::Redis && entry.strategy.starts_with("redis_only");
    let disturbs = |other: &Window| {
        let excuse = other.excuse.filter(|_| !std::ptr::eq(other, fault));
        excuse.is_some_and(|excuse| other.from <= entry.ended && other.to + excuse.after >= fault.from)
    };
    is_over && !needs_it && !history.faults.iter().any(disturbs)
}
