//! How one key stands on this node.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::FRESH;
use crate::store::allowance::{Cap, Caps, HELD, Lease, Refusal, Spent, Totals};

/// The calls of one key: those in flight, what they have reserved, and what those that have ended have used.
#[derive(Default)]
pub(super) struct Standing {
    live: HashMap<String, Live>,
    reserved: Spent,
    /// Costs that the usage counters may not have yet, until when, and their sum.
    held: VecDeque<(Instant, u64)>,
    held_micro: u64,
    window: Option<Window>,
    /// When, on which day, and what.
    pub(super) totals: Option<(Instant, String, Totals)>,
}

struct Live {
    call: Lease,
    /// Begun in an advance, which holds its place.
    within: bool,
}

/// A window of this node's own.
struct Window {
    began: Instant,
    length: Duration,
    requests: u64,
    used: Spent,
}

/// Where the limits of tokens and cost stand.
struct Level {
    cap: Cap,
    limit: u64,
    used: u64,
    held: u64,
    /// What calls in flight may reserve.
    room: u64,
    others: u64,
    mine: u64,
    reset: Option<Duration>,
}

impl Level {
    /// The same rule as in `reserve.lua`.
    fn check(&self) -> Result<(), Refusal> {
        let &Self { cap, limit, used, held, room, others, mine, reset } = self;
        let all = used + held + others;
        // What other nodes hold is not known here: so alone, too, a node keeps to its part of what is left.
        let is_reserved = held >= room.max(1) || (others > 0 && held + others + mine > room);
        match limit {
            0 => Ok(()),
            _ if used >= limit => Err(Refusal { cap, current: used, reserved: false, reset }),
            _ if is_reserved => Err(Refusal { cap, current: all, reserved: true, reset }),
            _ => Ok(()),
        }
    }
}

/// One node's part of a limit that counts: at least one, so that nobody is shut out; none of no limit.
fn share(limit: u64, nodes: u64) -> u64 {
    if limit == 0 { 0 } else { (limit / nodes).max(1) }
}

impl Standing {
    /// The calls in flight that have leases of their own.
    pub(super) fn renewed(&self) -> impl Iterator<Item = &Lease> {
        self.live.values().filter(|live| !live.within).map(|live| &live.call)
    }

    pub(super) fn in_flight(&self) -> usize {
        self.live.len()
    }

    pub(super) fn has(&self, call: &Lease) -> bool {
        self.live.contains_key(&call.lease)
    }

    pub(super) fn enter(&mut self, call: Lease) {
        self.add(Live { call, within: false });
    }

    pub(super) fn enter_within(&mut self, call: Lease) {
        self.add(Live { call, within: true });
    }

    fn add(&mut self, live: Live) {
        let (caps, Spent { tokens, cost_micro }) = (live.call.caps, live.call.estimate);
        if self.live.insert(live.call.lease.clone(), live).is_none() && caps.reserves() {
            self.reserved.tokens += tokens;
            self.reserved.cost_micro += cost_micro;
        }
    }

    pub(super) fn own(&mut self, call: &Lease) {
        if let Some(live) = self.live.get_mut(&call.lease) {
            live.within = false;
        }
    }

    pub(super) fn reserve(
        &mut self,
        call: &Lease,
        nodes: u64,
        totals: Totals,
        now: Instant,
    ) -> Result<(), Refusal> {
        let caps = &call.caps;
        self.check_concurrency(caps, nodes)?;
        self.check_window(call, nodes, now)?;
        self.check_costs(call, nodes, totals, now)?;
        if let Some(window) = &mut self.window
            && caps.window().is_some()
        {
            window.requests += 1;
        }
        self.enter(call.clone());
        Ok(())
    }

    fn check_concurrency(&self, caps: &Caps, nodes: u64) -> Result<(), Refusal> {
        let (limit, current) = (share(caps.concurrency.into(), nodes), self.live.len() as u64);
        match limit > 0 && current >= limit {
            true => Err(Refusal { cap: Cap::Concurrency, current, reserved: false, reset: None }),
            false => Ok(()),
        }
    }

