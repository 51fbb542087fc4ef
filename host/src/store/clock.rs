//! Versions: a hybrid logical clock in microseconds since 1970, held against the clocks of the stores.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use super::{Result, StoreError, Version};

/// The greatest version there can be: Redis scripts and JSON count in doubles.
pub const MAX_VERSION: Version = (1 << 53) - 1;

/// How far a clock may be from a store's, in microseconds, besides half the round trip.
pub const TOLERANCE: i64 = 500_000;

/// How many nodes give versions that cannot meet: each has its own remainder.
pub const SLOTS: u64 = 16;

/// A version further ahead than this, in microseconds, is a mistake that is not followed: ten minutes.
const FOLLOWED: u64 = 600_000_000;

/// How often a mistaken version is logged at most, in microseconds.
const LOGGED_EVERY: u64 = 10_000_000;

/// Gives versions that never repeat or fall on this node and are greater than every version it has
/// observed, even when the system's clock is set back.
///
/// Between two comparisons with the stores it goes on by the monotonic clock, so that a step of the
/// system's clock does not reach the versions.
#[derive(Debug)]
pub struct Clock {
    last: AtomicU64,
    /// The remainder of the versions given here, by [`SLOTS`].
    slot: AtomicU64,
    born: Instant,
    /// Microseconds since 1970 when it was born, as far as is known now.
    anchor: AtomicI64,
    /// How far its reading of the system's clock is ahead of that: 0 outside tests.
    ahead: i64,
    refuses: AtomicBool,
    refusal: Mutex<Option<StoreError>>,
    /// Which store's clock is off while another store agrees with this one, in words.
    odd_store: Mutex<Option<String>>,
    logged: AtomicU64,
}

impl Default for Clock {
    fn default() -> Self {
        Self::ahead_by(0)
    }
}

/// What a store's clock said, beside this one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// How far this clock is ahead of the store's, in microseconds.
    pub ahead: i64,
    /// Between asking and the answer.
    pub round_trip: Duration,
}

impl Reading {
    /// Whether the difference is more than is tolerated.
    pub fn is_skewed(&self) -> bool {
        self.ahead.abs() > TOLERANCE + self.round_trip.as_micros() as i64 / 2
    }
}

impl Clock {
    /// A clock whose reading of the system's clock is this many microseconds too great.
    pub fn ahead_by(ahead: i64) -> Self {
        Self {
            last: AtomicU64::new(0),
            slot: AtomicU64::new(0),
            born: Instant::now(),
            anchor: AtomicI64::new(wall() + ahead),
            ahead,
            refuses: AtomicBool::new(false),
            refusal: Mutex::default(),
            odd_store: Mutex::default(),
            logged: AtomicU64::new(0),
        }
    }

    /// A version greater than all given and observed before.
    pub fn next(&self) -> Version {
        self.after(0)
    }

    /// A version greater than all given and observed before, and than this one. [`MAX_VERSION`] when there
    /// is none.
    pub fn after(&self, held: Version) -> Version {
        if held > self.limit() {
            // Greater for this record alone: one mistake does not spread to all others.
            self.log_mistake(held);
            return self.ours(held.saturating_add(1));
        }
        let now = self.now().max(held + 1);
        let step = |last: u64| self.ours(now.max(last + 1));
        match self.last.fetch_update(Ordering::AcqRel, Ordering::Acquire, |last| Some(step(last))) {
            Ok(last) | Err(last) => step(last),
        }
    }

    /// The least version from this one on that no other node gives.
    fn ours(&self, least: u64) -> Version {
        let least = least.min(MAX_VERSION);
        let slot = self.slot.load(Ordering::Acquire);
        let ours = least + (slot + SLOTS - least % SLOTS) % SLOTS;
        ours.min(MAX_VERSION)
    }

    /// Which of the [`SLOTS`] this node has among the nodes that share its stores. Two versions that two
    /// nodes give in the same microsecond must not be equal: the second write would pass for the first.
    pub fn take_slot(&self, slot: u64) {
        self.slot.store(slot % SLOTS, Ordering::Release);
    }

    /// As [`Self::take_slot`] was told last.
    pub fn slot(&self) -> u64 {
        self.slot.load(Ordering::Acquire)
    }

    /// Takes note of a version that another node gave, unless it is more than ten minutes ahead: that one is
    /// logged.
    pub fn observe(&self, version: Version) {
        if version <= self.last.load(Ordering::Acquire) {
            return;
        }
        if version > self.limit() {
            return self.log_mistake(version);
        }
        self.last.fetch_max(version, Ordering::AcqRel);
    }

    /// Whether a write may get a version now.
    ///
    /// # Errors
    /// `ClockSkewed`, which says by how much and what to do; or `Unavailable` while that is not known.
    pub fn check(&self) -> Result<()> {
        match self.refuses.load(Ordering::Acquire) {
            false => Ok(()),
            true => self.refusal.lock().clone().map_or(Ok(()), Err),
        }
    }

    /// Why writes are refused, if they are.
    pub fn refusal(&self) -> Option<String> {
        self.check().err().map(|refusal| refusal.to_string())
    }

    /// Which store's clock is off, if one is while this clock is right.
    pub fn odd_store(&self) -> Option<String> {
        self.odd_store.lock().clone()
    }

