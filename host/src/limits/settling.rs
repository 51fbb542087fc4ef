//! Ends and renewals on their way to Redis.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::Inner;
use crate::store::Result;
use crate::store::allowance::{Ended, LEASE};
use crate::store::side::Side;
use crate::telemetry::Metrics;

/// How often leases are renewed: two may fail before one ends.
const RENEWED: Duration = Duration::from_secs(10);
/// How many calls one script ends or renews at most: bounds how long it keeps Redis busy.
const BATCH: usize = 250;
/// How many ends wait at most. The reservations of those that find no room end with their leases.
const MOST: usize = 65_536;
/// Between attempts, while Redis does not answer.
const PAUSE: Duration = Duration::from_millis(250);

/// Calls that have ended, for Redis to hear of.
pub(super) struct Settling {
    waiting: Mutex<VecDeque<(Instant, Ended)>>,
    wake: Notify,
    dropped: Counter,
}

impl Settling {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let dropped = Counter::default();
        let help = "Ends of calls that Redis did not hear of in time: their leases have ended by themselves.";
        metrics.register("limits_unsettled", help, dropped.clone());
        Self { waiting: Mutex::default(), wake: Notify::new(), dropped }
    }

    pub(super) fn push(&self, ended: Ended) {
        let mut waiting = self.waiting.lock();
        if waiting.len() >= MOST {
            self.dropped.inc();
            return;
        }
        waiting.push_back((Instant::now(), ended));
        drop(waiting);
        self.wake.notify_one();
    }

    /// The next ones. Those whose leases have ended by themselves are forgotten.
    pub(super) fn take(&self) -> Taken<'_> {
        let mut waiting = self.waiting.lock();
        while waiting.front().is_some_and(|(at, _)| at.elapsed() >= LEASE) {
            waiting.pop_front();
            self.dropped.inc();
        }
        let some = waiting.len().min(BATCH);
        Taken { settling: self, ended: waiting.drain(..some).collect() }
    }
}

/// Ends that are being told. They wait again if this is dropped before Redis has said that it knows.
pub(super) struct Taken<'a> {
    settling: &'a Settling,
    ended: Vec<(Instant, Ended)>,
}

impl Taken<'_> {
    fn is_empty(&self) -> bool {
        self.ended.is_empty()
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if self.ended.is_empty() {
            return;
        }
        let mut waiting = self.settling.waiting.lock();
        for ended in self.ended.drain(..).rev() {
            waiting.push_front(ended);
        }
        drop(waiting);
        self.settling.wake.notify_one();
    }
}

impl Inner {
    pub(super) async fn keep(&self) {
        tokio::join!(self.settle(), self.beat());
    }

    async fn settle(&self) {
        loop {
            self.settling.wake.notified().await;
            self.settle_all().await;
        }
    }

    async fn beat(&self) {
        let mut beat = interval(RENEWED);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            beat.tick().await;
            self.ledger.sweep(Instant::now());
            self.renew_all().await;
        }
    }

    /// Until nothing waits, or Redis does not answer: then the rest is tried again.
    pub(super) async fn settle_all(&self) {
        let Some(side) = self.shared() else { return };
        loop {
            let turn = self.turn.lock().await;
            let ended = self.settling.take();
            if ended.is_empty() {
                return;
            }
            if let Err(error) = self.tell(side, ended).await {
                drop(turn);
                tracing::debug!(%error, "ends of calls wait for Redis");
                sleep(PAUSE).await;
                return;
            }
        }
    }

    /// Tells Redis what has ended. What fails waits again: telling it twice changes nothing.
    pub(super) async fn tell(&self, side: &Side, mut taken: Taken<'_>) -> Result<()> {
        if taken.is_empty() {
            return Ok(());
        }
        let ended: Vec<_> = taken.ended.iter().map(|(_, ended)| ended.clone()).collect();
        side.spend(&ended).await?;
        taken.ended.clear();
        Ok(())
    }

    /// Lets every call in flight go on. One that fails is tried again at the next beat.
    async fn renew_all(&self) {
        let Some(side) = self.shared() else { return };
        // From the look at what goes on to its renewal nothing else is told.
        let _turn = self.turn.lock().await;
        for live in self.ledger.live().chunks(BATCH) {
            if let Err(error) = side.renew(live).await {
                tracing::debug!(%error, "leases wait for Redis");
                return;
            }
        }
    }
}
