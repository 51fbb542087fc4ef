//! How an upstream has answered of late, as this node has seen it: whether to ask it now, or how long to wait.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::quota::Costs;

/// How long an account rests that was rate limited without a `retry-after`, or overloaded, for the first time.
const REST: Duration = Duration::from_secs(60);
/// How long an account is passed over after its first failure.
const PASSED_OVER: Duration = Duration::from_secs(5);
/// The longest rest of an account that is overloaded again and again.
const LONGEST_REST: Duration = Duration::from_secs(600);
/// How long an account is passed over that was refused for its payment or its permissions: a person has to mend that.
const REFUSED: Duration = Duration::from_secs(600);
/// How long an account rests whose credential was refused for the first time: an upstream may be wrong about it.
const UNAUTHORIZED: Duration = Duration::from_secs(1_800);
/// The longest rest of an account whose credential is refused again and again.
const LONGEST_UNAUTHORIZED: Duration = Duration::from_secs(8 * 3_600);
/// The longest time that an account is passed over.
const LONGEST_PASSED_OVER: Duration = Duration::from_secs(60);
/// The longest `retry-after` that is believed.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(24 * 3_600);

/// What came of a call to an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Ok,
    /// 429, with the `retry-after` that came with it.
    RateLimited {
        retry_after: Option<Duration>,
    },
    /// 529.
    Overloaded,
    /// Another 5xx, no connection, no answer, or half of one.
    Failed,
    /// 401: its credential is refused.
    Unauthorized,
    /// 402 or 403: it has not paid, or may not.
    Refused,
}

/// What people are told of an account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    #[default]
    Active,
    RateLimited,
    Overloaded,
    Failing,
    Unauthorized,
    Refused,
}

impl Status {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::Failing => "failing",
            Self::Unauthorized => "unauthorized",
            Self::Refused => "refused",
        }
    }

    pub(super) fn sentence(self) -> &'static str {
        match self {
            Self::Active => "",
            Self::RateLimited => "the upstream has limited this account's rate (429)",
            Self::Overloaded => "the upstream was overloaded (529)",
            Self::Failing => "the upstream failed or could not be reached",
            Self::Unauthorized => "the upstream refuses this account's credential (401); enter a new one",
            Self::Refused => {
                "the upstream refuses this account (402 or 403); see to its payment and permissions"
            }
        }
    }
}

/// Whether an account is to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readiness {
    Ready,
    /// It has failed or was refused: it is asked when no other is ready.
    Spare,
    /// Not before this time has passed.
    Resting(Duration),
    /// Not before a person has changed it, or hours have passed.
    Refused,
}

/// What is known of one account, over all versions of its record.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Calls that are under way.
    pub(super) in_flight: AtomicU32,
    /// When it was last chosen, as a number that rises with each choice.
    pub(super) chosen: AtomicU64,
    /// When it was last used, in milliseconds since 1970, as far as its record says so.
    pub(super) used_ms: AtomicI64,
    /// Whether a write of its status is on its way.
    pub(super) writing: AtomicBool,
    /// When its status was last written.
    pub(super) written: Mutex<Option<Instant>>,
    /// What it has cost, if it has a quota.
    pub(super) costs: Mutex<Costs>,
    condition: Mutex<Condition>,
}

#[derive(Debug, Default)]
struct Condition {
    status: Status,
    /// None while it is well.
    until: Option<Instant>,
    /// How often it was overloaded or failed without a success in between.
    streak: u32,
    /// The settings that this was seen with: others begin anew.
    settings: u64,
}

impl Health {
    /// Whether an account with these settings is to be asked.
    pub(super) fn readiness(&self, settings: u64, now: Instant) -> Readiness {
        let condition = self.condition.lock();
        if condition.settings != settings {
            return Readiness::Ready;
        }
        let left = condition.left(now);
        match condition.status {
            Status::Active => Readiness::Ready,
            _ if left.is_zero() => Readiness::Ready,
            Status::Failing | Status::Refused => Readiness::Spare,
            Status::RateLimited | Status::Overloaded => Readiness::Resting(left),
            Status::Unauthorized => Readiness::Refused,
        }
    }

    /// How many calls may be under way, when it may have so many otherwise; 0 for any number. One at a time finds
    /// out whether a refused credential is taken again.
    pub(super) fn most(&self, settings: u64, most: u32) -> u32 {
        let condition = self.condition.lock();
        let is_refused = condition.settings == settings && condition.status == Status::Unauthorized;
        if is_refused { 1 } else { most }
    }

