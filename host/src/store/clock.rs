//! Versions: a hybrid logical clock in microseconds since 1970.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use super::Version;

/// The greatest version there can be: Redis scripts and JSON count in doubles.
pub const MAX_VERSION: Version = (1 << 53) - 1;

/// Gives versions that never repeat or fall on this node and are greater than every version it has
/// observed, even when the system's clock is set back.
#[derive(Debug, Default)]
pub struct Clock {
    last: AtomicU64,
}

impl Clock {
    /// A version greater than all given and observed before.
    pub fn next(&self) -> Version {
        let now = micros();
        let step = |last: u64| Some(now.max(last + 1).min(MAX_VERSION));
        match self.last.fetch_update(Ordering::AcqRel, Ordering::Acquire, step) {
            Ok(last) | Err(last) => now.max(last + 1).min(MAX_VERSION),
        }
    }

    /// Takes note of a version that another node gave.
    pub fn observe(&self, version: Version) {
        self.last.fetch_max(version.min(MAX_VERSION), Ordering::AcqRel);
    }
}

/// Microseconds since 1970.
fn micros() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_micros() as u64)
}

/// Milliseconds since 1970, the unit of every expiry.
pub fn now_ms() -> i64 {
    (micros() / 1_000) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_rise_past_an_observed_version_of_the_future() {
        let clock = Clock::default();
        let future = clock.next() + 3_600_000_000;
        clock.observe(future);
        assert_eq!(clock.next(), future + 1);
        assert_eq!(clock.next(), future + 2);
    }

    #[test]
    fn versions_fit_a_double() {
        let clock = Clock::default();
        clock.observe(u64::MAX);
        assert_eq!(clock.next(), MAX_VERSION);
    }
}
