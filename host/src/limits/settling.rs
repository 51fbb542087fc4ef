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

    /// Whether a call of this key is among the last that have ended, and Redis has not said that it knows.
    pub(super) fn waits_for(&self, key_id: &str) -> bool {
        self.waiting.lock().iter().rev().take(BATCH).any(|(_, ended)| ended.call.key_id == key_id)
    }

    /// The first ones. Those whose leases have ended by themselves are forgotten. Only for who has the turn, as is
    /// [`Settling::told`].
    pub(super) fn first(&self) -> Vec<Ended> {
        let mut waiting = self.waiting.lock();
        while waiting.front().is_some_and(|(at, _)| at.elapsed() >= LEASE) {
            waiting.pop_front();
            self.dropped.inc();
        }
        waiting.iter().take(BATCH).map(|(_, ended)| ended.clone()).collect()
    }

    /// Redis knows of this many of the first ones.
    fn told(&self, many: usize) {
        self.waiting.lock().drain(..many);
    }
}

impl Inner {
    pub(super) async fn keep(&self) {
        tokio::join!(self.settle(), self.beat());
    }

    async fn settle(&self) {
        loop {
            self.settling.wake.notified().await;
            while let Err(error) = self.settle_all().await {
                tracing::debug!(%error, "ends of calls wait for Redis");
                sleep(PAUSE).await;
            }
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

    /// Tells Redis of all that waits. Where it does not answer the rest waits on.
    pub(super) async fn settle_all(&self) -> Result<()> {
        let Some(side) = self.shared() else { return Ok(()) };
        loop {
            let _turn = self.turn.lock().await;
            let ended = self.settling.first();
            self.tell(side, &ended).await?;
            if ended.len() < BATCH {
                return Ok(());
            }
        }
    }

    /// Tells Redis of the first that wait. They wait until it has said that it knows: telling it twice changes nothing.
    pub(super) async fn tell(&self, side: &Side, first: &[Ended]) -> Result<()> {
        if first.is_empty() {
            return Ok(());
        }
        side.spend(first).await?;
        self.settling.told(first.len());
        Ok(())
    }

    /// Lets every call in flight go on. One that fails is tried again at the next beat.
    async fn renew_all(&self) {
        let Some(side) = self.shared() else { return };
        for some in self.ledger.live().chunks(BATCH) {
            // From the look at what goes on to its renewal nothing else is told.
            let _turn = self.turn.lock().await;
            if let Err(error) = side.renew(&self.ledger.still_live(some)).await {
                tracing::debug!(%error, "leases wait for Redis");
                return;
            }
        }
    }
}