    /// What people are told, and for how long it holds.
    pub(super) fn status(&self, settings: u64, now: Instant) -> (Status, Option<Duration>) {
        let condition = self.condition.lock();
        let left = condition.until.map(|until| until.saturating_duration_since(now));
        match condition.settings == settings && left != Some(Duration::ZERO) {
            true => (condition.status, left),
            false => (Status::Active, None),
        }
    }

    /// Notes what came of a call that was made with these settings. True when people are to be told.
    pub(super) fn note(&self, outcome: Outcome, settings: u64, now: Instant) -> bool {
        let mut condition = self.condition.lock();
        if condition.settings != settings {
            *condition = Condition { settings, ..Condition::default() };
        }
        let before = condition.status;
        match outcome {
            // A call that began before the limit was reached says nothing about it.
            Outcome::Ok if condition.rests(now) => return false,
            Outcome::Ok => *condition = Condition { settings, ..Condition::default() },
            Outcome::RateLimited { retry_after } => {
                let rest =
                    retry_after.map_or(REST, |rest| rest.clamp(Duration::from_secs(1), LONGEST_RETRY_AFTER));
                condition.rest(Status::RateLimited, now, rest);
            }
            Outcome::Overloaded => condition.rest_longer(Status::Overloaded, now, REST, LONGEST_REST),
            Outcome::Failed if condition.rests(now) => {}
            Outcome::Failed => {
                condition.rest_longer(Status::Failing, now, PASSED_OVER, LONGEST_PASSED_OVER);
            }
            // What one may not ask for, another may, so that it does not rest altogether.
            Outcome::Refused if condition.rests(now) => {}
            Outcome::Refused => {
                condition.status = Status::Refused;
                condition.until = Some(now + REFUSED);
            }
            Outcome::Unauthorized => {
                let (first, longest) = (UNAUTHORIZED, LONGEST_UNAUTHORIZED);
                condition.rest_longer(Status::Unauthorized, now, first, longest);
            }
        }
        before != condition.status
    }

    /// Forgets all but what is under way.
    pub(super) fn reset(&self) {
        *self.condition.lock() = Condition::default();
    }
}

impl Condition {
    fn left(&self, now: Instant) -> Duration {
        self.until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }

    /// Whether it is not to be asked at all.
    fn rests(&self, now: Instant) -> bool {
        match self.status {
            Status::Active | Status::Failing | Status::Refused => false,
            _ => !self.left(now).is_zero(),
        }
    }

    /// Never shortens a rest.
    fn rest(&mut self, status: Status, now: Instant, rest: Duration) {
        if self.rests(now) && self.left(now) > rest {
            return;
        }
        self.status = status;
        self.until = Some(now + rest);
    }

    /// Twice as long each time that the same happens again.
    fn rest_longer(&mut self, status: Status, now: Instant, first: Duration, longest: Duration) {
        if self.status != status {
            self.streak = 0;
        }
        // Calls that were under way together have failed once.
        let again = self.status == status && self.until.is_some_and(|until| until > now);
        if !again {
            self.streak = self.streak.saturating_add(1);
        }
        let doubled = first.saturating_mul(1 << self.streak.saturating_sub(1).min(16));
        self.rest(status, now, doubled.min(longest));
    }
}

/// A call under way: counted as long as this lives.
#[derive(Debug)]
pub struct InFlight(std::sync::Arc<Health>);

