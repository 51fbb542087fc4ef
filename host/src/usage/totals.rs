//! What the stores have counted, for people: read, never added up from events.

use std::collections::BTreeMap;

use futures::future::try_join_all;
use jiff::ToSpan as _;
use jiff::civil::{Date, DateTime};

use crate::store::kind::USAGE;
use crate::store::side::{Side, Which};
use crate::store::usage::{COUNTERS, Counts, Span, Subject};
use crate::store::{Key, Result, StoreError, Window};
use crate::strategy::records::Records;

/// The most windows that are read for one answer: a month of hours, and some.
pub const MOST_WINDOWS: usize = 800;
/// How many windows are read at once.
const AT_ONCE: usize = 16;
/// How many subjects one step looks at, and how many steps one page takes at most.
const PAGE: u32 = 1_000;
const STEPS: usize = 20;
/// How many pages of keys are added up at most.
const KEY_PAGES: usize = 20;

/// The windows of a length between two days, both included; none when there are more than [`MOST_WINDOWS`].
pub fn windows(span: Span, from: Date, to: Date) -> Option<Vec<Window>> {
    let mut windows: Vec<Window> = Vec::new();
    let mut at: DateTime = from.to_datetime(jiff::civil::Time::midnight());
    let end = to.to_datetime(jiff::civil::Time::constant(23, 59, 59, 0));
    let step = if span == Span::Hourly { 1.hour() } else { 1.day() };
    // A day a step at least: as many as the longest windows can have.
    for _ in 0..MOST_WINDOWS * 31 {
        if at > end || span == Span::Total && !windows.is_empty() {
            return Some(windows);
        }
        let window = span.window(at);
        if windows.last() != Some(&window) {
            windows.push(window);
        }
        if windows.len() > MOST_WINDOWS {
            return None;
        }
        let Ok(next) = at.checked_add(step) else { return Some(windows) };
        at = next;
    }
    None
}

/// What was counted in each of these windows; those in which nothing was are left out.
///
/// # Errors
/// As reading a record.
pub async fn of(records: &Records, subject: &Subject, windows: &[Window]) -> Result<Vec<(Window, Counts)>> {
    let mut counted = Vec::new();
    for part in windows.chunks(AT_ONCE) {
        let reads = part.iter().map(|window| one(records, subject, window));
        let read = try_join_all(reads).await?;
        counted.extend(part.iter().cloned().zip(read).filter_map(|(window, counts)| Some((window, counts?))));
    }
    Ok(counted)
}

async fn one(records: &Records, subject: &Subject, window: &Window) -> Result<Option<Counts>> {
    let Ok(key) = Key::new(&USAGE, &subject.id(window)) else { return Ok(None) };
    let read = records.get(&key).await?.value;
    let counts = read.map(|record| {
        COUNTERS.map(|name| record.fields.get(name).and_then(|count| count.parse().ok()).unwrap_or(0))
    });
    Ok(counts.filter(|counts: &Counts| counts.iter().any(|count| *count != 0)))
}

/// Whose usage is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Of {
    Key,
    Account,
    Model,
}

impl Of {
    /// What the ids of theirs begin with; in the stores that have an order they stand together.
    fn begins(self) -> &'static str {
        match self {
            Self::Key => "",
            Self::Account => "account:",
            Self::Model => "model:",
        }
    }

    fn has(self, subject: &Subject) -> bool {
        match self {
            Self::Key => matches!(subject, Subject::Key(_)),
            Self::Account => matches!(subject, Subject::Account(_)),
            Self::Model => matches!(subject, Subject::Model(_)),
        }
    }
}

/// Subjects and what they have used in all, and where the next page begins.
#[derive(Debug, Default)]
pub struct Subjects {
    pub counted: Vec<(Subject, Counts)>,
    pub next: Option<String>,
}

