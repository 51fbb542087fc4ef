//! How much a key may use at a time, in a window and in total.
//!
//! A call *reserves* before it begins, and *settles* when it has ended. With Redis both are one script call, the
//! second one behind the answer and together with others, so that all nodes see the same counters. A reservation is
//! a lease: it lives for 30 s unless the node that holds it renews it, so that nothing leaks when that is killed.
//! A key without limits costs no call at all.
//!
//! # What is promised with Redis
//! At most `L` calls are in flight, and at most `L` requests begin in a window. A call that is alone is admitted
//! while what is counted is below the limit; one beside others only if what is counted, what they have reserved and
//! what is expected of it fit. So a limit of tokens or cost is passed by at most `c + e`: `c`, what one call uses, and
//! `e`, by how much the calls in flight use more than was expected of them. For 3 s after a call has ended its cost
//! is held beside the usage counters, so that it does not matter when within that time they get it.
//!
//! # In advance
//! Of the limits of a key of which 80 calls a second begin here this node takes a part in advance, and admits what
//! fits in by itself. In Redis an advance counts like calls in flight, so that all of the above holds; of those that
//! `e` is about some have ended up to 0.4 s ago then. An advance is an eighth of a limit at most, and all of them fit
//! under half of it when they are taken. One is given back when it is in the way of a call of this node, and else
//! after 0.25 s, if Redis answers. So for the sake of another node's a call is refused only if calls have taken half
//! of a limit in that time, what is expected of itself included. When a node is killed its advances end like its
//! leases; the requests that were counted for them, 256 each at most, stay counted until their window ends.
//!
//! # Without Redis
//! When there is none each node works on a share of its own, `s = max(1, floor(L / n))`, where `n` is how many nodes
//! it has heard of within ten seconds. With `SWITCHYARD_LIMITS_WITHOUT_REDIS=closed` it refuses instead while a Redis
//! that is configured is away; what was taken in advance is used for 0.25 s even then. A node that is alone and has no
//! Redis is exact. Else, if all nodes know of each other:
//!
//! - concurrency: at most `(n - 1) * s` calls above `L`, those that were admitted or taken in advance before Redis was
//!   lost included, and at most `max(0, n - L)` when none were;
//! - requests of a window: at most `n * s` above `L` for each window's length, `max(L, n)` at the most;
//! - tokens and cost of a window: `n * (s + c + e)` above `L` likewise;
//! - daily, weekly and total cost: at most `(n - 1) * s + n * (c + e)` above `L`. What is counted is read from the usage totals, and a node lets its
//!   calls in flight reserve an `n`th of what is left; so this survives a restart.
//!
//! When Redis is back a node tells it of its calls in flight before it asks for more.
//!
//! While a node keeps usage that no store takes, nobody can say what a key has cost: there a key with such a limit is
//! refused with 503 until a store has counted it.
//!
//! Of nodes that do not know of each other each takes its share of too much: `n` counts all of them then, and the `s`
//! of each is what it believes.
//!
//! # Layout
//! - `ledger`: the calls in flight on this node, and its share
//! - `reservation`: one call, from its admission to its end
//! - `asking`: beginnings on their way to Redis; `settling`: ends and renewals
//! - `advances`: what this node may admit without asking
//! - `totals`: what usage counters say; `calendar`: which of them count now
//! - `exceeded`: what a person is told

mod advances;
mod asking;
mod calendar;
mod exceeded;
mod ledger;
mod reservation;
mod settling;
mod totals;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::tz::Offset;
use prometheus_client::metrics::counter::Counter;
use tokio::time::timeout;

use crate::store::allowance::{Lease, Size, Totals, Verdict};
use crate::store::side::Side;
use crate::store::usage::MAX_COUNT;
use crate::store::{Result, StoreError};
use crate::strategy::records::Records;
use crate::telemetry::{Metrics, Seldom};

pub use crate::store::allowance::{Cap, Caps, Refusal, Spent, WeekStart};
pub use exceeded::Exceeded;
pub use reservation::Reservation;

