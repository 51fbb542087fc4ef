//! The counters of usage, compared window by window.

use jiff::civil::Date;
use jiff::{Timestamp, ToSpan};

use super::report::DifferingUsage;
use super::suspects::Subject;
use super::{Check, Seen};
use crate::store::kind::USAGE;
use crate::store::side::{Side, Which};
use crate::store::usage::{self, COUNTERS, Counts, Window, counter_fields};
use crate::store::{Key, Result};

/// How many windows one step looks at.
const PAGE: u32 = 500;

/// What Redis and PostgreSQL have counted in one window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pair {
    redis: Option<Counts>,
    postgres: Option<Counts>,
}

impl Pair {
    /// Whether one store still has not counted what the other had counted before. What both have counted since
    /// may hide that for a while, but not once the window rests.
    pub(super) fn lacks(&self, before: &Self) -> bool {
        let less = |now: &Option<Counts>, then: &Option<Counts>| {
            let (now, then) = (now.unwrap_or_default(), then.unwrap_or_default());
            now.iter().zip(then).any(|(now, then)| *now < then)
        };
        less(&self.postgres, &before.redis) || less(&self.redis, &before.postgres)
    }
}

impl Check<'_> {
    /// The windows of one store: all that PostgreSQL has, and those of Redis that PostgreSQL has not.
    pub(super) async fn totals(&self, side: Which, cursor: Option<&str>) -> Result<Seen> {
        let (from, to) = match side {
            Which::Redis => (self.redis, self.postgres),
            Which::Postgres => (self.postgres, self.redis),
        };
        let windows = from.backend.windows(cursor, PAGE, self.deep).await?;
        let keys: Vec<(Key, Counts)> = windows
            .counted
            .into_iter()
            .filter_map(|(id, counts)| Some((Key::new(&USAGE, &id).ok()?, counts)))
            .collect();
        let others = futures::future::try_join_all(keys.iter().map(|(key, _)| counts(to, key))).await?;
        let mut seen = Seen { next: windows.next, ..Seen::default() };
        for ((key, ours), theirs) in keys.into_iter().zip(others) {
            if side == Which::Redis && theirs.is_some() {
                continue;
            }
            seen.compared += 1;
            if theirs != Some(ours) {
                seen.suspects.push(Subject::Usage(key));
            }
        }
        Ok(seen)
    }

    fn today(&self) -> Date {
        self.work.offset.to_datetime(Timestamp::now()).date()
    }

    pub(super) async fn totals_of(&self, key: &Key) -> Result<Pair> {
        let (redis, postgres) = tokio::try_join!(counts(self.redis, key), counts(self.postgres, key))?;
        Ok(Pair { redis, postgres })
    }

    /// Whether this is more than a window that one store may not have.
    pub(super) async fn totals_differ(&self, key: &Key, pair: &Pair) -> Result<bool> {
        let zero = Counts::default();
        match (&pair.redis, &pair.postgres) {
            (None, Some(_)) if may_have_expired(&key.id, self.today()) => Ok(false),
            (None, Some(_)) => self.redis.backend.complete(&USAGE).await,
            (redis, postgres) => Ok(redis.unwrap_or(zero) != postgres.unwrap_or(zero)),
        }
    }

    pub(super) fn found_usage(&mut self, subject: &Subject, pair: &Pair) {
        let Subject::Usage(key) = subject else { return };
        let fields = |counts: &Option<Counts>| counts.as_ref().map(counter_fields);
        let (redis, postgres) = (fields(&pair.redis), fields(&pair.postgres));
        self.report.usage_differs(DifferingUsage { key: key.to_string(), redis, postgres });
        if self.dry_run.is_some() {
            let (redis, postgres) = (pair.redis.unwrap_or_default(), pair.postgres.unwrap_or_default());
            let more = |a: &Counts, b: &Counts| a.iter().zip(b).any(|(a, b)| a > b);
            let action = match (more(&redis, &postgres), more(&postgres, &redis)) {
                (true, false) => {
                    "Redis has counted more: a sync redis-to-postgres takes the rest over as an opening balance"
                }
                (false, _) => {
                    "PostgreSQL has counted more: a sync postgres-to-redis lets Redis count what it lacks"
                }
                (true, true) => {
                    "each store has counted something that the other has not: compare the events of this \
                     window with the bills of the upstream; no counter is ever lowered by itself"
                }
            };
            self.report.needs_person(&key.to_string(), action);
        }
    }
}

async fn counts(side: &Side, key: &Key) -> Result<Option<Counts>> {
    let Some(record) = side.backend.get(key).await? else { return Ok(None) };
    let count = |name: &str| record.fields.get(name).and_then(|count| count.parse().ok()).unwrap_or(0);
    Ok(Some(COUNTERS.map(count)))
}

/// Whether Redis may have let the window go by now: 7 days for an hour, 32 for a day, 63 for a week, 365 for a month.
fn may_have_expired(id: &str, today: Date) -> bool {
    let Some((_, window)) = usage::Subject::of_id(id) else { return false };
    let days = match &window {
        Window::Total => return false,
        Window::Hourly(_) => 7,
        Window::Daily(_) => 32,
        Window::Weekly(_) => 63,
        Window::Monthly(_) => 365,
    };
    let ends = window.first_day().and_then(|began| began.checked_add(days.days()).ok());
    ends.is_none_or(|ends| ends <= today)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_that_redis_let_go_is_no_difference() {
        let gone = |id| may_have_expired(id, jiff::civil::date(2026, 2, 2));
        assert!(gone("k:daily:2026-01-01") && !gone("k:daily:2026-01-02"));
        assert!(gone("k:hourly:2026-01-26T00") && !gone("k:hourly:2026-01-27T00"));
        assert!(gone("k:monthly:2025-01") && !gone("k:monthly:2025-03"));
        assert!(gone("k:model:m:weekly:2025-W48") && !gone("k:model:m:weekly:2025-W50"));
        assert!(!gone("k:total"));
    }

    #[test]
    fn counters_on_their_way_are_told_from_those_that_lag() {
        let pair = |redis: i64, postgres: i64| Pair {
            redis: Some([redis; COUNTERS.len()]),
            postgres: Some([postgres; COUNTERS.len()]),
        };
        assert!(!pair(9, 8).lacks(&pair(7, 6)));
        assert!(pair(9, 6).lacks(&pair(7, 6)));
        assert!(pair(7, 6).lacks(&pair(7, 6)));
    }
}