/// A page of about `limit` subjects, perhaps fewer, from where the page before it ended. From the first store of the
/// active strategy that has counted all that was acknowledged; in order if that is the durable one.
///
/// # Errors
/// `Unavailable` when no store has. `Unsupported` when the page before was from another one.
pub async fn subjects(records: &Records, of: Of, cursor: Option<&str>, limit: usize) -> Result<Subjects> {
    let mut refused = StoreError::Unavailable("the active strategy uses no store".into());
    for side in records.readers() {
        match page(&side, of, cursor, limit).await {
            Err(error @ (StoreError::Unsupported(_) | StoreError::Other(_))) => return Err(error),
            Err(error) => refused = error,
            answer => return answer,
        }
    }
    Err(refused)
}

/// What all keys have used in all; none where there are too many of them to look at.
///
/// # Errors
/// As [`subjects`].
pub async fn of_all_keys(records: &Records) -> Result<Option<Counts>> {
    // A scan of Redis may name one twice.
    let (mut counted, mut next) = (BTreeMap::new(), None::<String>);
    for _ in 0..KEY_PAGES {
        let page = match subjects(records, Of::Key, next.as_deref(), PAGE as usize).await {
            // Another store answers now.
            Err(StoreError::Unsupported(_)) => return Ok(None),
            page => page?,
        };
        counted.extend(page.counted);
        next = page.next;
        if next.is_none() {
            let add =
                |sum: Counts, counts: &Counts| std::array::from_fn(|i| sum[i].saturating_add(counts[i]));
            return Ok(Some(counted.values().fold(Counts::default(), add)));
        }
    }
    Ok(None)
}

async fn page(side: &Side, of: Of, cursor: Option<&str>, limit: usize) -> Result<Subjects> {
    let ordered = side.which == Which::Postgres;
    let start = if ordered && !of.begins().is_empty() { Some(of.begins().to_owned()) } else { None };
    let mut found = Subjects { counted: Vec::new(), next: cursor.map(str::to_owned).or(start) };
    for _ in 0..STEPS {
        let step = side.totals(found.next.as_deref(), PAGE).await?;
        let past = |id: &str| ordered && !id.starts_with(of.begins());
        let ended = step.counted.last().is_some_and(|(id, _)| past(id));
        let theirs = step.counted.into_iter().filter_map(|(id, counts)| {
            let (subject, _) = Subject::of_id(&id)?;
            of.has(&subject).then_some((subject, counts))
        });
        found.next = step.next.filter(|_| !ended);
        for (subject, counts) in theirs {
            if found.counted.len() == limit && ordered {
                // The last one that this page has is where the next one begins.
                found.next = found.counted.last().map(|(subject, _)| subject.id(&Window::Total));
                return Ok(found);
            }
            found.counted.push((subject, counts));
        }
        if found.next.is_none() || found.counted.len() >= limit {
            break;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn windows_between_two_days_have_both() {
        let of = |span, from, to| {
            let windows = windows(span, from, to).map(|all| all.iter().map(Window::to_string).collect());
            windows.unwrap_or_else(|| vec!["too many".to_owned()])
        };
        let (first, last) = (date(2025, 12, 31), date(2026, 1, 5));
        assert_eq!(of(Span::Monthly, first, last), ["monthly:2025-12", "monthly:2026-01"]);
        assert_eq!(of(Span::Weekly, first, last), ["weekly:2026-W01", "weekly:2026-W02"]);
        assert_eq!(of(Span::Daily, first, last).len(), 6);
        let hours = of(Span::Hourly, first, first);
        assert_eq!((hours.len(), hours[23].as_str()), (24, "hourly:2025-12-31T23"));
        assert_eq!(of(Span::Total, first, last), ["total"]);
        assert_eq!(of(Span::Daily, last, first), [""; 0]);
        assert_eq!(of(Span::Hourly, first, date(2026, 2, 28)), ["too many"]);
        assert_eq!(of(Span::Daily, date(1, 1, 1), date(9999, 12, 31)), ["too many"]);
    }
}
