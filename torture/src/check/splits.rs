//! Full splits: one host sees only Redis, another only PostgreSQL. Both go on, and the greater version wins after it.

use crate::history::{At, History, SECOND};

/// How long afterwards readers may still be behind the other side.
const AFTER: At = 15 * SECOND;

/// Whether the hosts were split at this time, or a moment ago.
pub fn is_split(history: &History, at: At) -> bool {
    let cuts = || history.faults.iter().filter_map(|fault| Some((fault, fault.cut?)));
    cuts().any(|(one, (host, store))| {
        cuts().any(|(other, (other_host, other_store))| {
            let (from, to) = (one.from.max(other.from), one.to.min(other.to));
            host != other_host && store != other_store && (from..=to + AFTER).contains(&at) && from <= to
        })
    })
}
