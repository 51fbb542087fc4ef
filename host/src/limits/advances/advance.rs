//! One part of a key's limits, and the calls that begin in it.

use std::collections::HashMap;
use std::time::Instant;

use parking_lot::Mutex;

use crate::store::allowance::{Ended, Lease, Spent};

/// What a node has in advance.
pub(in crate::limits) struct Advance {
    /// What Redis knows of it: all of it is taken there until that is told of its end.
    lease: Lease,
    until: Instant,
    state: Mutex<State>,
}

struct State {
    /// What may still begin, and what that may use.
    requests: u32,
    room: Spent,
    used: Spent,
    in_flight: HashMap<String, Flying>,
    /// No call begins in it any more.
    closed: bool,
    /// Its end is told.
    ended: bool,
}

struct Flying {
    call: Lease,
    /// Redis may have a lease for this one.
    copied: bool,
}

const NOTHING: Spent = Spent { tokens: 0, cost_micro: 0 };

impl Advance {
    /// Calls begin in it until then.
    pub(super) fn new(lease: Lease, until: Instant) -> Self {
        let state = State {
            requests: lease.size.requests,
            room: lease.estimate,
            used: NOTHING,
            in_flight: HashMap::new(),
            closed: false,
            ended: false,
        };
        Self { lease, until, state: Mutex::new(state) }
    }

    pub(super) fn key_id(&self) -> &str {
        &self.lease.key_id
    }

    /// How many calls may begin.
    pub(super) fn left(&self) -> u32 {
        let state = self.state.lock();
        if state.closed { 0 } else { state.requests }
    }

    /// Begins a call in it, if it fits in.
    pub(super) fn admit(&self, call: &Lease, now: Instant) -> bool {
        let Lease { lease, caps, estimate: Spent { tokens, cost_micro }, .. } = call;
        let mut state = self.state.lock();
        let has_slot = state.requests > 0 && state.in_flight.len() < self.lease.size.slots as usize;
        if state.closed || now >= self.until || *caps != self.lease.caps || !has_slot {
            return false;
        }
        if *tokens > state.room.tokens || *cost_micro > state.room.cost_micro {
            state.closed |= self.is_used_up(&state);
            return false;
        }
        state.requests -= 1;
        state.room.tokens -= tokens;
        state.room.cost_micro -= cost_micro;
        state.in_flight.insert(lease.clone(), Flying { call: call.clone(), copied: false });
        true
    }

    /// Whether a call has no lease of its own.
    pub(super) fn holds(&self, call: &Lease) -> bool {
        self.state.lock().in_flight.contains_key(&call.lease)
    }

    /// Whether hardly anything is left that calls may use.
    fn is_used_up(&self, state: &State) -> bool {
        let Spent { tokens, cost_micro } = self.lease.estimate;
        state.room.tokens < tokens / 4 || state.room.cost_micro < cost_micro / 4
    }

    /// A call that has begun in it has ended. Tells what Redis has to hear of that, and answers whether this was the
    /// end of the advance.
    pub(super) fn end(&self, call: Lease, used: Spent, mut tell: impl FnMut(Ended)) -> bool {
        let mut state = self.state.lock();
        let Some(flying) = state.in_flight.remove(&call.lease) else {
            tell(Ended::call(call, used));
            return false;
        };
        let give = |room: &mut u64, estimate: u64, used: u64| *room = (*room + estimate).saturating_sub(used);
        give(&mut state.room.tokens, call.estimate.tokens, used.tokens);
        give(&mut state.room.cost_micro, call.estimate.cost_micro, used.cost_micro);
        state.used.tokens += used.tokens;
        state.used.cost_micro += used.cost_micro;
        if flying.copied {
            // What it used is counted here.
            tell(Ended::call(call, NOTHING));
        }
        let is_over = state.in_flight.is_empty() && (state.closed || state.requests == 0);
        if is_over {
            self.finish(&mut state, tell);
        }
        is_over
    }

