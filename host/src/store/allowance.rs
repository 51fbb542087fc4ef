//! What a key may use, and the counters of it that nodes share.

use std::time::Duration;

use async_trait::async_trait;

use super::Result;

/// How long a lease lives that nobody renews.
pub const LEASE: Duration = Duration::from_secs(30);

/// For how long the cost of a call that has ended is held beside the usage counters: until they surely have it.
pub const HELD: Duration = Duration::from_secs(3);

/// What a key may use. 0 is no limit; without a window the three limits of one do not hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Caps {
    /// Calls in flight.
    pub concurrency: u32,
    /// Begins with the first call after the one before has ended.
    pub window: Option<Duration>,
    pub window_requests: u64,
    /// Input and output.
    pub window_tokens: u64,
    /// Micro-dollars, as all costs here.
    pub window_cost_micro: u64,
    pub daily_cost_micro: u64,
    pub weekly_cost_micro: u64,
    /// When a week begins.
    pub week: WeekStart,
    pub total_cost_micro: u64,
}

/// When a key's week begins, in the offset of usage. The default is Monday at midnight.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WeekStart {
    /// Days after Monday, less than 7.
    pub day: u8,
    /// Less than 24.
    pub hour: u8,
}

impl Caps {
    /// Whether there is any limit.
    pub fn any(&self) -> bool {
        self.concurrency > 0 || self.window().is_some() || self.costs()
    }

    /// The window, if anything is limited in it.
    pub fn window(&self) -> Option<Duration> {
        let limited = self.window_requests > 0 || self.meters_window();
        self.window.filter(|window| limited && !window.is_zero())
    }

    /// Whether a window limits what a call uses, rather than how many there are.
    pub fn meters_window(&self) -> bool {
        self.window.is_some_and(|window| !window.is_zero())
            && (self.window_tokens > 0 || self.window_cost_micro > 0)
    }

    /// Whether there is a limit of what usage counters say.
    pub fn costs(&self) -> bool {
        self.daily_cost_micro > 0 || self.weekly_cost_micro > 0 || self.total_cost_micro > 0
    }

    /// Whether a call holds anything to its end: requests of a window are counted when they begin.
    pub fn holds(&self) -> bool {
        self.concurrency > 0 || self.reserves()
    }

    /// Whether what a call is going to use is reserved.
    pub fn reserves(&self) -> bool {
        self.meters_window() || self.costs()
    }
}

/// What a call uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// Input and output.
    pub tokens: u64,
    pub cost_micro: u64,
}

/// What usage counters say that a key has cost, in micro-dollars.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    pub daily: u64,
    pub weekly: u64,
    pub total: u64,
}

/// A call that wants to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    pub call: Lease,
    /// The date (`YYYY-MM-DD`), in the offset of usage.
    pub today: String,
    /// The hours since 1970-01-01, in the same offset.
    pub hour: i64,
    /// What to believe in place of the store's own counters.
    pub totals: Option<Totals>,
}

/// Which limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cap {
    Concurrency,
    Requests,
    Tokens,
    WindowCost,
    DailyCost,
    WeeklyCost,
    TotalCost,
}

/// A limit that is in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    pub cap: Cap,
    /// How much is used, reservations included when they are what is in the way.
    pub current: u64,
    /// Less than the limit is used: calls in flight have reserved the rest.
    pub reserved: bool,
    /// Until the window ends, for the limits of one.
    pub reset: Option<Duration>,
}

/// What became of a call that wanted to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Admitted,
    /// The same of an [advance](Size). The window that its requests were counted in ends after this long.
    Advanced {
        left: Option<Duration>,
    },
    /// Nothing was changed.
    Refused(Refusal),
    /// The store's own counters lack something, and they were asked. Nothing was changed.
    Uncounted,
}

/// How much of the limits that count calls a lease takes. More than one request is an *advance*: a node takes it for
/// calls to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Calls in flight at a time.
    pub slots: u32,
    /// Calls that begin.
    pub requests: u32,
}

impl Size {
    /// Of a call.
    pub const CALL: Self = Self { slots: 1, requests: 1 };
}

/// A call in flight, or one that is about to be; or an advance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    pub key_id: String,
    /// The id of the call, unique among all nodes.
    pub lease: String,
    pub caps: Caps,
    pub estimate: Spent,
    pub size: Size,
}

impl Lease {
    pub fn is_advance(&self) -> bool {
        self.size.requests > 1
    }
}

/// A call that has ended, or an advance, and what it used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    pub call: Lease,
    pub used: Spent,
    /// Requests of an advance that were counted and not made.
    pub unmade: u32,
}

impl Ended {
    /// Of a call.
    pub fn call(call: Lease, used: Spent) -> Self {
        Self { call, used, unmade: 0 }
    }
}

/// A store whose counters nodes share. Every call is one atomic step, and ends within the store's deadline.
#[async_trait]
pub trait Allowance: Send + Sync {
    /// Admits calls if no limit is in the way: takes a lease for [`LEASE`], counts it in the window, and reserves
    /// what it is expected to use. Each call of a key as if those before it had asked before it. Answers in the order
    /// of the calls.
    ///
    /// A call that is alone is admitted while the limit is not reached. One beside others is admitted if what is
    /// used, what they have reserved and what is expected of it fit under the limit. An advance is admitted if all of
    /// that fits under half of it.
    ///
    /// # Errors
    /// When the store does not answer; for a single call when the counters of its key cannot be read.
    async fn reserve(&self, asks: &[Ask]) -> Result<Vec<Result<Verdict>>>;

    /// Ends leases, and counts what was used in place of what was reserved. Repeating it changes nothing. Where the
    /// counters of a key cannot be read its leases end by themselves.
    async fn spend(&self, ended: &[Ended]) -> Result<()>;

    /// Lets leases live for [`LEASE`] from now on, be it that the store has lost them.
    async fn renew(&self, live: &[Lease]) -> Result<()>;
}
