//! Whether what both stores hold is what the clients have seen. Knows nothing of the program that it is about.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use super::Kill;
use super::ask::{Ask, End};
use super::stores::{Counts, Held, Row, Totals};
use crate::history::At;

/// One request, and what its client saw of it.
#[derive(Debug, Clone)]
pub struct Attempt {
    pub request_id: String,
    pub ask: Ask,
    pub saw: Saw,
    pub began: At,
    pub ended: At,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Saw {
    /// Nobody was there to take the request.
    NotConnected,
    /// An answer other than 200: its status and code.
    Refused(String),
    /// The request may have arrived; there was no answer.
    Nothing {
        hung_up: bool,
    },
    Answer(Answer),
}

/// What a client has read of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// Input and output tokens as they were told last; none before `message_start`.
    pub told: Option<(u64, u64)>,
    pub stopped: bool,
    /// The type of an error event.
    pub error: Option<String>,
    /// How it ended for the client: in good order, broken off, or by the client itself.
    pub closed: bool,
    pub broken: bool,
    pub hung_up: bool,
}

impl Answer {
    pub fn hung_up() -> Self {
        Self { hung_up: true, ..Self::default() }
    }
}

/// Whether an attempt is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Due {
    Must,
    May,
    Never,
}

impl Attempt {
    pub fn due(&self) -> Due {
        match &self.saw {
            Saw::NotConnected | Saw::Refused(_) => Due::Never,
            Saw::Answer(answer) if answer.told.is_some() => Due::Must,
            Saw::Nothing { .. } | Saw::Answer(_) => Due::May,
        }
    }

    /// Whether a kill may have ended it.
    pub fn met(&self, kill: &Kill) -> bool {
        self.began <= kill.until && self.ended >= kill.at
    }

    /// Whether it was broken off from the relay's side.
    pub fn is_broken(&self) -> bool {
        match &self.saw {
            Saw::Nothing { hung_up } => !hung_up,
            Saw::Answer(answer) => answer.broken,
            _ => false,
        }
    }

    /// Whether a kill has broken it off after `message_start`.
    pub fn lost_its_host(&self, kill: &Kill) -> bool {
        self.met(kill) && self.is_broken() && self.due() == Due::Must
    }

    /// How it has ended, if that is not what was asked for.
    fn went_wrong(&self) -> Option<String> {
        let Saw::Answer(answer) = &self.saw else {
            let left = self.saw == (Saw::Nothing { hung_up: true }) && matches!(self.ask.end, End::Leave(_));
            return (!left).then(|| format!("{:?}", self.saw));
        };
        let told_all = answer.told == Some((self.ask.input, self.ask.output));
        let error = answer.error.as_deref();
        let as_asked = match self.ask.end {
            End::Whole => answer.closed && answer.stopped && told_all,
            End::NoStop => answer.closed && !answer.stopped && told_all && error.is_none(),
            // Between two events the relay says that the upstream has broken off.
            End::Cut => answer.closed && error == Some("api_error"),
            End::HalfFrame => answer.broken && !answer.stopped,
            End::Error => answer.closed && error == Some("overloaded_error"),
            End::HangUp(_) => answer.hung_up || (answer.closed && answer.stopped && told_all),
            End::Leave(_) => answer.hung_up,
        };
        (!as_asked).then(|| format!("{answer:?}"))
    }
}

/// What came out.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Attempts, and those of them that are counted.
    pub attempts: BTreeMap<Due, (u64, u64)>,
    /// Events, or parts of totals, that are missing, and that are there more than once.
    pub lost: u64,
    pub doubled: u64,
    /// Everything that is wrong, for people.
    pub violations: Vec<String>,
}

impl Verdict {
    pub fn is_clean(&self) -> bool {
        self.lost == 0 && self.doubled == 0 && self.violations.is_empty()
    }

    fn lost(&mut self, count: u64, what: String) {
        self.lost += count;
        self.violations.push(what);
    }

    fn doubled(&mut self, count: u64, what: String) {
        self.doubled += count;
        self.violations.push(what);
    }
}

pub fn judge(attempts: &[Attempt], kills: &[Kill], held: &Held) -> Verdict {
    let mut verdict = Verdict::default();
    let mut rows: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    held.rows.iter().for_each(|row| rows.entry(&row.request_id).or_default().push(row));
    for attempt in attempts {
        let rows = rows.remove(attempt.request_id.as_str()).unwrap_or_default();
        attempt_is_counted(attempt, &rows, &mut verdict);
        let excused = attempt.due() == Due::Never || kills.iter().any(|kill| attempt.met(kill));
        if let Some(saw) = attempt.went_wrong().filter(|_| !excused) {
            let (id, end) = (&attempt.request_id, attempt.ask.end);
            verdict.violations.push(format!("{id} was to end as {end:?}, and its client saw {saw}"));
        }
    }
    let invented = rows.into_values().flatten().map(|row| format!("nobody has asked for {row:?}"));
    verdict.violations.extend(invented);
    streams_ended(attempts, &mut verdict);
    for (number, kill) in (1..).zip(kills) {
        if !attempts.iter().any(|attempt| attempt.lost_its_host(kill)) {
            verdict
                .violations
                .push(format!("kill {number} has met no stream that had begun: it proves nothing"));
        }
    }
    redis_remembers(held, &mut verdict);
    for (store, totals) in [("Redis", &held.redis), ("PostgreSQL", &held.postgres)] {
        totals_are_sums(store, totals, &held.rows, &mut verdict);
    }
    verdict
}

