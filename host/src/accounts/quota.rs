//! What an account may cost a day, and the time of day at which one that has used it up serves again, as Claude Relay
//! Service has both.
//!
//! Nothing is written for it: the usage counters tell, on every node and after every restart. That program finds out
//! by the same counters.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use jiff::civil::{Date, Time};
use jiff::tz::Offset;
use jiff::{Timestamp, ToSpan as _};
use tokio::time::Instant;
use tracing::debug;

use super::account::Account;
use super::edit::EditError;
use crate::store::kind::USAGE;
use crate::store::usage::{Span, Subject};
use crate::store::{Fields, Key, StoreError};
use crate::strategy::records::Records;

/// How old a cost may be. What is used meanwhile may pass the quota.
const FRESH: Duration = Duration::from_secs(1);
/// How many accounts are looked at together.
const AT_ONCE: usize = 8;
/// Micro-dollars of a dollar.
const MICRO: f64 = 1_000_000.0;

/// The quota of an account.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quota {
    /// Micro-dollars a day; 0 for as many as there are.
    micro: u64,
    /// The time of day, in the offset of usage, from which on it serves again.
    reset: Time,
    offset: Offset,
}

/// What an account has cost on a day and on the one before, as of the last look.
#[derive(Debug, Default)]
pub(super) struct Costs {
    looked: Option<Instant>,
    day: Date,
    today: u64,
    yesterday: u64,
}

impl Quota {
    pub(super) fn of(fields: &Fields, offset: Offset) -> Self {
        let text = |name: &str| fields.get(name).map_or("", |text| text.trim());
        let dollars: f64 = text("dailyQuota").parse().unwrap_or(0.0);
        let micro = (dollars * MICRO).ceil().max(0.0) as u64;
        Self { micro, reset: time_of(text("quotaResetTime")).unwrap_or_default(), offset }
    }

    /// When an account serves again that was stopped at this moment.
    pub(super) fn reset_after(&self, stopped: Timestamp) -> Timestamp {
        let local = self.offset.to_datetime(stopped);
        let days = if local.time() < self.reset { 0 } else { 1 };
        self.reset_on(local.date(), days)
    }

    /// How long it may not serve yet; none when it may.
    pub(super) fn left(&self, costs: &Costs, now: Timestamp) -> Option<Duration> {
        if self.micro == 0 {
            return None;
        }
        let local = self.offset.to_datetime(now);
        let (today, yesterday) = costs.on(local.date());
        let until = match () {
            () if today >= self.micro => self.reset_on(local.date(), 1),
            () if yesterday >= self.micro && local.time() < self.reset => self.reset_on(local.date(), 0),
            () => return None,
        };
        Duration::try_from(until.duration_since(now)).ok()
    }

    fn reset_on(&self, date: Date, days: i64) -> Timestamp {
        let reset = date.saturating_add(days.days()).to_datetime(self.reset);
        self.offset.to_timestamp(reset).unwrap_or(Timestamp::MAX)
    }

    fn is_due(&self, costs: &Costs) -> bool {
        self.micro > 0 && costs.looked.is_none_or(|looked| looked.elapsed() >= FRESH)
    }
}

impl Costs {
    /// Those of this day and of the one before.
    fn on(&self, date: Date) -> (u64, u64) {
        match date {
            _ if self.looked.is_none() => (0, 0),
            date if date == self.day => (self.today, self.yesterday),
            // Midnight has passed since.
            date if date.yesterday().is_ok_and(|before| before == self.day) => (0, self.today),
            _ => (0, 0),
        }
    }
}

/// Looks at what the accounts with a quota have cost, unless that is known. One that cannot be told goes on as it was.
pub(super) async fn look(records: &Records, accounts: impl Iterator<Item = &Arc<Account>>) {
    let is_due = |account: &&Arc<Account>| account.quota.is_due(&account.health.costs.lock());
    let due: Vec<_> = accounts.filter(is_due).cloned().collect();
    for some in due.chunks(AT_ONCE) {
        join_all(some.iter().map(|account| look_at(records, account))).await;
    }
}

async fn look_at(records: &Records, account: &Account) {
    let day = account.quota.offset.to_datetime(Timestamp::now()).date();
    let before = day.yesterday().unwrap_or(day);
    match tokio::try_join!(cost(records, account, day), cost(records, account, before)) {
        Ok((today, yesterday)) => {
            let looked = Some(Instant::now());
            *account.health.costs.lock() = Costs { looked, day, today, yesterday };
        }
        Err(error) => debug!(account = account.id(), %error, "what an account has cost cannot be told"),
    }
}

