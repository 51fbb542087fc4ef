//! Where the counters of a window are: in Claude Relay Service's layout, where that has the window.

use super::beside;
use crate::store::usage::{Counts, Subject, Window};
use crate::store::{Key, kind};

pub(super) const DAY_MS: u64 = 24 * 3_600 * 1_000;
pub(super) const STORED: usize = 11;
/// Which of the stored counters is the cost, counted from 1.
pub(super) const COST: usize = 7;

/// The names of the counters in the hash of all time, in the hashes of a span of time, and in those of a key and a
/// model; what they count is in [`stored`]. Empty: not kept there.
const TOTAL: [&str; STORED] = [
    "totalRequests",
    "totalInputTokens",
    "totalOutputTokens",
    "totalEphemeral5mTokens",
    "totalEphemeral1hTokens",
    "totalCacheReadTokens",
    "costMicroUsd",
    "totalCacheCreateTokens",
    "totalTokens",
    "totalAllTokens",
    "",
];
const SPAN: [&str; STORED] = [
    "requests",
    "inputTokens",
    "outputTokens",
    "ephemeral5mTokens",
    "ephemeral1hTokens",
    "cacheReadTokens",
    "costMicroUsd",
    "cacheCreateTokens",
    "tokens",
    "allTokens",
    "",
];
const KEY_MODEL: [&str; STORED] = [
    "requests",
    "inputTokens",
    "outputTokens",
    "ephemeral5mTokens",
    "ephemeral1hTokens",
    "cacheReadTokens",
    "ratedCostMicro",
    "cacheCreateTokens",
    "tokens",
    "allTokens",
    "realCostMicro",
];

/// What one event adds to each stored counter: ours in their order, then the sums that are kept beside them.
pub(super) fn stored(counts: &Counts) -> [i64; STORED] {
    let [requests, input, output, five_minutes, hour, read, cost] = *counts;
    let (created, core) = (five_minutes.saturating_add(hour), input.saturating_add(output));
    let all = core.saturating_add(created).saturating_add(read);
    [requests, input, output, five_minutes, hour, read, cost, created, core, all, cost]
}

/// Our counters from the stored ones. What was written to a cache for an unknown time counts as 5 minutes.
pub(super) fn counts(stored: [i64; STORED]) -> Counts {
    let [requests, input, output, five_minutes, hour, read, cost, created, ..] = stored;
    [requests, input, output, five_minutes.max(created.saturating_sub(hour)), hour, read, cost]
}

/// Where the counters of a window are.
pub(super) struct Place {
    pub(super) key: String,
    pub(super) fields: &'static [&'static str; STORED],
    /// 0: for ever.
    pub(super) life_ms: u64,
    /// The set by which Claude Relay Service finds the hash, and what stands for it there; empty where it has none.
    pub(super) index: (String, String),
    /// Where Claude Relay Service counts dollars, ours included; empty where it does not.
    pub(super) cost_key: String,
    /// 0: for ever.
    pub(super) cost_life_ms: u64,
    /// Where it counts what was paid, before a key's own rates, which there are none of here; empty where it does not.
    pub(super) real_cost_key: String,
}

impl Place {
    pub(super) fn new(subject: &Subject, window: &Window) -> Self {
        let (span, at, life_ms) = match window {
            Window::Total => ("", String::new(), 0),
            Window::Monthly(at) => ("monthly", at.clone(), 365 * DAY_MS),
            Window::Weekly(at) => ("weekly", at.clone(), 63 * DAY_MS),
            Window::Daily(at) => ("daily", at.clone(), 32 * DAY_MS),
            Window::Hourly(at) => ("hourly", at.replace('T', ":"), 7 * DAY_MS),
        };
        let (cost_key, cost_life_ms) = cost(subject, window, &at);
        let fields = match (subject, window) {
            (Subject::KeyModel(..), _) => &KEY_MODEL,
            (Subject::Key(_) | Subject::Account(_), Window::Total) => &TOTAL,
            _ => &SPAN,
        };
        let (key, real_cost_key) = (key(subject, span, &at), real_cost(subject, window));
        Self { key, fields, life_ms, index: index(subject, span, &at), cost_key, cost_life_ms, real_cost_key }
    }
}