    /// Begins a window when the last one has ended.
    fn check_window(&mut self, call: &Lease, nodes: u64, now: Instant) -> Result<(), Refusal> {
        let Some(length) = call.caps.window() else { return Ok(()) };
        let ended = |window: &Window| now.saturating_duration_since(window.began) >= length;
        if self.window.as_ref().is_none_or(ended) {
            let used = Spent::default();
            self.window = Some(Window { began: now, length, requests: 0, used });
        }
        let Some(window) = &self.window else { return Ok(()) };
        let left = (window.began + length).saturating_duration_since(now);
        let level = |cap, limit: u64, used, others, mine| {
            let limit = share(limit, nodes);
            let room = limit.saturating_sub(used);
            Level { cap, limit, used, held: 0, room, others, mine, reset: Some(left) }
        };
        let (caps, reserved, mine) = (&call.caps, self.reserved, call.estimate);
        level(Cap::Requests, caps.window_requests, window.requests, 0, 1).check()?;
        level(Cap::Tokens, caps.window_tokens, window.used.tokens, reserved.tokens, mine.tokens).check()?;
        let (used, others) = (window.used.cost_micro, reserved.cost_micro);
        level(Cap::WindowCost, caps.window_cost_micro, used, others, mine.cost_micro).check()
    }

    fn check_costs(&mut self, call: &Lease, nodes: u64, totals: Totals, now: Instant) -> Result<(), Refusal> {
        let held = self.held(now);
        let level = |cap, limit: u64, used| {
            let room = limit.saturating_sub(used) / nodes;
            let (others, mine) = (self.reserved.cost_micro, call.estimate.cost_micro);
            Level { cap, limit, used, held, room, others, mine, reset: None }
        };
        level(Cap::DailyCost, call.caps.daily_cost_micro, totals.daily).check()?;
        level(Cap::TotalCost, call.caps.total_cost_micro, totals.total).check()?;
        level(Cap::WeeklyCost, call.caps.weekly_cost_micro, totals.weekly).check()
    }

    fn held(&mut self, now: Instant) -> u64 {
        while let Some((_, cost)) = self.held.pop_front_if(|(until, _)| *until <= now) {
            self.held_micro -= cost;
        }
        self.held_micro
    }

    pub(super) fn leave(&mut self, call: &Lease, used: Spent, now: Instant) {
        if self.live.remove(&call.lease).is_none() || !call.caps.reserves() {
            return;
        }
        let Spent { tokens, cost_micro } = call.estimate;
        self.reserved.tokens -= tokens.min(self.reserved.tokens);
        self.reserved.cost_micro -= cost_micro.min(self.reserved.cost_micro);
        if let Some(window) = &mut self.window {
            window.used.tokens += used.tokens;
            window.used.cost_micro += used.cost_micro;
        }
        self.held(now);
        if call.caps.costs() && used.cost_micro > 0 {
            self.held.push_back((now + HELD, used.cost_micro));
            self.held_micro += used.cost_micro;
        }
    }

    /// Whether there is nothing to know of it any more.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        let ended = |window: &Window| now.saturating_duration_since(window.began) >= window.length;
        self.live.is_empty()
            && self.held.back().is_none_or(|(until, _)| *until <= now)
            && self.window.as_ref().is_none_or(ended)
            && self.totals.as_ref().is_none_or(|(at, ..)| now.saturating_duration_since(*at) >= FRESH)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::allowance::Size;

    /// Nodes that see the same totals, as the usage counters have them.
    struct Nodes {
        nodes: Vec<Standing>,
        counted: u64,
        /// When the counters get it, and what.
        coming: Vec<(Instant, u64)>,
        now: Instant,
        calls: u64,
    }

    impl Nodes {
        fn new(n: usize) -> Self {
            let nodes = (0..n).map(|_| Standing::default()).collect();
            Self { nodes, counted: 0, coming: Vec::new(), now: Instant::now(), calls: 0 }
        }

        fn begin(&mut self, node: usize, caps: Caps, estimate: u64) -> Result<Lease, Refusal> {
            self.calls += 1;
            let estimate = Spent { tokens: estimate, cost_micro: estimate };
            let (key_id, lease) = ("k".to_owned(), self.calls.to_string());
            let call = Lease { key_id, lease, caps, estimate, size: Size::CALL };
            let totals = Totals { daily: self.counted, weekly: self.counted, total: self.counted };
            let n = self.nodes.len() as u64;
            self.nodes[node].reserve(&call, n, totals, self.now).map(|()| call)
        }

        fn end(&mut self, node: usize, call: &Lease, used: u64) {
            let used = Spent { tokens: used, cost_micro: used };
            self.nodes[node].leave(call, used, self.now);
            self.coming.push((self.now + HELD, used.cost_micro));
        }

