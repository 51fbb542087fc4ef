//! Today, the week of a key, and when they end.

use jiff::tz::Offset;
use jiff::{Timestamp, ToSpan as _, civil::DateTime};

use super::WeekStart;
use crate::store::usage::{Span, Window};

/// Hours of a day and of a week.
const DAY: i64 = 24;
const WEEK: i64 = 7 * DAY;

/// A moment, and the week of a key that it is in.
pub(super) struct Calendar {
    pub(super) now: Timestamp,
    offset: Offset,
    today: String,
    /// The beginning of the day and of the week.
    midnight: DateTime,
    began: DateTime,
    hour: i64,
}

impl Calendar {
    pub(super) fn at(now: Timestamp, offset: Offset, week: WeekStart) -> Self {
        let local = offset.to_datetime(now);
        let midnight = local.date().at(0, 0, 0, 0);
        let since_monday = DAY * i64::from(local.weekday().to_monday_zero_offset()) + i64::from(local.hour());
        let start = DAY * i64::from(week.day) + i64::from(week.hour);
        let began = local.date().at(local.hour(), 0, 0, 0);
        let began = began.saturating_sub((since_monday - start).rem_euclid(WEEK).hours());
        let today = local.strftime("%Y-%m-%d").to_string();
        let hour = (now.as_second() + i64::from(offset.seconds())).div_euclid(3_600);
        Self { now, offset, today, midnight, began, hour }
    }

    /// The windows that the week has had so far: whole days, and the hours of one that was cut.
    pub(super) fn week(&self) -> Vec<Window> {
        let (mut windows, mut at) = (Vec::new(), self.began);
        let now = self.offset.to_datetime(self.now);
        let end = self.began.saturating_add(WEEK.hours());
        while at <= now && at < end {
            let day = at.saturating_add(DAY.hours());
            let (span, next) = match at.hour() == 0 && day <= end {
                true => (Span::Daily, day),
                false => (Span::Hourly, at.saturating_add(1.hour())),
            };
            windows.push(span.window(at));
            at = next;
        }
        windows
    }

    pub(super) fn today(&self) -> &str {
        &self.today
    }

    /// The hours since 1970-01-01, in the offset.
    pub(super) fn hour(&self) -> i64 {
        self.hour
    }

    /// When the next day begins.
    pub(super) fn midnight(&self) -> Timestamp {
        self.time(self.midnight, DAY)
    }

    /// When the next week begins.
    pub(super) fn next_week(&self) -> Timestamp {
        self.time(self.began, WEEK)
    }

    fn time(&self, from: DateTime, hours: i64) -> Timestamp {
        self.offset.to_timestamp(from.saturating_add(hours.hours())).unwrap_or(Timestamp::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn week(calendar: &Calendar) -> Vec<String> {
        calendar.week().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_week_begins_on_monday_in_the_configured_offset() {
        // A Sunday in Greenwich, a Monday eight hours east of it.
        let now: Timestamp = "2025-09-14T20:30:00Z".parse().unwrap();
        let west = Calendar::at(now, Offset::UTC, WeekStart::default());
        assert_eq!((week(&west).len(), west.today()), (7, "2025-09-14"));
        assert_eq!(week(&west)[0], "daily:2025-09-08");
        assert_eq!(west.next_week().to_string(), "2025-09-15T00:00:00Z");
        assert_eq!(west.midnight(), west.next_week());
        let east = Calendar::at(now, Offset::constant(8), WeekStart::default());
        assert_eq!(week(&east), ["daily:2025-09-15"]);
        assert_eq!(east.next_week().to_string(), "2025-09-21T16:00:00Z");
        assert_eq!(east.midnight().to_string(), "2025-09-15T16:00:00Z");
    }

    #[test]
    fn a_week_begins_at_the_day_and_hour_that_a_key_names() {
        let friday_noon = WeekStart { day: 4, hour: 12 };
        let at = |now: &str| Calendar::at(now.parse().unwrap(), Offset::UTC, friday_noon);
        let before = at("2025-09-19T11:59:59Z");
        assert_eq!(before.next_week().to_string(), "2025-09-19T12:00:00Z");
        let windows = week(&before);
        assert_eq!((&*windows[0], &*windows[11]), ("hourly:2025-09-12T12", "hourly:2025-09-12T23"));
        assert_eq!((&*windows[12], &*windows[17]), ("daily:2025-09-13", "daily:2025-09-18"));
        assert_eq!((windows.len(), &*windows[29]), (30, "hourly:2025-09-19T11"));
        let after = at("2025-09-19T12:00:00Z");
        assert_eq!(week(&after), ["hourly:2025-09-19T12"]);
        assert_eq!(after.next_week().to_string(), "2025-09-26T12:00:00Z");
        assert_eq!(after.hour(), 488_412);
    }
}
