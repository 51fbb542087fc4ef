//! Refusals: the second half of I6. Nobody is refused without a reason.

use std::collections::BTreeMap;

use super::{Findings, Violation};
use crate::history::{At, Entry, History, Outcome, SECOND, Window};

/// How long after a fault its effects may last.
const AFTER: At = 15 * SECOND;
/// How long after the machine has let the bench wait.
const AFTER_STALL: At = 3 * SECOND;

pub fn check(history: &History, findings: &mut Findings) {
    let mut unjustified: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
    for entry in &history.entries {
        if let Outcome::Failed(why) | Outcome::Unknown(why) = &entry.outcome
            && !is_justified(entry, history)
        {
            unjustified.entry(why).or_default().push(entry);
        }
    }
    for (why, entries) in unjustified {
        let Some(first) = entries.first() else { continue };
        let what = format!(
            "{} refused without a fault in the last 15 s: {why}; the first: {}",
            entries.len(),
            first.show()
        );
        findings.violations.push(Violation { rule: "I6", key: None, at: first.began, what });
    }
}

/// Whether a fault, or a busy machine, may be the reason for what came of a call.
pub fn is_justified(entry: &Entry, history: &History) -> bool {
    let within = |window: &Window, after: At| entry.ended >= window.from && entry.began <= window.to + after;
    history.faults.iter().any(|fault| within(fault, AFTER))
        || history.stalls.iter().any(|stall| within(stall, AFTER_STALL))
}
