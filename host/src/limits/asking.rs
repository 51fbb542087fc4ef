//! Calls that want to begin, on their way to Redis. Those that come while one asks ask together, so
//! that the busier Redis is the fewer scripts it runs. What has ended goes ahead of them, on the same connection.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::Inner;
use crate::store::allowance::{Ask, Ended, Verdict};
use crate::store::side::Side;
use crate::store::{Result, StoreError};

/// How many calls ask together at most: bounds how long one script keeps Redis busy.
const BATCH: usize = 64;
/// How many wait at most. Those that find no room decide by themselves, as without Redis.
const MOST: usize = 65_536;

type Waiting = (Ask, oneshot::Sender<Result<Verdict>>);

/// Calls that wait for the question under way to be answered.
#[derive(Default)]
pub(super) struct Asking(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    /// A question is under way.
    busy: bool,
    waiting: VecDeque<Waiting>,
}

/// Somebody asks. When that ends, however it does, those that wait are asked for.
struct Asks(Arc<Inner>);

impl Asking {
    /// The right to ask now, or where the answer will come.
    fn queue(&self, ask: Ask) -> Result<std::result::Result<Ask, oneshot::Receiver<Result<Verdict>>>> {
        let mut queue = self.0.lock();
        if !queue.busy {
            queue.busy = true;
            return Ok(Ok(ask));
        }
        if queue.waiting.len() >= MOST {
            return Err(StoreError::Overloaded);
        }
        let (answer, answered) = oneshot::channel();
        queue.waiting.push_back((ask, answer));
        Ok(Err(answered))
    }

    /// The next ones whose callers have not gone away. When there are none nobody asks any more.
    fn take(&self) -> Vec<Waiting> {
        let mut queue = self.0.lock();
        let mut batch = Vec::new();
        while batch.len() < BATCH
            && let Some(waiting) = queue.waiting.pop_front()
        {
            if !waiting.1.is_closed() {
                batch.push(waiting);
            }
        }
        queue.busy = !batch.is_empty();
        batch
    }

    /// Whether somebody waits, who is to be asked for. If not, nobody asks any more.
    fn goes_on(&self) -> bool {
        let mut queue = self.0.lock();
        queue.busy = !queue.waiting.is_empty();
        queue.busy
    }
}

impl Inner {
    /// As [`Side::reserve`], of one call.
    pub(super) async fn reserve(self: &Arc<Self>, side: &Side, ask: Ask) -> Result<Verdict> {
        match self.asking.queue(ask)? {
            Ok(ask) => {
                let _asks = Asks(self.clone());
                let verdicts = side.reserve(std::slice::from_ref(&ask)).await?;
                verdicts.into_iter().next().unwrap_or(Err(StoreError::Timeout))
            }
            // In time, unless the runtime ends and who was to ask with it.
            Err(answered) => match tokio::time::timeout(self.parts.patience, answered).await {
                Ok(Ok(verdict)) => verdict,
                _ => Err(StoreError::Timeout),
            },
        }
    }

    /// What has ended goes first: both are on their way at the same time, in this order.
    async fn exchange(&self, side: &Side, ended: &[Ended], asks: &[Ask]) -> Result<Vec<Result<Verdict>>> {
        // What Redis has not heard waits on.
        let (_, verdicts) = tokio::join!(self.tell(side, ended), side.reserve(asks));
        verdicts
    }

    /// Asks for those that wait until none are left.
    async fn ask_for_all(self: Arc<Self>) {
        let _asks = Asks(self.clone());
        let Some(side) = self.shared() else { return };
        loop {
            let _turn = self.turn.lock().await;
            // First: the end of a call that is given up from now on is told after it was asked for.
            let ended = self.settling.first();
            let batch = self.asking.take();
            if batch.is_empty() {
                return;
            }
            let (asks, answers): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
            let verdicts = self.exchange(side, &ended, &asks).await;
            let verdicts = verdicts.unwrap_or_else(|error| vec![Err(error); answers.len()]);
            for (answer, verdict) in answers.into_iter().zip(verdicts) {
                // Who has gone away meanwhile gives back what it was given.
                let _ = answer.send(verdict);
            }
        }
    }
}

impl Drop for Asks {
    fn drop(&mut self) {
        if self.0.asking.goes_on() {
            tokio::spawn(self.0.clone().ask_for_all());
        }
    }
}
