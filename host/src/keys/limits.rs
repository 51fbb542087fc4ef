//! The bounds of a key.

use std::time::Duration;

/// The bounds of a key; 0 stands for none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeyLimits {
    /// Requests at once.
    pub concurrency: u32,
    /// How long a window is; the next three count within one.
    pub window: Option<Duration>,
    pub window_requests: u64,
    pub window_tokens: u64,
    /// In millionths of a US dollar, as are the others.
    pub window_cost_micro: u64,
    pub daily_cost_micro: u64,
    pub weekly_cost_micro: u64,
    /// When its week begins: days after Monday, and the hour.
    pub week: (u8, u8),
    pub total_cost_micro: u64,
}

/// When a week begins, as Claude Relay Service writes it: a day from 1, Monday, to 7, and an hour. What is neither
/// is Monday at midnight.
fn week(day: &str, hour: &str) -> (u8, u8) {
    let within = |text: &str, range: std::ops::RangeInclusive<u8>| {
        text.trim().parse().ok().filter(|number| range.contains(number)).unwrap_or(*range.start())
    };
    (within(day, 1..=7) - 1, within(hour, 0..=23))
}

/// The longest window, in minutes: ten years. A moment further off could not be told.
const LONGEST_WINDOW: u64 = 10 * 366 * 24 * 60;

impl KeyLimits {
    /// What the fields of a key say, and the name of one that cannot be read, if there is one: it then counts as the
    /// smallest bound there is.
    pub(super) fn read<'a>(field: impl Fn(&str) -> &'a str) -> (Self, Option<&'static str>) {
        let unreadable = std::cell::Cell::new(None);
        let bound = |name, read: fn(&str) -> Option<u64>| {
            read(field(name)).unwrap_or_else(|| {
                unreadable.set(Some(name));
                1
            })
        };
        let minutes = bound("rateLimitWindow", whole).min(LONGEST_WINDOW);
        let limits = Self {
            concurrency: bound("concurrencyLimit", whole).min(u32::MAX.into()) as u32,
            window: (minutes > 0).then(|| Duration::from_secs(minutes * 60)),
            window_requests: bound("rateLimitRequests", whole),
            window_tokens: bound("tokenLimit", whole),
            window_cost_micro: bound("rateLimitCost", micro),
            daily_cost_micro: bound("dailyCostLimit", micro),
            weekly_cost_micro: bound("weeklyOpusCostLimit", micro),
            week: week(field("weeklyResetDay"), field("weeklyResetHour")),
            total_cost_micro: bound("totalCostLimit", micro),
        };
        (limits, unreadable.get())
    }
}

/// The whole part of a number, as Claude Relay Service reads it; 0 of a negative one and of nothing. None for what is no
/// number.
fn whole(text: &str) -> Option<u64> {
    let text = text.trim();
    let (negative, number) = match text.strip_prefix('-') {
        Some(number) => (true, number),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
    match (text.is_empty(), end, negative) {
        (true, ..) => Some(0),
        (_, 0, _) => None,
        (.., true) => Some(0),
        // Nothing but digits: too many of them.
        _ => Some(number[..end].parse().unwrap_or(u64::MAX)),
    }
}

/// A number of US dollars in millionths, rounded up so that no bound becomes none; 0 of a negative one and of nothing.
/// None for what is no number.
fn micro(dollars: &str) -> Option<u64> {
    let dollars = dollars.trim();
    if dollars.is_empty() {
        return Some(0);
    }
    let (whole, part) = dollars.split_once('.').unwrap_or((dollars, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) || dollars == "." {
        // As other programs write very small and very large ones.
        let number = dollars.parse::<f64>().ok().filter(|number| !number.is_nan())?;
        return Some((number * 1e6).ceil().max(0.0) as u64);
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().unwrap_or(u64::MAX) };
    let millionths = format!("{part:0<6}");
    let (kept, rest) = millionths.split_at(6);
    let more = u64::from(rest.bytes().any(|digit| digit != b'0'));
    let kept = kept.parse::<u64>().unwrap_or(0);
    Some(whole.saturating_mul(1_000_000).saturating_add(kept).saturating_add(more))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_week_begins_where_the_key_says_if_that_is_a_day_and_an_hour() {
        for (day, hour, expected) in [
            ("1", "0", (0, 0)),
            ("7", "23", (6, 23)),
            ("", "", (0, 0)),
            ("0", "24", (0, 0)),
            ("8", "x", (0, 0)),
        ] {
            assert_eq!(week(day, hour), expected, "{day} {hour}");
        }
    }

    #[test]
    fn dollars_are_counted_exactly_and_a_bound_stays_one() {
        let cases = [
            ("12.5", 12_500_000),
            ("0.1", 100_000),
            ("1000000", 1_000_000_000_000),
            ("0.0000001", 1),
            ("1e-7", 1),
            ("1.0000001", 1_000_001),
            ("0", 0),
            ("", 0),
            ("-1", 0),
            (".5", 500_000),
            ("99999999999999999999", u64::MAX),
        ];
        for (dollars, expected) in cases {
            assert_eq!(micro(dollars), Some(expected), "{dollars:?}");
        }
        for none in ["none", "NaN", ".", "1,5"] {
            assert_eq!(micro(none), None, "{none:?}");
        }
    }

    #[test]
    fn a_count_is_the_whole_part_of_a_number() {
        for (text, expected) in [
            ("", Some(0)),
            ("60", Some(60)),
            ("60.0", Some(60)),
            (" 1.0 ", Some(1)),
            ("12 tokens", Some(12)),
            ("-5", Some(0)),
            ("99999999999999999999", Some(u64::MAX)),
            ("NaN", None),
            ("many", None),
            ("-", None),
        ] {
            assert_eq!(whole(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_bound_that_cannot_be_read_is_named_and_the_smallest_one() {
        let read = |name: &'static str, text: &'static str| {
            KeyLimits::read(move |field| if field == name { text } else { "" })
        };
        assert_eq!(read("tokenLimit", "7"), (KeyLimits { window_tokens: 7, ..KeyLimits::default() }, None));
        let (limits, unreadable) = read("dailyCostLimit", "a lot");
        assert_eq!((limits.daily_cost_micro, unreadable), (1, Some("dailyCostLimit")));
        let (limits, unreadable) = read("rateLimitWindow", "18446744073709551615");
        assert_eq!((limits.window, unreadable), (Some(Duration::from_secs(LONGEST_WINDOW * 60)), None));
    }
}