fn key(subject: &Subject, span: &str, at: &str) -> String {
    match (subject, span) {
        (Subject::Key(id), "") => format!("usage:{id}"),
        (Subject::Key(id), _) => format!("usage:{span}:{id}:{at}"),
        (Subject::Account(id), "") => format!("account_usage:{id}"),
        (Subject::Account(id), _) => format!("account_usage:{span}:{id}:{at}"),
        (Subject::Model(name), "") => format!("usage:model:alltime:{name}"),
        (Subject::Model(name), _) => format!("usage:model:{span}:{name}:{at}"),
        (Subject::KeyModel(id, name), "") => format!("usage:{id}:model:alltime:{name}"),
        (Subject::KeyModel(id, name), _) => format!("usage:{id}:model:{span}:{name}:{at}"),
    }
}

fn index(subject: &Subject, span: &str, at: &str) -> (String, String) {
    let (of, member) = match (subject, span) {
        (Subject::Key(id), "daily" | "hourly") => ("usage", id.clone()),
        (Subject::Account(id), "daily" | "hourly") => ("account_usage", id.clone()),
        (Subject::Model(name), "daily" | "hourly" | "monthly") => ("usage:model", name.clone()),
        (Subject::KeyModel(id, name), "daily" | "hourly") => ("usage:keymodel", format!("{id}:{name}")),
        _ => return Default::default(),
    };
    (format!("{of}:{span}:index:{at}"), member)
}

/// Lives as long as the counters do, and a day longer, as Claude Relay Service has it.
fn cost(subject: &Subject, window: &Window, at: &str) -> (String, u64) {
    let Subject::Key(id) = subject else { return Default::default() };
    match window {
        Window::Total => (format!("usage:cost:total:{id}"), 0),
        Window::Monthly(_) => (format!("usage:cost:monthly:{id}:{at}"), 366 * DAY_MS),
        Window::Daily(_) => (format!("usage:cost:daily:{id}:{at}"), 33 * DAY_MS),
        Window::Hourly(_) => (format!("usage:cost:hourly:{id}:{at}"), 7 * DAY_MS),
        Window::Weekly(_) => Default::default(),
    }
}

fn real_cost(subject: &Subject, window: &Window) -> String {
    match (subject, window) {
        (Subject::Key(id), Window::Total) => format!("usage:cost:real:total:{id}"),
        (Subject::Key(id), Window::Daily(at)) => format!("usage:cost:real:daily:{id}:{at}"),
        _ => String::new(),
    }
}

/// The window whose counters a key holds, and whose they are.
pub(super) fn window_of(name: &str) -> Option<(Subject, Window)> {
    let (subject, window) = match (name.strip_prefix("account_usage:"), name.strip_prefix("usage:")) {
        (Some(rest), _) => {
            let (id, window) = of_one(rest)?;
            (Subject::Account(id.to_owned()), window)
        }
        (_, Some(rest)) => of_usage(rest)?,
        _ => return None,
    };
    Key::new(&kind::USAGE, &subject.id(&window)).is_ok().then_some((subject, window))
}

fn of_usage(rest: &str) -> Option<(Subject, Window)> {
    if let Some((id, window)) = of_one(rest) {
        return Some((Subject::Key(id.to_owned()), window));
    }
    let (first, rest) = rest.split_once(':')?;
    if first == "model" {
        let (name, window) = of_model(rest)?;
        return Some((Subject::Model(name.to_owned()), window));
    }
    let (name, window) = of_model(rest.strip_prefix("model:")?)?;
    Some((Subject::KeyModel(first.to_owned(), name.to_owned()), window))
}

/// `ID`, or `SPAN:ID:AT`.
fn of_one(rest: &str) -> Option<(&str, Window)> {
    let Some((span, rest)) = rest.split_once(':') else {
        return (!rest.is_empty()).then_some((rest, Window::Total));
    };
    let (id, at) = rest.split_once(':').filter(|(id, _)| !id.is_empty() && *id != "index")?;
    Some((id, spanned(span, at)?))
}

