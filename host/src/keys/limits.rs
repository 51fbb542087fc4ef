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
pub(super) fn week(day: &str, hour: &str) -> (u8, u8) {
    let within = |text: &str, range: std::ops::RangeInclusive<u8>| {
        text.trim().parse().ok().filter(|number| range.contains(number)).unwrap_or(*range.start())
    };
    (within(day, 1..=7) - 1, within(hour, 0..=23))
}

/// A number of US dollars in millionths, rounded up so that no bound becomes none; 0 of what is no such number.
pub(super) fn micro(dollars: &str) -> u64 {
    let dollars = dollars.trim();
    let (whole, part) = dollars.split_once('.').unwrap_or((dollars, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if dollars.is_empty() || !digits(whole) || !digits(part) {
        // As other programs write very small and very large ones.
        let number: f64 = dollars.parse().unwrap_or(0.0);
        return (number * 1e6).ceil().max(0.0) as u64;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().unwrap_or(u64::MAX) };
    let millionths = format!("{part:0<6}");
    let (kept, rest) = millionths.split_at(6);
    let more = u64::from(rest.bytes().any(|digit| digit != b'0'));
    whole.saturating_mul(1_000_000).saturating_add(kept.parse::<u64>().unwrap_or(0)).saturating_add(more)
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
            ("none", 0),
            ("NaN", 0),
            (".5", 500_000),
            ("99999999999999999999", u64::MAX),
        ];
        for (dollars, expected) in cases {
            assert_eq!(micro(dollars), expected, "{dollars:?}");
        }
    }
}