fn attempt_is_counted(attempt: &Attempt, rows: &[&Row], verdict: &mut Verdict) {
    let (due, id) = (attempt.due(), &attempt.request_id);
    let (all, counted) = verdict.attempts.entry(due).or_default();
    *all += 1;
    *counted += u64::from(!rows.is_empty());
    match (due, rows.len()) {
        (Due::Must, 0) => {
            verdict.lost(1, format!("{id} is not counted, and its client saw {:?}", attempt.saw))
        }
        (Due::Never, 1..) => verdict.violations.push(format!("{id} was refused, and is counted")),
        (_, 2..) => verdict.doubled(rows.len() as u64 - 1, format!("{id} is counted {} times", rows.len())),
        _ => {}
    }
    for row in rows {
        if let Some(wrong) = miscounted(attempt, row) {
            verdict.violations.push(format!("{wrong}: {row:?} of {attempt:?}"));
        }
    }
}

/// What is wrong with the event of an attempt.
fn miscounted(attempt: &Attempt, row: &Row) -> Option<&'static str> {
    let Ask { input, end, .. } = attempt.ask;
    let (first, last) = attempt.ask.told();
    let answer = match &attempt.saw {
        Saw::Answer(answer) => answer.clone(),
        _ => Answer::default(),
    };
    let seen = answer.told.map_or(0, |(_, output)| output);
    // Its client has the end of the answer only after the relay has noted that the answer is whole.
    let whole = answer.closed && answer.stopped;
    // Of a part that the upstream has told no tokens of, those of the text that came.
    let by_bytes = row.partial && (first..=attempt.ask.most_untold()).contains(&row.output);
    let breaks = matches!(end, End::Cut | End::HalfFrame | End::Error | End::NoStop);
    [
        (!row.ours, "it is another key's or account's"),
        (row.input != input, "other input than was asked for"),
        (row.output != first && row.output != last && !by_bytes, "output that the upstream never told"),
        (row.output < seen, "less output than the client was told"),
        (whole && row.output != last, "other output than that of the whole answer"),
        (whole && row.partial, "partial, though the client has had all of it"),
        (breaks && !row.partial, "whole, though the upstream has not told an end"),
    ]
    .into_iter()
    .find_map(|(wrong, what)| wrong.then_some(what))
}

/// A stream that is refused is tried again until it is not: the last attempt of each is none that was refused.
fn streams_ended(attempts: &[Attempt], verdict: &mut Verdict) {
    let mut last: BTreeMap<&str, Due> = BTreeMap::new();
    for attempt in attempts {
        let stream = attempt.request_id.split('.').next().unwrap_or_default();
        let due = last.entry(stream).or_insert(Due::Never);
        *due = (*due).min(attempt.due());
    }
    let never = last.iter().filter(|(_, due)| **due == Due::Never);
    verdict.violations.extend(never.map(|(stream, _)| format!("stream {stream} was refused to the last")));
}

fn redis_remembers(held: &Held, verdict: &mut Verdict) {
    let counted: BTreeSet<&str> = held.rows.iter().map(|row| row.id.as_str()).collect();
    let remembered: BTreeSet<&str> = held.in_redis.iter().map(String::as_str).collect();
    for id in counted.difference(&remembered) {
        verdict.lost(1, format!("Redis does not have the event {id}"));
    }
    for id in remembered.difference(&counted) {
        verdict.lost(1, format!("PostgreSQL does not have the event {id}, which Redis has"));
    }
}

fn totals_are_sums(store: &str, totals: &Totals, rows: &[Row], verdict: &mut Verdict) {
    let mut sums = Counts::default();
    for row in rows {
        let counts = [1, row.input, row.output, row.cost];
        sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
    for (whose, total) in [("key", totals.key), ("account", totals.account)] {
        let what = format!(
            "{store}'s total of the {whose} is {total:?} (requests, input, output, micro-dollars); \
             the events come to {sums:?}"
        );
        match total[0].cmp(&sums[0]) {
            std::cmp::Ordering::Less => verdict.lost(sums[0] - total[0], what),
            std::cmp::Ordering::Greater => verdict.doubled(total[0] - sums[0], what),
            std::cmp::Ordering::Equal if total != sums => verdict.violations.push(what),
            std::cmp::Ordering::Equal => {}
        }
    }
}