use advances::Advances;
use asking::Asking;
use calendar::Calendar;
use ledger::Ledger;
use settling::Settling;

/// What to do with limits while the Redis that is configured is away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum WithoutRedis {
    /// Each node works on its share of a limit.
    #[default]
    Bounded,
    /// Keys with limits are refused with 503.
    Closed,
}

/// How many nodes there are, this one included, as far as it has heard.
pub type Nodes = Box<dyn Fn() -> usize + Send + Sync>;

/// What limits are made of.
pub struct Parts {
    /// The store that nodes share limits in, if it does.
    pub redis: Option<Arc<Side>>,
    /// Where usage totals are read when Redis cannot tell.
    pub records: Arc<Records>,
    pub nodes: Nodes,
    pub without_redis: WithoutRedis,
    /// How long a call waits at most for what others ask or tell Redis before it: some of Redis's deadlines.
    pub patience: Duration,
    /// Where days begin.
    pub offset: Offset,
}

/// The limits of all keys. Clones are the same.
#[derive(Clone)]
pub struct Limits(Arc<Inner>);

struct Inner {
    parts: Parts,
    ledger: Ledger,
    advances: Advances,
    asking: Asking,
    settling: Settling,
    /// Held by who tells Redis of ends, renews, or asks for others: one at a time, so that a call which has ended is not
    /// renewed, nor asked for after its end.
    turn: tokio::sync::Mutex<()>,
    /// How often something happened after which Redis may not know of calls in flight here, and up to which of these
    /// it has been told of them since.
    unknown: AtomicU64,
    known: AtomicU64,
    /// With the number of a call, unique among all nodes and their lives.
    run: String,
    calls: AtomicU64,
    refused: Counter,
    without: Counter,
    seldom: Seldom,
}

impl Limits {
    /// Nothing is renewed or settled in Redis until [`Limits::run`].
    pub fn new(parts: Parts, metrics: &Metrics) -> Self {
        let (refused, without) = (Counter::default(), Counter::default());
        metrics.register("limits_refused", "Calls that a limit was in the way of.", refused.clone());
        let help = "Calls admitted or refused by this node alone, because there was no Redis.";
        metrics.register("limits_without_redis", help, without.clone());
        let (ledger, asking, settling) = (Ledger::default(), Asking::default(), Settling::new(metrics));
        let (calls, seldom, turn) = (AtomicU64::default(), Seldom::new(), tokio::sync::Mutex::default());
        let run = uuid::Uuid::now_v7().simple().to_string().split_off(16);
        Self(Arc::new(Inner {
            parts,
            ledger,
            advances: Advances::new(metrics),
            asking,
            settling,
            turn,
            unknown: AtomicU64::default(),
            known: AtomicU64::default(),
            run,
            calls,
            refused,
            without,
            seldom,
        }))
    }

    /// Admits a call of a key, or says which limit is in the way. `request_id` is for people. Takes as
    /// long as one call of Redis, and the reads of three totals when that cannot tell; some more calls when it is
    /// refused beside one that has just ended or what was taken in advance; no time without limits or within an
    /// advance. Waits [`Parts::patience`] at most for others.
    ///
    /// May be dropped at any time: what it has reserved then is given back.
    ///
    /// # Errors
    /// When a limit is in the way, or whether one is cannot be told.
    pub async fn begin(
        &self,
        key_id: &str,
        request_id: &str,
        caps: &Caps,
        estimate: Spent,
    ) -> Result<Reservation, Exceeded> {
        if !caps.any() {
            return Ok(Reservation::free());
        }
        let now = Calendar::at(Timestamp::now(), self.0.parts.offset, caps.week);
        let estimate = bounded(estimate);
        let call = |n: u64| {
            let (key_id, lease) = (key_id.to_owned(), format!("{request_id}.{}.{n}", self.0.run));
            Lease { key_id, lease, caps: *caps, estimate, size: Size::CALL }
        };
        let begun = match self.0.begin_shared(call(self.0.number()), &now).await {
            Some(begun) => begun,
            None => self.0.begin_alone(call(self.0.number()), &now).await,
        };
        if begun.is_err() {
            self.0.refused.inc();
        }
        begun
    }