    /// Whether it is over by itself.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        now >= self.until
    }

    /// No call begins in it any more. Answers those that go on, for Redis to be told.
    pub(super) fn close(&self) -> Vec<Lease> {
        let mut state = self.state.lock();
        state.closed = true;
        let copied = |flying: &mut Flying| {
            flying.copied = true;
            flying.call.clone()
        };
        state.in_flight.values_mut().map(copied).collect()
    }

    /// The calls that go on have leases of their own from now on: Redis knows all of them. Tells its end.
    pub(super) fn hand_over(&self, tell: impl FnMut(Ended)) {
        let mut state = self.state.lock();
        state.in_flight.clear();
        self.finish(&mut state, tell);
    }

    /// Tells its end, once. Under the lock: who finds it ended finds it told.
    fn finish(&self, state: &mut State, mut tell: impl FnMut(Ended)) {
        if !std::mem::replace(&mut state.ended, true) {
            tell(Ended { call: self.lease.clone(), used: state.used, unmade: state.requests });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::store::allowance::{Caps, Size};

    const SIZE: Size = Size { slots: 4, requests: 12 };
    const ROOM: u64 = 100;

    fn cost(cost_micro: u64) -> Spent {
        Spent { tokens: cost_micro, cost_micro }
    }

    fn lease(lease: String, size: Size, cost_micro: u64) -> Lease {
        let caps = Caps { concurrency: 100, total_cost_micro: 9_000, ..Caps::default() };
        Lease { key_id: "k".into(), lease, caps, estimate: cost(cost_micro), size }
    }

    #[derive(Debug, Clone)]
    enum Step {
        /// With an estimate.
        Begin(u64),
        /// The call at this place, with what it used.
        End(usize, u64),
        /// Redis is told of those that go on, and nobody knows whether it has heard.
        Close,
        /// It has heard.
        HandOver,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            9 => (0..60_u64).prop_map(Step::Begin),
            9 => (any::<usize>(), 0..60_u64).prop_map(|(at, used)| Step::End(at, used)),
            1 => Just(Step::Close),
            1 => Just(Step::HandOver),
        ];
        proptest::collection::vec(step, 1..80)
    }

    /// An advance, and what is to be true of it.
    struct Model {
        advance: Advance,
        flying: Vec<Lease>,
        begun: u32,
        room: u64,
        used: u64,
        closed: bool,
        copied: Vec<String>,
        told: Vec<Ended>,
    }

    impl Model {
        fn begin(&mut self, estimate: u64, now: Instant) -> Result<(), TestCaseError> {
            let call = lease(self.begun.to_string(), Size::CALL, estimate);
            let is_full = self.flying.len() == SIZE.slots as usize || self.begun == SIZE.requests;
            let fits = !self.closed && !is_full && estimate <= self.room;
            self.closed |= !is_full && !fits && self.room < ROOM / 4;
            prop_assert_eq!(self.advance.admit(&call, now), fits);
            if fits {
                self.begun += 1;
                self.room -= estimate;
                self.flying.push(call);
            }
            Ok(())
        }

        fn end(&mut self, at: usize, used: u64) {
            if let Some(at) = at.checked_rem(self.flying.len()) {
                let call = self.flying.remove(at);
                self.room = (self.room + call.estimate.cost_micro).saturating_sub(used);
                self.used += used;
                self.advance.end(call, cost(used), |ended| self.told.push(ended));
            }
        }

        fn close(&mut self) {
            self.closed = true;
            self.copied.extend(self.advance.close().into_iter().map(|call| call.lease));
        }

        fn hand_over(&mut self) {
            self.close();
            self.advance.hand_over(|ended| self.told.push(ended));
        }
    }

    proptest! {
        /// Whatever happens: no more begins than fits in, what is used is told once, and Redis hears of the end of
        /// each call that it may have been told of.
        #[test]
        fn what_is_used_in_an_advance_is_told_once(steps in steps()) {
            let now = Instant::now();
            let advance = Advance::new(lease("a".into(), SIZE, ROOM), now + Duration::from_secs(1));
            let (flying, copied, told) = (Vec::new(), Vec::new(), Vec::new());
            let mut model = Model { advance, flying, begun: 0, room: ROOM, used: 0, closed: false, copied, told };
            for step in steps {
                match step {
                    Step::Begin(estimate) => model.begin(estimate, now)?,
                    Step::End(at, used) => model.end(at, used),
                    Step::Close => model.close(),
                    Step::HandOver => model.hand_over(),
                }
            }
            let late = lease("late".into(), Size::CALL, 0);
            prop_assert!(!model.advance.admit(&late, now + Duration::from_secs(1)));
            while !model.flying.is_empty() {
                model.end(0, 1);
            }
            model.hand_over();
            let Model { told, begun, used, copied, .. } = model;
            prop_assert_eq!(told.iter().map(|ended| ended.used.cost_micro).sum::<u64>(), used);
            let ends: Vec<_> = told.iter().filter(|ended| ended.call.is_advance()).collect();
            prop_assert_eq!((ends.len(), ends[0].unmade), (1, SIZE.requests - begun));
            for lease in copied {
                prop_assert!(told.iter().any(|ended| ended.call.lease == lease), "{}", lease);
            }
        }
    }
}