    /// A store's clock is off from now on, or none is. Says nothing about writes.
    pub fn set_odd_store(&self, why: Option<String>) {
        *self.odd_store.lock() = why;
    }

    /// Refuses writes from now on.
    pub fn refuse(&self, why: StoreError) {
        *self.refusal.lock() = Some(why);
        self.refuses.store(true, Ordering::Release);
    }

    /// Takes the system's clock for right: allows writes, and counts on from what it says now.
    pub fn trust(&self) {
        self.anchor.store(self.wall() - self.age(), Ordering::Release);
        self.refuses.store(false, Ordering::Release);
    }

    /// Holds the system's clock against a store's, which answers in microseconds since 1970.
    pub async fn read(&self, store: impl Future<Output = Result<i64>>) -> Result<Reading> {
        let sent = Instant::now();
        let theirs = store.await?;
        let round_trip = sent.elapsed();
        Ok(Reading { ahead: self.wall() - round_trip.as_micros() as i64 / 2 - theirs, round_trip })
    }

    /// Microseconds since 1970.
    fn now(&self) -> u64 {
        (self.anchor.load(Ordering::Acquire) + self.age()).max(0) as u64
    }

    fn age(&self) -> i64 {
        self.born.elapsed().as_micros() as i64
    }

    fn wall(&self) -> i64 {
        wall() + self.ahead
    }

    fn limit(&self) -> Version {
        self.now() + FOLLOWED
    }

    fn log_mistake(&self, version: Version) {
        let (now, logged) = (self.now(), self.logged.load(Ordering::Acquire));
        let due = logged == 0 || now.saturating_sub(logged) > LOGGED_EVERY;
        let claim = |due: bool| {
            due && self.logged.compare_exchange(logged, now, Ordering::AcqRel, Ordering::Acquire).is_ok()
        };
        if claim(due) {
            let minutes = version.saturating_sub(now) / 60_000_000;
            tracing::warn!(version, minutes, "a record's version is in the future; it is not followed");
        }
    }
}

/// Microseconds since 1970 by the system's clock.
pub fn wall() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_micros() as i64)
}

/// Milliseconds since 1970 by the system's clock, the unit of every expiry.
pub fn now_ms() -> i64 {
    wall() / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000;

    #[test]
    fn versions_rise_past_an_observed_version_of_the_near_future() {
        let clock = Clock::default();
        let future = clock.next() + 60_000_000;
        clock.observe(future);
        let next = clock.next();
        assert!(next > future && clock.next() > next && clock.next() < future + 1_000);
    }

    #[test]
    fn two_nodes_never_give_the_same_version() {
        let (one, other) = (Clock::default(), Clock::default());
        one.take_slot(3);
        other.take_slot(SLOTS - 1);
        let versions =
            |clock: &Clock| (0..1_000).map(|_| clock.next()).collect::<std::collections::BTreeSet<_>>();
        let (ones, others) = (versions(&one), versions(&other));
        assert_eq!((ones.len(), others.len()), (1_000, 1_000));
        assert!(ones.is_disjoint(&others));
        assert!(one.after(other.next()) % SLOTS == 3);
    }

    #[test]
    fn a_version_hours_ahead_is_exceeded_once_and_not_followed() {
        let clock = Clock::default();
        let mistake = clock.next() + HOUR as u64;
        clock.observe(mistake);
        let next = clock.after(mistake);
        assert!(next > mistake && next <= mistake + SLOTS);
        assert!(clock.next() < mistake - HOUR as u64 / 2);
    }

    #[test]
    fn versions_fit_a_double() {
        let clock = Clock::default();
        assert_eq!(clock.after(u64::MAX), MAX_VERSION);
        assert!(clock.next() < MAX_VERSION);
    }

    #[test]
    fn a_step_of_the_systems_clock_reaches_no_version_until_a_store_agrees_with_it() {
        let right = Clock::default();
        let stepped =
            Clock { anchor: AtomicI64::new(right.anchor.load(Ordering::Acquire)), ..Clock::ahead_by(HOUR) };
        assert!(stepped.next().abs_diff(right.next()) < HOUR as u64 / 2);
        stepped.trust();
        assert!(stepped.next() - right.next() > HOUR as u64 / 2);
    }

    #[tokio::test]
    async fn a_clock_that_is_off_is_told_from_a_slow_answer() {
        let off = |micros| async move { Clock::ahead_by(micros).read(async { Ok(wall()) }).await.unwrap() };
        assert!(!off(0).await.is_skewed() && !off(300_000).await.is_skewed());
        assert!(off(800_000).await.is_skewed() && off(-600_000_000).await.is_skewed());
        let reading = Reading { ahead: 900_000, round_trip: Duration::from_secs(1) };
        assert!(!reading.is_skewed());
    }

    #[test]
    fn a_refusal_says_why_and_ends_with_trust() {
        let clock = Clock::default();
        let off = StoreError::ClockSkewed("off".into());
        clock.refuse(off.clone());
        assert_eq!(clock.check(), Err(off));
        clock.trust();
        assert_eq!((clock.check(), clock.refusal()), (Ok(()), None));
    }
}
