//! Taking a part of a key's limits from Redis, and giving it back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{Advance, LIFE, share};
use crate::limits::calendar::Calendar;
use crate::limits::reservation::Reservation;
use crate::limits::{Inner, Spent, bounded};
use crate::store::allowance::{Ask, Lease, Verdict};
use crate::store::side::Side;
use crate::store::{Result, StoreError};

/// How often it is looked for advances whose time is over.
const TENDED: Duration = Duration::from_millis(100);

impl Inner {
    /// Begins a call in what this node has in advance. None where it does not fit in. Sees to it that there is more
    /// when that is worth while.
    pub(in crate::limits) fn begin_in_advance(
        self: &Arc<Self>,
        side: &Side,
        call: &Lease,
        now: &Calendar,
    ) -> Option<Reservation> {
        if !call.caps.holds() || (call.caps.costs() && !self.counts(side)) {
            return None;
        }
        let begun = self.advances.begin(call, Instant::now());
        if let Some((pace, token)) = begun.wants {
            self.take_advance(call, pace, now, token);
        }
        let advance = begun.within?;
        self.ledger.enter_within(call.clone());
        // It may have been given back in between.
        if !advance.holds(call) {
            self.ledger.own(std::slice::from_ref(call));
        }
        Some(Reservation::within(self.clone(), call.clone(), advance))
    }

    pub(in crate::limits) fn end_in_advance(&self, advance: &Arc<Advance>, call: Lease, used: Spent) {
        if advance.end(call, used, |ended| self.settling.push(ended)) {
            self.advances.forget(advance);
        }
    }

    /// Asks for an advance behind this.
    fn take_advance(self: &Arc<Self>, call: &Lease, pace: u32, now: &Calendar, token: TaskTrackerToken) {
        let share = share(&call.caps, call.estimate, self.ledger.in_flight(&call.key_id), pace);
        let Some((size, room)) = share else { return self.advances.took(&call.key_id, None, Instant::now()) };
        let lease = format!("advance.{}.{}", self.run, self.number());
        let (key_id, estimate) = (call.key_id.clone(), bounded(room));
        let lease = Lease { key_id, lease, caps: call.caps, estimate, size };
        let ask = Ask { call: lease, today: now.today().to_owned(), hour: now.hour(), totals: None };
        let limits = self.clone();
        tokio::spawn(async move {
            let key_id = ask.call.key_id.clone();
            let taken = limits.ask_in_advance(ask).await;
            limits.advances.took(&key_id, taken.map(Arc::new), Instant::now());
            drop(token);
        });
    }

    async fn ask_in_advance(&self, ask: Ask) -> Option<Advance> {
        let side = self.shared()?;
        let failed = |error: &StoreError| tracing::debug!(%error, "nothing is to be had in advance");
        self.catch_up(side).await.inspect_err(failed).ok()?;
        let asked = Instant::now();
        let verdicts = side.reserve(std::slice::from_ref(&ask)).await.inspect_err(failed);
        let until = match verdicts.map(|mut verdicts| verdicts.pop()) {
            Ok(Some(Ok(Verdict::Advanced { left }))) => asked + left.unwrap_or(LIFE).min(LIFE),
            Ok(_) => return None,
            // It may have been taken.
            Err(_) => asked,
        };
        let advance = Advance::new(ask.call, until);
        if !advance.is_due(Instant::now()) {
            return Some(advance);
        }
        advance.hand_over(|ended| self.settling.push(ended));
        None
    }

    /// Gives back those whose time is over.
    pub(in crate::limits) async fn tend(&self) {
        let mut tick = interval(TENDED);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            for advance in self.advances.due(Instant::now()) {
                if let Err(error) = self.give_back(&advance).await {
                    tracing::debug!(%error, "what was taken in advance waits for Redis");
                    break;
                }
            }
        }
    }

    /// Calls that go on get leases of their own; then all that the advance has is given back.
    pub(in crate::limits) async fn give_back(&self, advance: &Arc<Advance>) -> Result<()> {
        let Some(side) = self.shared() else { return Ok(()) };
        // Until Redis knows of those that go on nothing is told of their ends.
        let _turn = self.turn.lock().await;
        let going_on = advance.close();
        if !going_on.is_empty() {
            side.renew(&going_on).await?;
        }
        advance.hand_over(|ended| self.settling.push(ended));
        // After that: a call that is only about to enter the ledger sees that it has its own.
        self.ledger.own(&going_on);
        self.advances.forget(advance);
        Ok(())
    }

    /// Gives back all that there is, and takes no more.
    pub(in crate::limits) async fn give_back_all(&self) -> Result<()> {
        self.advances.close().await;
        for advance in self.advances.due(Instant::now() + LIFE) {
            self.give_back(&advance).await?;
        }
        Ok(())
    }
}
