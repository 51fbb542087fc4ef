//! Calls that want to begin, on their way to Redis. Those that come while one asks ask together, so
//! that the busier Redis is the fewer scripts it runs. What has ended goes ahead of them, on the same connection.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::Inner;
use super::calendar::Calendar;
use crate::store::allowance::{Ask, Cap, Ended, Lease, Refusal, Verdict};
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
    /// Whether Redis's own counters have all that was used, so that it can judge costs by itself.
    pub(super) fn counts(&self, side: &Side) -> bool {
        side.has_counted_all() && self.parts.records.active.enter().needs.redis
    }

    pub(super) async fn ask(self: &Arc<Self>, side: &Side, call: &Lease, now: &Calendar) -> Result<Verdict> {
        timeout(self.parts.patience, self.catch_up(side)).await.unwrap_or(Err(StoreError::Timeout))?;
        let totals = match call.caps.costs() && !self.counts(side) {
            true => Some(self.totals(call, now).await?),
            false => None,
        };
        let ask =
            |totals| Ask { call: call.clone(), today: now.today().to_owned(), hour: now.hour(), totals };
        match self.ask_told(side, ask(totals)).await? {
            Verdict::Uncounted => {
                let totals = Some(self.totals(call, now).await?);
                self.ask_told(side, ask(totals)).await
            }
            verdict => Ok(verdict),
        }
    }

    /// What has ended here, or was taken here in advance, is in the way of no call that asks later, even if Redis had
    /// not been told. If Redis cannot be told in time, its refusal stands.
    async fn ask_told(self: &Arc<Self>, side: &Side, ask: Ask) -> Result<Verdict> {
        let key_id = &ask.call.key_id;
        // In this order: the end of one that is gone is told or untold.
        let gone = self.advances.gone(key_id);
        let untold = self.settling.newest(key_id);
        let verdict = self.reserve(side, ask.clone()).await?;
        let Verdict::Refused(Refusal { cap, reserved, .. }) = verdict else { return Ok(verdict) };
        // What is used is not less when a call has ended; of requests, some may not have been made.
        let may_change = matches!(cap, Cap::Concurrency | Cap::Requests) || reserved;
        let cleared = self.clear_the_way(key_id, untold.is_some() && may_change, gone);
        match timeout(self.parts.patience, cleared).await {
            Ok(Ok(true)) => self.reserve(side, ask).await,
            Ok(Ok(false) | Err(_)) | Err(_) => Ok(verdict),
        }
    }

    /// Tells Redis of what was taken in advance for a key, if anything was, and of the calls of it that have ended.
    /// Answers whether there was anything to tell that matters, now or since so many advances were gone.
    async fn clear_the_way(&self, key_id: &str, ends_matter: bool, gone: u64) -> Result<bool> {
        for advance in self.advances.of(key_id).await {
            self.give_back(&advance).await?;
        }
        let matters = ends_matter || self.advances.gone(key_id) != gone;
        if let Some(end) = self.settling.newest(key_id).filter(|_| matters) {
            self.settle_to(end).await?;
        }
        Ok(matters)
    }

    /// As [`Side::reserve`], of one call.
    pub(super) async fn reserve(self: &Arc<Self>, side: &Side, ask: Ask) -> Result<Verdict> {
        match self.asking.queue(ask)? {
            Ok(ask) => {
                let _asks = Asks(self.clone());
                let verdicts = side.reserve(std::slice::from_ref(&ask)).await?;
                verdicts.into_iter().next().unwrap_or(Err(StoreError::Timeout))
            }
            // In time, unless the runtime ends and who was to ask with it.
            Err(answered) => match timeout(self.parts.patience, answered).await {
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