impl InFlight {
    /// None when there are as many as there may be; 0 for any number.
    pub(super) fn begin(health: &std::sync::Arc<Health>, most: u32) -> Option<Self> {
        let more = |now: u32| (most == 0 || now < most).then(|| now.saturating_add(1));
        health.in_flight.fetch_update(Relaxed, Relaxed, more).ok()?;
        Some(Self(health.clone()))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn limited(seconds: u32) -> Outcome {
        Outcome::RateLimited { retry_after: Some(SECOND * seconds) }
    }

    #[test]
    fn a_limited_account_rests_as_long_as_it_was_told() {
        let (health, now) = (Health::default(), Instant::now());
        assert!(health.note(limited(30), 1, now));
        assert_eq!(health.readiness(1, now), Readiness::Resting(30 * SECOND));
        assert!(!health.note(limited(5), 1, now), "a shorter time does not shorten it");
        assert!(!health.note(Outcome::Ok, 1, now), "nor does a call that began before");
        assert_eq!(health.readiness(1, now + 29 * SECOND), Readiness::Resting(SECOND));
        assert_eq!(health.readiness(1, now + 30 * SECOND), Readiness::Ready);
        assert!(health.note(Outcome::Ok, 1, now + 30 * SECOND));
        assert_eq!(health.status(1, now + 30 * SECOND), (Status::Active, None));
    }

    #[test]
    fn an_overloaded_account_rests_longer_each_time() {
        let (health, mut now) = (Health::default(), Instant::now());
        for seconds in [60, 120, 240, 480, 600, 600] {
            health.note(Outcome::Overloaded, 1, now);
            health.note(Outcome::Overloaded, 1, now);
            assert_eq!(health.readiness(1, now), Readiness::Resting(seconds * SECOND));
            now += seconds * SECOND;
        }
        health.note(Outcome::Failed, 1, now);
        health.note(Outcome::Overloaded, 1, now);
        assert_eq!(health.readiness(1, now), Readiness::Resting(60 * SECOND));
        now += 60 * SECOND;
        health.note(Outcome::Ok, 1, now);
        health.note(Outcome::Overloaded, 1, now);
        assert_eq!(health.readiness(1, now), Readiness::Resting(60 * SECOND));
    }

    #[test]
    fn a_failing_account_is_a_spare_one_for_a_while() {
        let (health, now) = (Health::default(), Instant::now());
        health.note(Outcome::Failed, 1, now);
        assert_eq!(health.readiness(1, now + SECOND), Readiness::Spare);
        assert_eq!(health.readiness(1, now + 5 * SECOND), Readiness::Ready);
        health.note(limited(9), 1, now);
        health.note(Outcome::Failed, 1, now);
        assert_eq!(health.readiness(1, now), Readiness::Resting(9 * SECOND), "a failure ends no rest");
    }

    #[test]
    fn a_refused_account_is_a_spare_one_until_it_answers() {
        let (health, now) = (Health::default(), Instant::now());
        assert!(health.note(Outcome::Refused, 1, now));
        assert_eq!(health.readiness(1, now + 599 * SECOND), Readiness::Spare);
        assert_eq!(health.status(1, now), (Status::Refused, Some(600 * SECOND)));
        assert_eq!(health.readiness(1, now + 600 * SECOND), Readiness::Ready);
        assert!(health.note(Outcome::Ok, 1, now + SECOND));
        health.note(limited(9), 1, now);
        health.note(Outcome::Refused, 1, now);
        assert_eq!(health.readiness(1, now), Readiness::Resting(9 * SECOND), "it ends no rest");
    }

    #[test]
    fn a_refused_credential_is_tried_again_by_one_call_at_a_time() {
        let (health, mut now) = (Health::default(), Instant::now());
        for seconds in [1_800, 3_600, 7_200, 14_400, 28_800, 28_800] {
            health.note(Outcome::Unauthorized, 1, now);
            health.note(Outcome::Unauthorized, 1, now);
            assert!(!health.note(Outcome::Ok, 1, now), "of a call that began before");
            assert_eq!(health.status(1, now), (Status::Unauthorized, Some(seconds * SECOND)));
            assert_eq!(health.readiness(1, now + (seconds - 1) * SECOND), Readiness::Refused);
            assert_eq!(health.readiness(2, now), Readiness::Ready, "with other settings");
            now += seconds * SECOND;
            assert_eq!(health.readiness(1, now), Readiness::Ready);
            assert_eq!((health.most(1, 0), health.most(1, 9), health.most(2, 9)), (1, 1, 9));
        }
        assert!(health.note(Outcome::Ok, 1, now));
        assert_eq!((health.readiness(1, now), health.most(1, 0)), (Readiness::Ready, 0));
    }

    #[test]
    fn calls_under_way_are_counted_and_bounded() {
        let health = std::sync::Arc::new(Health::default());
        let first = InFlight::begin(&health, 1);
        assert!(first.is_some() && InFlight::begin(&health, 1).is_none());
        assert!(InFlight::begin(&health, 0).is_some());
        drop(first);
        assert!(InFlight::begin(&health, 1).is_some());
    }
}
