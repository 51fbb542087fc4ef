//! What readers saw: I2, I3, I6, and that every value is one that was written.

use std::collections::HashMap;

use super::splits::is_split;
use super::{Findings, Floor, Register, refusals};
use crate::history::{At, Entry, History, Op, Outcome, SECOND};

/// How long a delete may take to reach another host while the machine is busy.
const LAG_WHEN_BUSY: At = 10 * SECOND;

pub fn check(register: &Register<'_>, history: &History, findings: &mut Findings) {
    for read in &register.entries {
        match &read.outcome {
            Outcome::Found { version, write } => {
                is_written(register, read, *version, *write, findings);
                is_not_behind(register, read, *version, history, findings);
            }
            Outcome::Absent => is_absent(register, read, findings),
            Outcome::Wrong(what) => findings.violation("I0", register.key, read.ended, what.clone()),
            _ => {}
        }
    }
    follow_each_other(register, findings);
    never_fall(register, findings);
}

/// The value is one that somebody wrote, under a version it can have had.
fn is_written(register: &Register<'_>, read: &Entry, version: u64, write: u64, findings: &mut Findings) {
    let what = match register.writers.get(&write) {
        None => format!("shows a value that nobody wrote to it: {write}"),
        Some(writer) if writer.began > read.ended => format!("shows write {write}, which came later"),
        Some(writer) => match &writer.outcome {
            Outcome::Failed(why) => format!("shows write {write}, which was refused: {why}"),
            // A write that met a newer version is given another one.
            Outcome::Acknowledged { version: last, .. } if version > *last => {
                format!("shows write {write} under version {version}, which was acknowledged as {last}")
            }
            _ => return,
        },
    };
    findings.violation("I0", register.key, read.ended, what);
}

/// Nothing older than what was acknowledged before the read began. A delete counts on every host.
fn is_not_behind(
    register: &Register<'_>,
    read: &Entry,
    version: u64,
    history: &History,
    findings: &mut Findings,
) {
    let Some(required) = register.required(read.host, read.began) else { return };
    let Some(least) = required.version().filter(|least| version < *least) else { return };
    let late = read.began.saturating_sub(required.ended);
    let place = if required.host == read.host { "the same host" } else { "another host" };
    let what = format!(
        "host {} shows version {version}, {:.3} s after a {} of version {least} was acknowledged on {place}",
        read.host,
        late as f64 / 1e6,
        required.op.name(),
    );
    match required.op {
        Op::Delete if !register.is_behind_itself(read, version) && is_split(history, read.began) => {
            findings.split_reads += 1;
        }
        // Carrying it over takes longer then; the host that has deleted it has no such excuse.
        Op::Delete
            if !register.is_behind_itself(read, version)
                && late < LAG_WHEN_BUSY
                && refusals::was_stalled(read, history) =>
        {
            findings.late_reads += 1;
            findings.latest = findings.latest.max(late);
        }
        Op::Delete => findings.violation("I2", register.key, read.began, what),
        _ if required.host == read.host => findings.violation("I3", register.key, read.began, what),
        _ if refusals::may_be_late(read, required.host, history) => {
            findings.late_reads += 1;
            findings.latest = findings.latest.max(late);
        }
        _ => findings.violation("late", register.key, read.began, what),
    }
}

/// "There is none" is only said of what was never written or may have been deleted.
fn is_absent(register: &Register<'_>, read: &Entry, findings: &mut Findings) {
    let Some(required) = register.required(read.host, read.began) else { return };
    let (Op::Put(write), Some(version)) = (&required.op, required.version()) else { return };
    if !register.may_be_deleted(required, read.ended) {
        let what =
            format!("host {} says there is none; write {write} is acknowledged as {version}", read.host);
        findings.violation("I6", register.key, read.began, what);
    }
}

/// A write that began after another's acknowledgement has a greater version, or is superseded by an older one.
fn follow_each_other(register: &Register<'_>, findings: &mut Findings) {
    for write in register.entries.iter().filter(|entry| entry.op.writes() && entry.durability().is_some()) {
        let before = register.anywhere.at(write.began).and_then(Entry::version);
        if let Some((before, version)) = before.zip(write.version()).filter(|(before, own)| before > own) {
            let what = format!("version {version} was acknowledged, and {before} before it began");
            findings.violation("I1", register.key, write.began, what);
        }
    }
}

/// One client of one host never sees an older version than before. A loss of the only copy ends what it saw.
fn never_fall(register: &Register<'_>, findings: &mut Findings) {
    let mut clients: HashMap<(u8, u16), Vec<&Entry>> = HashMap::new();
    for entry in &register.entries {
        let excused = entry.version().is_none_or(|version| register.excused.contains(&version));
        if !excused {
            clients.entry((entry.host, entry.client)).or_default().push(entry);
        }
    }
    for ((host, client), seen) in clients {
        let floor = Floor::of(seen.iter().copied());
        for entry in seen {
            let before = floor.at(entry.began).and_then(Entry::version);
            let fallen = before.zip(entry.version()).filter(|(before, version)| before > version);
            let Some((before, version)) = fallen else { continue };
            if is_acknowledged(register, before, entry.began) {
                let what = format!("client {client} of host {host} has version {version} after {before}");
                findings.violation("I3", register.key, entry.began, what);
            } else {
                findings.early_reads += 1;
            }
        }
    }
}

/// Whether somebody had been told by then that a version was taken, or a newer one.
fn is_acknowledged(register: &Register<'_>, version: u64, by: At) -> bool {
    register.anywhere.at(by).and_then(Entry::version).is_some_and(|last| last >= version)
}
