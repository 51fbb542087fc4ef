//! What Claude Relay Service counts beside the windows, and reads for its limits, quotas and dashboards: the whole of
//! usage, that of an account and a model, the cost of a key's week, and the last requests of a key.
//!
//! None of it is a total of ours: it follows from the same events, and is counted in the same step.

use jiff::civil::Date;
use jiff::tz::Offset;
use serde_json::json;

use super::place::{DAY_MS, Place, STORED};
use crate::store::usage::{Subject, UsageEvent, Window, hour, is_claude, model_name};

/// The names of the counters, in the order of [`super::place::stored`].
const FIELDS: [&str; STORED] = [
    "requests",
    "inputTokens",
    "outputTokens",
    "ephemeral5mTokens",
    "ephemeral1hTokens",
    "cacheReadTokens",
    "",
    "cacheCreateTokens",
    "",
    "allTokens",
    "",
];
/// How many of a key's requests are listed, and for how long.
pub(super) const LISTED: usize = 200;
pub(super) const LISTED_MS: u64 = 90 * DAY_MS;

/// A counter that an event counts in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Counter {
    Window(Subject, Window),
    /// Of all keys together.
    Everything(Window),
    AccountModel(String, String, Window),
}

impl Counter {
    /// All of an event's.
    pub(super) fn of(event: &UsageEvent, offset: Offset) -> Vec<Self> {
        let (windows, model) = (event.windows(offset), model_name(&event.model));
        let of_all =
            |subject: Subject| windows.each_ref().map(|window| Self::Window(subject.clone(), window.clone()));
        let mut counters: Vec<_> = event.subjects().into_iter().flat_map(of_all).collect();
        for window in windows {
            counters.extend(is_in_everything(&window).then(|| Self::Everything(window.clone())));
            if let Some(account) = event.account_id.clone().filter(|_| !model.is_empty())
                && matches!(window, Window::Monthly(_) | Window::Daily(_) | Window::Hourly(_))
            {
                counters.push(Self::AccountModel(account, model.clone(), window));
            }
        }
        counters
    }

    pub(super) fn place(&self) -> Place {
        match self {
            Self::Window(subject, window) => Place::new(subject, window),
            Self::Everything(window) => everything(window),
            Self::AccountModel(account, model, window) => account_model(account, model, window),
        }
    }
}

/// Of which windows there is a sum of all keys.
pub(super) fn is_in_everything(window: &Window) -> bool {
    matches!(window, Window::Total | Window::Monthly(_) | Window::Daily(_))
}

fn everything(window: &Window) -> Place {
    let (key, life_ms) = match window {
        Window::Monthly(at) => (format!("usage:global:monthly:{at}"), 365 * DAY_MS),
        Window::Daily(at) => (format!("usage:global:daily:{at}"), 32 * DAY_MS),
        _ => ("usage:global:total".into(), 0),
    };
    place(key, life_ms, Default::default())
}

fn account_model(account: &str, model: &str, window: &Window) -> Place {
    let member = || format!("{account}:{model}");
    let (span, at, life_ms, index) = match window {
        Window::Daily(at) => ("daily", at.clone(), 32 * DAY_MS, member()),
        Window::Hourly(at) => ("hourly", at.replace('T', ":"), 7 * DAY_MS, member()),
        Window::Monthly(at) | Window::Weekly(at) => ("monthly", at.clone(), 365 * DAY_MS, String::new()),
        Window::Total => ("alltime", String::new(), 0, String::new()),
    };
    let index = match index.as_str() {
        "" => Default::default(),
        _ => (format!("account_usage:model:{span}:index:{at}"), index),
    };
    place(format!("account_usage:model:{span}:{account}:{model}:{at}"), life_ms, index)
}

fn place(key: String, life_ms: u64, index: (String, String)) -> Place {
    let (cost_key, real_cost_key) = Default::default();
    Place { key, fields: &FIELDS, life_ms, index, cost_key, cost_life_ms: 0, real_cost_key }
}

/// Whether a key is one that is counted in here.
pub(super) fn is_counter(name: &str) -> bool {
    let is_window = |text: &str| Window::parse(text).is_some_and(|window| is_in_everything(&window));
    if let Some(rest) = name.strip_prefix("usage:global:") {
        return is_window(rest);
    }
    if let Some((key, at)) = name.strip_prefix("usage:opus:weekly:").and_then(|rest| rest.split_once(':')) {
        return !key.is_empty() && Window::parse(&format!("hourly:{at}")).is_some();
    }
    let of_account = || {
        let (span, rest) = name.strip_prefix("account_usage:model:")?.split_once(':')?;
        let named = rest.splitn(3, ':').collect::<Vec<_>>();
        let known = ["daily", "monthly", "hourly"].contains(&span);
        (known && named.len() == 3 && named[0] != "index").then_some(())
    };
    of_account().is_some()
}

/// The hour that the cost of an event counts in for the week of its key: of Claude's models alone. Empty for none.
pub(super) fn week_hour(event: &UsageEvent, offset: Offset) -> String {
    match event.cost_micro_usd > 0 && is_claude(&event.model) {
        true => hour(event.at, offset).to_string(),
        false => String::new(),
    }
}

/// The last hour of a day.
pub(super) fn last_hour(day: Date) -> Option<i64> {
    Some(hour(Offset::UTC.to_timestamp(day.at(23, 0, 0, 0)).ok()?, Offset::UTC))
}

/// What is listed of a request, as Claude Relay Service writes it.
pub(super) fn request(event: &UsageEvent) -> String {
    let dollars = event.cost_micro_usd as f64 / 1_000_000.0;
    let created = event.cache_creation_5m_tokens.saturating_add(event.cache_creation_1h_tokens);
    let core = event.input_tokens.saturating_add(event.output_tokens);
    json!({
        "timestamp": format!("{:.3}", event.at),
        "model": event.model,
        "accountId": event.account_id,
        "accountType": event.account_id.as_ref().map(|_| "claude-console"),
        "requestId": event.request_id,
        "inputTokens": event.input_tokens,
        "outputTokens": event.output_tokens,
        "cacheCreateTokens": created,
        "cacheReadTokens": event.cache_read_tokens,
        "ephemeral5mTokens": event.cache_creation_5m_tokens,
        "ephemeral1hTokens": event.cache_creation_1h_tokens,
        "totalTokens": core.saturating_add(created).saturating_add(event.cache_read_tokens),
        "cost": dollars,
        "realCost": dollars,
        "isLongContext": false,
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_known_as_a_counter() {
        for window in ["monthly:2026-01", "daily:2026-01-31", "hourly:2026-01-31T07"] {
            let window = Window::parse(window).unwrap();
            let place = Counter::AccountModel("a".into(), "us:m".into(), window.clone()).place();
            assert!(is_counter(&place.key) && !is_counter(&place.index.0), "{}", place.key);
            if is_in_everything(&window) {
                assert!(is_counter(&everything(&window).key));
            }
        }
        assert!(
            is_counter(&everything(&Window::Total).key) && is_counter("usage:opus:weekly:k:2026-01-05T00")
        );
    }

    #[test]
    fn hours_are_counted_in_the_offset() {
        let at: jiff::Timestamp = "1970-01-01T20:30:00Z".parse().unwrap();
        assert_eq!((hour(at, Offset::UTC), hour(at, Offset::constant(8))), (20, 28));
        assert_eq!(last_hour(Date::constant(1970, 1, 2)), Some(47));
    }
}