/// `alltime:NAME`, or `SPAN:NAME:AT`; a name may have colons.
fn of_model(rest: &str) -> Option<(&str, Window)> {
    let (span, rest) = rest.split_once(':').filter(|(_, rest)| !rest.starts_with("index:"))?;
    if span == "alltime" {
        return (!rest.is_empty()).then_some((rest, Window::Total));
    }
    let (name, mut at) = rest.rsplit_once(':')?;
    let mut name = name;
    if span == "hourly" {
        name = name.rsplit_once(':')?.0;
        at = &rest[name.len() + 1..];
    }
    (!name.is_empty()).then_some((name, spanned(span, at)?))
}

fn spanned(span: &str, at: &str) -> Option<Window> {
    match span {
        "hourly" => Window::parse(&format!("hourly:{}", at.replacen(':', "T", 1))),
        span => Window::parse(&format!("{span}:{at}")),
    }
}

/// Whether the key is one that we count in, dollars included: other keys beside it are another program's.
pub(super) fn is_counter(name: &str) -> bool {
    let dollars = |rest: &str| match rest.strip_prefix("total:") {
        Some(id) => !id.is_empty() && !id.contains(':'),
        None => of_one(rest).is_some_and(|(_, window)| window != Window::Total),
    };
    let paid = |rest: &str| dollars(rest) && (rest.starts_with("total:") || rest.starts_with("daily:"));
    let counted = |rest: &str| rest.strip_prefix("real:").map_or_else(|| dollars(rest), paid);
    name.strip_prefix("usage:cost:").is_some_and(counted)
        || window_of(name).is_some()
        || beside::is_counter(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::usage::COUNTERS;

    #[test]
    fn what_is_stored_reads_back_as_what_was_counted() {
        let counted: Counts = [1, 2, 3, 4, 5, 6, 7];
        assert_eq!(stored(&counted), [1, 2, 3, 4, 5, 6, 7, 9, 5, 20, 7]);
        assert_eq!(counts(stored(&counted)), counted);
        assert_eq!(COUNTERS.len(), counted.len());
        assert_eq!(stored(&counted)[COST - 1], 7);
    }

    #[test]
    fn cache_writes_without_a_duration_are_five_minute_writes() {
        let mut crs = [0; STORED];
        crs[7] = 10;
        crs[4] = 3;
        assert_eq!(counts(crs)[3..5], [7, 3]);
    }

    #[test]
    fn every_place_reads_back_as_its_window() {
        let subjects = [
            Subject::Key("k".into()),
            Subject::Account("a".into()),
            Subject::Model("us:m".into()),
            Subject::KeyModel("k".into(), "us:m".into()),
        ];
        let windows =
            ["total", "monthly:2026-01", "weekly:2026-W05", "daily:2026-01-31", "hourly:2026-01-31T07"];
        for subject in &subjects {
            for window in windows.map(|window| Window::parse(window).unwrap()) {
                let place = Place::new(subject, &window);
                assert_eq!(window_of(&place.key), Some((subject.clone(), window)), "{}", place.key);
                assert!(is_counter(&place.key));
                for dollars in [&place.cost_key, &place.real_cost_key] {
                    assert!(dollars.is_empty() || is_counter(dollars), "{dollars}");
                }
                assert!(place.index.0.is_empty() || !is_counter(&place.index.0), "{}", place.index.0);
            }
        }
    }

    #[test]
    fn windows_are_told_from_what_lies_beside_them() {
        for other in [
            "usage:daily:index:2026-01-02",
            "usage:model:daily:index:2026-01-02",
            "usage:model:hourly:index:2026-01-02:03",
            "usage:model:monthly:months",
            "usage:keymodel:daily:index:2026-01-02",
            "usage:keymodel:daily:index:2026-01-02:empty",
            "usage:records:k1",
            "usage:global:weekly:2026-W01",
            "usage:opus:weekly:k1:2026-W01",
            "usage:opus:total:k1",
            "usage:cost:real:monthly:k1:2026-01",
            "account_usage:daily:index:2026-01-02",
            "account_usage:model:daily:index:2026-01-02",
            "switchyard:usage:closed",
        ] {
            assert_eq!((window_of(other), is_counter(other)), (None, false), "{other}");
        }
        assert_eq!(window_of("usage:cost:total:k1"), None);
    }
}