        fn pass(&mut self, ms: u64) {
            self.now += Duration::from_millis(ms);
            let (now, counted) = (self.now, &mut self.counted);
            self.coming.retain(|(at, cost)| {
                *counted += if *at <= now { *cost } else { 0 };
                *at > now
            });
        }
    }

    /// Begins on a node with an estimate, or ends the oldest call there with what it used; then time passes.
    fn steps() -> impl Strategy<Value = Vec<(bool, usize, u64, u64)>> {
        proptest::collection::vec((any::<bool>(), 0..4_usize, 0..40_u64, 0..900_u64), 1..200)
    }

    proptest! {
        #[test]
        fn costs_pass_the_limit_by_what_is_promised(n in 1..4_usize, limit in 1..400_u64, steps in steps()) {
            // A call costs what was expected of it at most: e is 0, and c is 40.
            let caps = Caps { total_cost_micro: limit, ..Caps::default() };
            let (mut nodes, mut flying, mut used) = (Nodes::new(n), vec![Vec::new(); n], 0);
            for (begins, node, amount, ms) in steps {
                let node = node % n;
                if begins {
                    flying[node].extend(nodes.begin(node, caps, amount));
                } else if let Some(call) = flying[node].pop() {
                    let cost = call.estimate.cost_micro;
                    nodes.end(node, &call, cost);
                    used += cost;
                }
                nodes.pass(ms);
            }
            let coming: u64 = flying.iter().flatten().map(|call| call.estimate.cost_micro).sum();
            let n = n as u64;
            let most = limit + (n - 1) * (limit / n) + n * 40;
            prop_assert!(used + coming <= most, "{} of {limit}", used + coming);
        }

        #[test]
        fn windows_pass_the_limit_by_what_is_promised(n in 1..4_usize, limit in 1..400_u64, steps in steps()) {
            let window = Some(Duration::from_secs(86_400));
            let (requests, tokens) = (limit / 8 + 1, limit);
            let caps = Caps { window, window_requests: requests, window_tokens: tokens, ..Caps::default() };
            let (mut nodes, mut flying, mut begun, mut used) = (Nodes::new(n), vec![Vec::new(); n], 0, 0);
            for (begins, node, amount, ms) in steps {
                let node = node % n;
                if begins {
                    let call = nodes.begin(node, caps, amount);
                    begun += u64::from(call.is_ok());
                    flying[node].extend(call);
                } else if let Some(call) = flying[node].pop() {
                    nodes.end(node, &call, call.estimate.tokens);
                    used += call.estimate.tokens;
                }
                nodes.pass(ms);
            }
            let n = n as u64;
            let share = |limit: u64| (limit / n).max(1);
            let used = used + flying.iter().flatten().map(|call| call.estimate.tokens).sum::<u64>();
            prop_assert!(begun <= n * share(requests), "{begun} of {requests}");
            prop_assert!(used <= n * (share(tokens) + 40), "{used} of {tokens}");
        }
    }

    #[test]
    fn a_window_ends_and_begins_with_the_next_call() {
        let mut nodes = Nodes::new(1);
        let window = Some(Duration::from_secs(10));
        let caps = Caps { window, window_requests: 1, ..Caps::default() };
        assert!(nodes.begin(0, caps, 0).is_ok());
        nodes.pass(4_000);
        let refusal = nodes.begin(0, caps, 0).unwrap_err();
        assert_eq!((refusal.cap, refusal.reset), (Cap::Requests, Some(Duration::from_secs(6))));
        nodes.pass(6_000);
        assert!(nodes.begin(0, caps, 0).is_ok());
        assert!(nodes.begin(0, caps, 0).is_err());
    }

    #[test]
    fn what_has_ended_twice_has_ended_once_and_then_nothing_is_left() {
        let mut nodes = Nodes::new(1);
        let caps = Caps { total_cost_micro: 100, ..Caps::default() };
        let (a, b) = (nodes.begin(0, caps, 30).unwrap(), nodes.begin(0, caps, 30).unwrap());
        for _ in 0..3 {
            nodes.end(0, &a, 20);
        }
        let standing = &nodes.nodes[0];
        assert_eq!((standing.reserved.cost_micro, standing.held.len(), standing.live.len()), (30, 1, 1));
        nodes.end(0, &b, 0);
        nodes.pass(HELD.as_millis() as u64);
        assert!(nodes.nodes[0].is_idle(nodes.now));
    }
}