    /// Renews and settles for as long as it is polled.
    pub async fn run(self) {
        self.0.keep().await;
    }

    /// Settles what has ended, at most until the deadline: what is not settled ends by itself.
    pub async fn close(&self, deadline: Duration) {
        let settled = async {
            // What is not given back ends by itself.
            let _ = self.0.give_back_all().await;
            self.0.settle_all().await
        };
        let _ = timeout(deadline, settled).await;
    }
}

impl Inner {
    fn number(&self) -> u64 {
        self.calls.fetch_add(1, Ordering::Relaxed)
    }

    /// From now on Redis may not know of calls in flight here, until [`Inner::catch_up`].
    fn forgets(&self) {
        self.unknown.fetch_add(1, Ordering::AcqRel);
    }

    /// Redis, where nodes share limits in it.
    fn shared(&self) -> Option<&Arc<Side>> {
        self.parts.redis.as_ref().filter(|side| side.shares_limits())
    }

    /// None where Redis cannot be asked, and this node has to decide by itself.
    async fn begin_shared(
        self: &Arc<Self>,
        call: Lease,
        now: &Calendar,
    ) -> Option<Result<Reservation, Exceeded>> {
        let side = self.shared()?;
        if let Some(begun) = self.begin_in_advance(side, &call, now) {
            return Some(Ok(begun));
        }
        // Given back if this is dropped, and if nobody knows whether it was taken.
        let mut pending = Reservation::pending(self.clone(), call);
        let verdict = match pending.call() {
            Some(call) => self.ask(side, call, now).await,
            None => return None,
        };
        // It may come back without its data.
        let verdict = verdict.inspect_err(|_| self.forgets());
        match verdict {
            Ok(Verdict::Admitted) => Some(Ok(pending.admitted())),
            Ok(Verdict::Refused(refusal)) => {
                let caps = pending.forget();
                Some(Err(Exceeded::new(&caps, refusal, now)))
            }
            Ok(Verdict::Uncounted | Verdict::Advanced { .. }) => None,
            Err(error) if self.parts.without_redis == WithoutRedis::Closed => {
                Some(Err(Exceeded::Unavailable(error.to_string())))
            }
            Err(error) => {
                if self.seldom.is_due() {
                    tracing::warn!(%error, "limits cannot be shared; this node works on its share");
                }
                None
            }
        }
    }

    async fn begin_alone(self: &Arc<Self>, call: Lease, now: &Calendar) -> Result<Reservation, Exceeded> {
        self.without.inc();
        let totals = match call.caps.costs() {
            true => self.totals(&call, now).await,
            false => Ok(Totals::default()),
        };
        let totals = totals.map_err(|error| Exceeded::Unavailable(error.to_string()))?;
        let nodes = (self.parts.nodes)().max(1) as u64;
        let admitted = self.ledger.reserve(&call, nodes, totals, Instant::now());
        admitted.map_err(|refusal| Exceeded::new(&call.caps, refusal, now))?;
        self.forgets();
        Ok(Reservation::live(self.clone(), call))
    }

    /// What has been counted, as of a second ago at most.
    async fn totals(&self, call: &Lease, now: &Calendar) -> Result<Totals, StoreError> {
        if let Some(known) = self.ledger.totals(&call.key_id, now.today(), Instant::now()) {
            return Ok(known);
        }
        let asked = Instant::now();
        let totals = totals::read(&self.parts.records, &call.key_id, now).await?;
        self.ledger.note_totals(&call.key_id, now.today(), totals, asked);
        Ok(totals)
    }
}

/// No more than an event may count, so that sums stay exact wherever they are.
fn bounded(spent: Spent) -> Spent {
    let Spent { tokens, cost_micro } = spent;
    Spent { tokens: tokens.min(MAX_COUNT), cost_micro: cost_micro.min(MAX_COUNT) }
}
