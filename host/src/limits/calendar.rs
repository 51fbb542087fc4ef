//! Today, this week, and when they end.

use jiff::tz::Offset;
use jiff::{Timestamp, ToSpan as _, civil::Date};

use super::Caps;

/// A moment, and the days since Monday.
pub(super) struct Calendar {
    pub(super) now: Timestamp,
    offset: Offset,
    date: Date,
    days: Vec<String>,
}

impl Calendar {
    pub(super) fn at(now: Timestamp, offset: Offset) -> Self {
        let date = offset.to_datetime(now).date();
        let since_monday = i32::from(date.weekday().to_monday_zero_offset());
        let days = (0..=since_monday).rev().filter_map(|back| date.checked_sub(back.days()).ok());
        let days = days.map(|day| day.strftime("%Y-%m-%d").to_string()).collect();
        Self { now, offset, date, days }
    }

    /// The days whose usage these limits look at, today last.
    pub(super) fn days(&self, caps: &Caps) -> &[String] {
        match (caps.weekly_cost_micro, caps.daily_cost_micro) {
            (1.., _) => &self.days,
            (0, 1..) => &self.days[self.days.len() - 1..],
            (0, 0) => &[],
        }
    }

    pub(super) fn week(&self) -> &[String] {
        &self.days
    }

    pub(super) fn today(&self) -> &str {
        self.days.last().map_or("", String::as_str)
    }

    /// When the next day begins.
    pub(super) fn midnight(&self) -> Timestamp {
        self.start(1)
    }

    /// When the next week begins.
    pub(super) fn monday(&self) -> Timestamp {
        self.start(8 - self.days.len() as i32)
    }

    fn start(&self, days: i32) -> Timestamp {
        let day = self.date.checked_add(days.days());
        let start = day.map(|day| self.offset.to_timestamp(day.at(0, 0, 0, 0)));
        start.ok().and_then(Result::ok).unwrap_or(Timestamp::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_week_begins_on_monday_in_the_configured_offset() {
        // A Sunday in Greenwich, a Monday eight hours east of it.
        let now: Timestamp = "2025-09-14T20:30:00Z".parse().unwrap();
        let west = Calendar::at(now, Offset::UTC);
        assert_eq!((west.days.len(), west.today()), (7, "2025-09-14"));
        assert_eq!(west.days[0], "2025-09-08");
        assert_eq!(west.monday().to_string(), "2025-09-15T00:00:00Z");
        assert_eq!(west.midnight(), west.monday());
        let east = Calendar::at(now, Offset::constant(8));
        assert_eq!(east.days, ["2025-09-15"]);
        assert_eq!(east.monday().to_string(), "2025-09-21T16:00:00Z");
        assert_eq!(east.midnight().to_string(), "2025-09-15T16:00:00Z");
    }
}
