//! Whether there was enough that could have been lost, and whether in the end everything was answered again.

use super::{Findings, Violation};
use crate::history::{Entry, History};

/// Of a hundred writes and batches of usage, so many are acknowledged at least, on each host.
const LEAST: usize = 10;
/// Fewer say nothing.
const ANY: usize = 100;

pub fn check(history: &History, findings: &mut Findings) {
    for &(rule, at, ref what) in &history.wrong {
        findings.violations.push(Violation { rule, key: None, at, what: what.clone() });
    }
    let hosts: std::collections::BTreeSet<u8> = history.entries.iter().map(|entry| entry.host).collect();
    for host in hosts {
        let changes = |entry: &&Entry| entry.op.changes() && entry.host == host;
        let changes: Vec<_> = history.entries.iter().filter(changes).collect();
        let acknowledged = changes.iter().filter(|entry| entry.durability().is_some()).count();
        let mut report = |what: String| {
            findings.violations.push(Violation { rule: "I6", key: None, at: history.calm_from, what });
        };
        if changes.len() >= ANY && acknowledged * 100 < changes.len() * LEAST {
            report(format!("host {host} has acknowledged {acknowledged} of {} writes only", changes.len()));
        }
        if let Some((from, to)) = history.calm {
            let calm = |entry: &&&Entry| entry.durability().is_some() && (from..=to).contains(&entry.began);
            if changes.iter().filter(calm).count() == 0 {
                report(format!("host {host} has acknowledged nothing in the end, when nothing was wrong"));
            }
        }
    }
}
