//! A closed load: so many calls in flight, for so long, and what became of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What a load measured.
pub struct Measured {
    pub name: String,
    pub per_second: f64,
    pub failed: u64,
    /// Sorted, in microseconds.
    latencies: Vec<u32>,
}

impl Measured {
    /// The latency below which this part of the calls stayed, in microseconds.
    pub fn quantile(&self, q: f64) -> f64 {
        let last = self.latencies.len().saturating_sub(1);
        self.latencies.get((last as f64 * q).round() as usize).copied().map_or(f64::NAN, f64::from)
    }

    /// Several turns as one.
    pub fn together(name: &str, turns: Vec<Measured>) -> Self {
        let seconds: f64 = turns.iter().map(|turn| turn.latencies.len() as f64 / turn.per_second).sum();
        let failed = turns.iter().map(|turn| turn.failed).sum();
        let mut latencies: Vec<_> = turns.into_iter().flat_map(|turn| turn.latencies).collect();
        latencies.sort_unstable();
        let per_second = latencies.len() as f64 / seconds;
        Self { name: name.into(), per_second, failed, latencies }
    }

    /// One line: rate, latencies, and the ratio to a reference of the same run.
    pub fn print(&self, reference: Option<&Measured>) {
        let ratio = reference.map(|r| format!("{:.2} of {}", self.per_second / r.per_second, r.name));
        println!(
            "  {:<44} {:>9.0}/s  p50 {:>7.0} us  p99 {:>7.0} us  failed {}  {}",
            self.name,
            self.per_second,
            self.quantile(0.5),
            self.quantile(0.99),
            self.failed,
            ratio.unwrap_or_default()
        );
    }
}

/// Calls `call(n)` again and again from `in_flight` tasks until `time` is over. Every call ends within its
/// own deadline, so that the load ends.
pub async fn run<F, Fut>(name: &str, in_flight: usize, time: Duration, call: F) -> Measured
where
    F: Fn(u64) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = bool> + Send,
{
    let call = Arc::new(call);
    let numbers = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let task = || {
        let (call, numbers) = (call.clone(), numbers.clone());
        tokio::spawn(async move {
            let (mut latencies, mut failed) = (Vec::new(), 0);
            while began.elapsed() < time {
                let before = Instant::now();
                failed += u64::from(!call(numbers.fetch_add(1, Ordering::Relaxed)).await);
                latencies.push(before.elapsed().as_micros() as u32);
                // A call that never waits would keep the connections' own tasks from running.
                tokio::task::consume_budget().await;
            }
            (latencies, failed)
        })
    };
    let tasks: Vec<_> = (0..in_flight).map(|_| task()).collect();
    let (mut latencies, mut failed) = (Vec::new(), 0);
    for task in tasks {
        let (more, lost) = task.await.expect("a task of the load");
        latencies.extend(more);
        failed += lost;
    }
    let per_second = latencies.len() as f64 / began.elapsed().as_secs_f64();
    latencies.sort_unstable();
    Measured { name: name.into(), per_second, failed, latencies }
}

/// The better of two turns: a slow moment of the machine should not decide.
pub fn better(first: Measured, second: Measured) -> Measured {
    if second.per_second > first.per_second { second } else { first }
}

/// Resident memory of this process, in MiB.
pub fn resident_mib() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: f64 = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0.0);
    pages * 4_096.0 / 1_048_576.0
}
