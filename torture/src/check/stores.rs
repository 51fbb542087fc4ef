//! What the stores hold in the end: I1, I2, I5.

use std::collections::BTreeSet;

use super::{Findings, Register, Violation};
use crate::history::{Contents, Entry, Held, History, KeyIndex, Op, Outcome};
use crate::keys;

/// Every acknowledged write that nothing excuses is there, or superseded by a greater version.
pub fn check_final(register: &Register<'_>, history: &History, findings: &mut Findings) {
    for (store, contents) in [("redis", &history.truth.redis), ("postgres", &history.truth.postgres)] {
        let what = match (contents.records.get(&register.key), register.anywhere.last()) {
            (_, None) => continue,
            // Redis forgets the tombstone of what both had deleted when all its data are lost.
            (None, Some(last)) if last.op == Op::Delete => continue,
            (None, Some(last)) => format!("{store} has lost version {:?} ({:?})", last.version(), last.op),
            (Some(held), Some(last)) => match lacks(register, held, last) {
                Some(what) => format!("{store} {what}"),
                None => continue,
            },
        };
        let deleted = register.anywhere.last().is_some_and(|last| last.op == Op::Delete);
        let at = register.anywhere.last().map_or(0, |last| last.ended);
        findings.violation(if deleted { "I2" } else { "I1" }, register.key, at, what);
    }
}

/// What is wrong with a record in the end, if anything is.
fn lacks(register: &Register<'_>, held: &Held, last: &Entry) -> Option<String> {
    let version = last.version().unwrap_or(0);
    let same = match &last.op {
        Op::Put(write) => !held.deleted && held.write() == Some(*write),
        _ => held.deleted,
    };
    match held.version {
        older if older < version => Some(format!("holds version {older}; {version} was acknowledged")),
        equal if equal == version => (!same).then(|| format!("holds something else under version {version}")),
        _ if held.deleted => {
            let may = register.may_be_deleted(last, u64::MAX);
            (!may).then(|| format!("holds a delete, version {}, that nobody asked for", held.version))
        }
        newer => {
            let writer = held.write().and_then(|write| register.writers.get(&write));
            let known = writer.is_some_and(|writer| !matches!(writer.outcome, Outcome::Failed(_)));
            (!known).then(|| format!("holds version {newer}, which nobody wrote: {:?}", held.fields))
        }
    }
}

/// Both stores hold the same, and owe each other nothing.
pub fn check_agreement(history: &History, findings: &mut Findings) {
    let (redis, postgres) = (&history.truth.redis, &history.truth.postgres);
    for (key, what) in differences(redis, postgres) {
        let at = history.calm_from;
        findings.violations.push(Violation { rule: "I5", key, at, what });
    }
}

/// Every difference between what the two stores hold, in words.
pub fn differences(redis: &Contents, postgres: &Contents) -> Vec<(Option<KeyIndex>, String)> {
    let mut found = Vec::new();
    let all: BTreeSet<KeyIndex> = redis.records.keys().chain(postgres.records.keys()).copied().collect();
    for key in all {
        let (in_redis, in_postgres) = (redis.records.get(&key), postgres.records.get(&key));
        // A tombstone says as little as nothing does where the other store has none.
        let gone = |held: Option<&Held>| held.is_none_or(|held| held.deleted);
        let one_has_none = in_redis.is_none() || in_postgres.is_none();
        if in_redis != in_postgres && !(one_has_none && gone(in_redis) && gone(in_postgres)) {
            found.push((Some(key), format!("redis has {in_redis:?}, postgres {in_postgres:?}")));
        }
    }
    for key in 0..keys::SUBJECTS {
        let (in_redis, in_postgres) = (redis.totals.get(&key), postgres.totals.get(&key));
        if in_redis != in_postgres {
            found.push((
                Some(key),
                format!("usage (requests, tokens): redis {in_redis:?}, postgres {in_postgres:?}"),
            ));
        }
    }
    for (name, contents) in [("redis", redis), ("postgres", postgres)] {
        if contents.owed != (0, 0) {
            found.push((None, format!("{name} still has marks: {:?} (records, events)", contents.owed)));
        }
    }
    found
}
