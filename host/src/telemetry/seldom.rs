//! Log lines that would repeat.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Lets one of many equal log lines through per minute.
#[derive(Debug, Default)]
pub struct Seldom(AtomicU64);

impl Seldom {
    const SECONDS: u64 = 60;

    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// True at most once a minute.
    pub fn is_due(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let due = |last: u64| (now.abs_diff(last) >= Self::SECONDS).then_some(now);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, due).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_lines_one_gets_through() {
        let seldom = Seldom::new();
        let through = (0..1_000).filter(|_| seldom.is_due()).count();
        assert_eq!(through, 1);
    }
}
