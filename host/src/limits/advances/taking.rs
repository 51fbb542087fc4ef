//! Taking a part of a key's limits from Redis, and giving it back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval};

use super::{Advance, LIFE, share};
use crate::limits::calendar::Calendar;
use crate::limits::reservation::Reservation;
use crate::limits::{Inner, Spent, bounded};
use crate::store::Result;
use crate::store::allowance::{Ask, Ended, Lease, Verdict};
use crate::store::side::Side;

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
        if !call.caps.holds() {
            return None;
        }
        let begun = self.advances.begin(call, Instant::now());
        if let Some(pace) = begun.wants {
            self.take_advance(side, call, pace, now);
        }
        begun.within.map(|advance| Reservation::within(self.clone(), call.clone(), advance))
    }

    pub(in crate::limits) fn end_in_advance(&self, advance: &Arc<Advance>, call: Lease, used: Spent) {
        let told = advance.end(call, used);
        if !told.is_empty() && advance.has_ended() {
            self.advances.forget(advance);
        }
        told.into_iter().for_each(|ended| self.settling.push(ended));
    }

    /// Asks for an advance behind this.
    fn take_advance(self: &Arc<Self>, side: &Side, call: &Lease, pace: u32, now: &Calendar) {
        let share = share(&call.caps, call.estimate, self.ledger.in_flight(&call.key_id), pace);
        let share = share.filter(|_| !call.caps.costs() || self.counts(side));
        let Some((size, room)) = share else { return self.advances.took(&call.key_id, None, Instant::now()) };
        let lease = format!("advance.{}.{}", self.run, self.number());
        let (key_id, estimate) = (call.key_id.clone(), bounded(room));
        let lease = Lease { key_id, lease, caps: call.caps, estimate, size };
        let ask = Ask { call: lease, today: now.today().to_owned(), hour: now.hour(), totals: None };
        let limits = self.clone();
        self.advances.asking.spawn(async move {
            let key_id = ask.call.key_id.clone();
            let taken = limits.ask_in_advance(ask).await;
            limits.advances.took(&key_id, taken.map(Arc::new), Instant::now());
        });
    }

    async fn ask_in_advance(&self, ask: Ask) -> Option<Advance> {
        let (side, asked) = (self.shared()?, Instant::now());
        let verdicts = side.reserve(std::slice::from_ref(&ask)).await;
        match verdicts.map(|mut verdicts| verdicts.pop()) {
            Ok(Some(Ok(Verdict::Advanced { window, left }))) => {
                Some(Advance::new(ask.call, window, asked + left.unwrap_or(LIFE).min(LIFE)))
            }
            Ok(_) => None,
            Err(_) => {
                // It may have been taken; its requests stay counted then, as nobody knows in which window.
                self.settling.push(Ended::call(ask.call, Spent::default()));
                None
            }
        }
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
        self.ledger.own(&going_on);
        advance.hand_over().into_iter().for_each(|ended| self.settling.push(ended));
        self.advances.forget(advance);
        Ok(())
    }

    /// Gives back all that there is, and takes no more.
    pub(in crate::limits) async fn give_back_all(&self) -> Result<()> {
        self.advances.asking.close();
        self.advances.asking.wait().await;
        for advance in self.advances.due(Instant::now() + LIFE) {
            self.give_back(&advance).await?;
        }
        Ok(())
    }
}
