//! Ends and renewals on their way to Redis.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;
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
    queue: Mutex<Queue>,
    wake: Notify,
    dropped: Counter,
}

/// Ends are numbered from 1 in their order.
#[derive(Default)]
struct Queue {
    waiting: VecDeque<(Instant, Ended)>,
    /// How many wait no more.
    done: u64,
    /// The newest end that waits, of each key that has one.
    newest: HashMap<String, u64>,
}

impl Queue {
    fn last(&self) -> u64 {
        self.done + self.waiting.len() as u64
    }

    fn push(&mut self, at: Instant, ended: Ended) {
        let key_id = ended.call.key_id.clone();
        self.waiting.push_back((at, ended));
        self.newest.insert(key_id, self.last());
    }

    fn pop(&mut self) {
        let Some((_, ended)) = self.waiting.pop_front() else { return };
        self.done += 1;
        if self.newest.get(&ended.call.key_id) == Some(&self.done) {
            self.newest.remove(&ended.call.key_id);
        }
    }
}

impl Settling {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let dropped = Counter::default();
        let help = "Ends of calls that Redis did not hear of in time: their leases have ended by themselves.";
        metrics.register("limits_unsettled", help, dropped.clone());
        Self { queue: Mutex::default(), wake: Notify::new(), dropped }
    }

    pub(super) fn push(&self, ended: Ended) {
        let mut queue = self.queue.lock();
        if queue.waiting.len() >= MOST {
            self.dropped.inc();
            return;
        }
        queue.push(Instant::now(), ended);
        drop(queue);
        self.wake.notify_one();
    }

    /// The newest end of a key that Redis has not said to know; none when it knows all.
    pub(super) fn newest(&self, key_id: &str) -> Option<u64> {
        self.queue.lock().newest.get(key_id).copied()
    }

    /// The newest end of all.
    fn last(&self) -> u64 {
        self.queue.lock().last()
    }

    fn is_done(&self, end: u64) -> bool {
        self.queue.lock().done >= end
    }

    /// The first ones. Those whose leases have ended by themselves are forgotten. Only for who has the turn, as is
    /// [`Settling::told`].
    pub(super) fn first(&self) -> Vec<Ended> {
        let mut queue = self.queue.lock();
        while queue.waiting.front().is_some_and(|(at, _)| at.elapsed() >= LEASE) {
            queue.pop();
            self.dropped.inc();
        }
        queue.waiting.iter().take(BATCH).map(|(_, ended)| ended.clone()).collect()
    }

    /// Redis knows of this many of the first ones.
    fn told(&self, many: usize) {
        let mut queue = self.queue.lock();
        (0..many).for_each(|_| queue.pop());
    }
}

impl Inner {
    pub(super) async fn keep(&self) {
        tokio::join!(self.settle(), self.beat(), self.tend());
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

    /// Tells Redis of all that waits now.
    pub(super) async fn settle_all(&self) -> Result<()> {
        self.settle_to(self.settling.last()).await
    }

    /// Tells Redis of this end and those before it, unless somebody else does. Where it does not answer they wait on.
    pub(super) async fn settle_to(&self, end: u64) -> Result<()> {
        let Some(side) = self.shared() else { return Ok(()) };
        while !self.settling.is_done(end) {
            let _turn = self.turn.lock().await;
            if !self.settling.is_done(end) {
                self.tell(side, &self.settling.first()).await?;
            }
        }
        Ok(())
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

    /// What is in flight here counts before Redis is asked for more, once it is back.
    pub(super) async fn catch_up(&self, side: &Side) -> Result<()> {
        let unknown = self.unknown.load(Ordering::Acquire);
        if self.known.load(Ordering::Acquire) >= unknown {
            return Ok(());
        }
        let _turn = self.turn.lock().await;
        if self.known.load(Ordering::Acquire) < unknown {
            for some in self.ledger.live().chunks(BATCH) {
                side.renew(some).await?;
            }
            self.known.fetch_max(unknown, Ordering::AcqRel);
        }
        Ok(())
    }

    /// Lets every call in flight go on. One that fails is tried again at the next beat.
    async fn renew_all(&self) {
        let Some(side) = self.shared() else { return };
        for some in self.ledger.live().chunks(BATCH) {
            // From the look at what goes on to its renewal nothing else is told.
            let _turn = self.turn.lock().await;
            if let Err(error) = side.renew(&self.ledger.still_live(some)).await {
                self.forgets();
                tracing::debug!(%error, "leases wait for Redis");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::allowance::{Caps, Lease, Size, Spent};

    fn end(key_id: &str) -> Ended {
        let (caps, estimate, used) = (Caps::default(), Spent::default(), Spent::default());
        let (key_id, lease) = (key_id.to_owned(), String::new());
        Ended::call(Lease { key_id, lease, caps, estimate, size: Size::CALL }, used)
    }

    #[test]
    fn an_end_is_known_to_wait_until_it_is_told_however_many_come_after_it() {
        let settling = Settling::new(&Metrics::default());
        settling.push(end("k"));
        (0..2 * BATCH).for_each(|_| settling.push(end("other")));
        let newest = settling.newest("k").unwrap();
        assert!(!settling.is_done(newest));
        settling.told(settling.first().len());
        assert_eq!((settling.is_done(newest), settling.newest("k")), (true, None));
        settling.push(end("k"));
        let later = settling.newest("k").unwrap();
        assert_eq!((later, settling.last()), (2 * BATCH as u64 + 2, later));
        while !settling.first().is_empty() {
            settling.told(settling.first().len());
        }
        assert!(settling.is_done(later) && settling.queue.lock().newest.is_empty());
    }
}