async fn cost(records: &Records, account: &Account, day: Date) -> Result<u64, StoreError> {
    let window = Span::Daily.window(day.at(0, 0, 0, 0));
    let id = Subject::Account(account.id().to_owned()).id(&window);
    let key = Key::new(&USAGE, &id).map_err(|error| StoreError::Unsupported(error.to_string()))?;
    let counted = records.get(&key).await?.value;
    Ok(counted.and_then(|record| record.fields.get("cost_micro_usd")?.parse().ok()).unwrap_or(0))
}

/// `HH:mm`; what is out of range counts as zero, as in Claude Relay Service.
fn time_of(text: &str) -> Option<Time> {
    let (hour, minute) = text.split_once(':').unwrap_or((text, ""));
    let within = |text: &str, end: i8| text.trim().parse().ok().filter(|n| (0..end).contains(n)).unwrap_or(0);
    Time::new(within(hour, 24), within(minute, 60), 0, 0).ok()
}

pub(super) fn checked_quota(dollars: f64) -> Result<String, EditError> {
    match dollars.is_finite() && (0.0..=1_000_000_000.0).contains(&dollars) {
        true => Ok(dollars.to_string()),
        false => Err(EditError::invalid("dailyQuota", "is a number of US dollars, 0 for no quota")),
    }
}

pub(super) fn checked_reset(time: &str) -> Result<String, EditError> {
    match jiff::fmt::strtime::parse("%H:%M", time).and_then(|time| time.to_time()) {
        Ok(time) => Ok(time.strftime("%H:%M").to_string()),
        Err(_) => Err(EditError::invalid("quotaResetTime", "is a time of day, such as 06:30")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFSET: Offset = Offset::constant(8);

    fn quota(dollars: &str, reset: &str) -> Quota {
        let fields = [("dailyQuota", dollars), ("quotaResetTime", reset)];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Quota::of(&fields.into_iter().collect(), OFFSET)
    }

    fn at(local: &str) -> Timestamp {
        format!("{local}+08:00").parse().unwrap()
    }

    fn costs(today: u64, yesterday: u64) -> Costs {
        let (looked, day) = (Some(Instant::now()), Date::constant(2026, 1, 15));
        Costs { looked, day, today, yesterday }
    }

    fn until(quota: Quota, costs: &Costs, now: &str) -> Option<Timestamp> {
        Some(at(now) + jiff::SignedDuration::try_from(quota.left(costs, at(now))?).unwrap())
    }

    #[test]
    fn an_account_that_has_used_up_its_day_waits_for_the_reset_of_the_next() {
        let (plain, later) = (quota("1.5", "00:00"), quota("1.5", "06:30"));
        let noon = "2026-01-15T12:00:00";
        assert_eq!(until(plain, &costs(1_499_999, 9_000_000), noon), None);
        assert_eq!(until(plain, &costs(1_500_000, 0), noon), Some(at("2026-01-16T00:00:00")));
        assert_eq!(until(later, &costs(1_500_000, 0), noon), Some(at("2026-01-16T06:30:00")));
        assert_eq!(until(quota("0", ""), &costs(u64::MAX, u64::MAX), noon), None);
        assert_eq!(until(quota("much", ""), &costs(u64::MAX, 0), noon), None);
        assert_eq!(until(plain, &Costs::default(), noon), None, "nobody knows yet");
    }

    #[test]
    fn after_midnight_it_waits_on_until_its_reset() {
        let later = quota("1.5", "06:30");
        let night = "2026-01-15T06:29:00";
        assert_eq!(until(later, &costs(0, 1_500_000), night), Some(at("2026-01-15T06:30:00")));
        assert_eq!(until(later, &costs(0, 1_500_000), "2026-01-15T06:30:00"), None);
        // The last look was before midnight.
        let before = &costs(1_500_000, 0);
        assert_eq!(until(later, before, "2026-01-16T00:00:01"), Some(at("2026-01-16T06:30:00")));
        assert_eq!(until(quota("1.5", ""), before, "2026-01-16T00:00:01"), None);
    }

    #[test]
    fn the_reset_after_a_stop_is_the_next_one_in_the_offset() {
        let later = quota("1", "06:30");
        assert_eq!(later.reset_after(at("2026-01-15T06:29:59")), at("2026-01-15T06:30:00"));
        assert_eq!(later.reset_after(at("2026-01-15T06:30:00")), at("2026-01-16T06:30:00"));
        for (text, time) in
            [("6:5", "06:05"), ("24:61", "00:00"), ("7", "07:00"), ("", "00:00"), ("x", "00:00")]
        {
            assert_eq!(time_of(text).unwrap().strftime("%H:%M").to_string(), time, "{text}");
        }
        assert_eq!(checked_reset("6:30").unwrap(), "06:30");
        assert!(
            checked_reset("24:00").is_err()
                && checked_quota(-1.0).is_err()
                && checked_quota(f64::NAN).is_err()
        );
        assert_eq!(checked_quota(2.5).unwrap(), "2.5");
    }
}
