//! How long calls take: mean and percentiles, without a lock and within an eighth of the true value.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;

/// Nanoseconds of the finest bucket.
const UNIT: u64 = 64;
/// Buckets between a power of two and the next.
const STEPS: usize = 4;
/// Enough for an hour; what takes longer falls into the last.
const BUCKETS: usize = 36 * STEPS;

/// A histogram from 64 ns to an hour.
pub struct Latency {
    buckets: [AtomicU64; BUCKETS],
    nanos: AtomicU64,
}

/// What a histogram says, in milliseconds; zeros when nothing was recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Summary {
    pub mean_ms: f64,
    pub p50_ms: f64,
    pub p95_ms: f64,
    pub p99_ms: f64,
}

impl Default for Latency {
    fn default() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; BUCKETS], nanos: AtomicU64::new(0) }
    }
}

impl Latency {
    pub fn record(&self, took: Duration) {
        let nanos = took.as_nanos().min(u64::MAX.into()) as u64;
        self.buckets[bucket(nanos / UNIT)].fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    pub fn summary(&self) -> Summary {
        let counts: Vec<u64> = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect();
        let total: u64 = counts.iter().sum();
        if total == 0 {
            return Summary::default();
        }
        let percentile = |percent: u64| {
            let rank = (total * percent).div_ceil(100);
            let mut seen = 0;
            let at = counts.iter().position(|count| {
                seen += count;
                seen >= rank
            });
            millis(middle(at.unwrap_or(BUCKETS - 1)))
        };
        Summary {
            mean_ms: millis(self.nanos.load(Ordering::Relaxed) as f64 / total as f64),
            p50_ms: percentile(50),
            p95_ms: percentile(95),
            p99_ms: percentile(99),
        }
    }
}

/// To a tenth of a microsecond, so that an answer can be read.
fn millis(nanos: f64) -> f64 {
    (nanos / 100.0).round() / 10_000.0
}

/// The first buckets hold one value each; from then on each power of two has [`STEPS`].
fn bucket(value: u64) -> usize {
    if value < STEPS as u64 {
        return value as usize;
    }
    let power = value.ilog2() as usize;
    let step = (value >> (power - 2)) as usize & (STEPS - 1);
    ((power - 1) * STEPS + step).min(BUCKETS - 1)
}

/// The middle of a bucket, in nanoseconds.
fn middle(bucket: usize) -> f64 {
    let (low, width) = match bucket {
        0..STEPS => (bucket as u64, 1_u64),
        _ => {
            let power = bucket / STEPS + 1;
            (((STEPS + bucket % STEPS) as u64) << (power - 2), 1 << (power - 2))
        }
    };
    (low as f64 + width as f64 / 2.0) * UNIT as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_each_other_and_hold_their_middle() {
        for at in 0..BUCKETS {
            assert_eq!(bucket((middle(at) / UNIT as f64) as u64), at);
        }
        assert_eq!(bucket(u64::MAX / UNIT), BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_within_an_eighth() {
        let latency = Latency::default();
        assert_eq!(latency.summary(), Summary::default());
        (1..=1_000).for_each(|micros| latency.record(Duration::from_micros(micros)));
        let summary = latency.summary();
        for (measured, true_ms) in
            [(summary.mean_ms, 0.5), (summary.p50_ms, 0.5), (summary.p95_ms, 0.95), (summary.p99_ms, 0.99)]
        {
            assert!((measured - true_ms).abs() <= true_ms / 8.0, "{measured} {true_ms}");
        }
    }
}
