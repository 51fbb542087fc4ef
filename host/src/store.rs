//! The stores: one trait of five functions, and what the host needs beyond them.
//!
//! # Layout
//! - [`allowance`]: what keys may use, counted where nodes share it
//! - [`kind`]: the one table that defines the kinds of record
//! - [`record`]: key, version, record, write
//! - [`usage`]: usage events and the windows they are folded into
//! - [`epoch`]: by which the nodes agree which store has the last word
//! - [`clock`]: versions, a hybrid logical clock
//! - [`board`]: where nodes that share a store tell each other about themselves
//! - [`identity`]: who a store is, so that one that lost its data is known
//! - [`maintenance`]: what sync and check need of a store
//! - [`list`]: what people page through
//! - [`memory`], [`sqlite`]: the embedded backends
//! - [`redis`], [`postgres`]: the servers
//! - [`side`]: one of the two stores as a strategy sees it: receipt, breaker, metrics
//! - [`stale`]: whether an answer may be old
//! - [`secret`]: what of a record nobody outside is shown
//! - [`takeover`]: a database of Claude Relay Service, looked at and given back
//! - [`breaker`]: when a store that fails is not asked any more
//!
//! Every backend passes the one contract suite in `tests/`.

pub mod allowance;
mod belief;
pub mod board;
pub mod breaker;
pub mod clock;
pub mod epoch;
pub mod identity;
pub mod ids;
pub mod kind;
mod lag;
pub mod list;
pub mod maintenance;
pub mod memory;
pub mod postgres;
mod precedence;
pub mod record;
pub mod redis;
pub mod secret;
pub mod side;
mod sides;
pub mod sqlite;
pub mod stale;
pub mod takeover;
pub mod usage;

use std::sync::Arc;

use async_trait::async_trait;

pub use allowance::Allowance;
pub use board::Board;
pub use clock::Clock;
pub use epoch::{Ballot, Control, Epoch, Proposal};
pub use kind::Kind;
pub use maintenance::Maintenance;
pub use record::{Expect, Fields, InvalidKey, Key, Mark, Receipts, Record, Version, Write};
pub use usage::{Usage, UsageEvent, Window};

use crate::telemetry::Outcome;

/// Why a store, or a strategy, did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Unreachable, or perhaps without some records of this kind. Nothing was written.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// No answer within the deadline. A write may have happened; repeating it is harmless.
    #[error("no answer within the deadline")]
    Timeout,
    /// The version held is not less than the one offered, or the precondition fails. Nothing was written.
    #[error("conflict with version {0}")]
    Conflict(Version),
    /// The node's epoch has passed; this is the one that the store knows. Nothing was written.
    #[error("the nodes have moved on to epoch {0}")]
    Fenced(u64),
    /// An unknown kind or index. Repeating will not help.
    #[error("unsupported: {0}")]
    Unsupported(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
    /// The store takes none of this for a while, though it is well. Nothing was written.
    #[error("{0}")]
    Paused(String),
    /// Too many calls in flight. Nothing was tried. Never passed into a guest.
    #[error("too many calls in flight")]
    Overloaded,
    /// The strategy itself failed: it trapped, ran past a limit or broke the contract. A write may have
    /// happened. Never passed into a guest.
    #[error("the strategy failed: {0}")]
    Strategy(String),
    /// This node's clock is too far from a store's to give versions. Nothing was tried. Never passed into a
    /// guest.
    #[error("{0}")]
    ClockSkewed(String),
}

impl StoreError {
    /// As the metrics count it.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Unavailable(_) | Self::Paused(_) | Self::Overloaded | Self::ClockSkewed(_) => {
                Outcome::Unavailable
            }
            Self::Timeout => Outcome::Timeout,
            Self::Conflict(_) | Self::Fenced(_) => Outcome::Conflict,
            Self::Unsupported(_) => Outcome::Unsupported,
            Self::Other(_) | Self::Strategy(_) => Outcome::Error,
        }
    }
}

pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// A part of a scan in ascending order of id, and the cursor of the next part, if there is one.
#[derive(Debug, Clone, Default)]
pub struct Page {
    pub records: Vec<Arc<Record>>,
    pub next: Option<String>,
}

/// The most records one page of a scan may hold.
pub const MAX_PAGE: u32 = 1_000;

/// Anything with the five functions: a backend, one of its wrappers, a strategy.
///
/// The contract, function by function, is in `wit/store.wit`; a strategy's `put` and `add` leave their
/// outcome in the receipts of what they were given.
#[async_trait]
pub trait Store: Send + Sync {
    /// The record with the greatest version accepted, or its tombstone. Expired records are absent.
    async fn get(&self, key: &Key) -> Result<Option<Arc<Record>>>;

    /// The live record whose index has this value.
    async fn find(&self, kind: &'static Kind, index: &str, value: &str) -> Result<Option<Arc<Record>>>;

    /// At most `limit` (and [`MAX_PAGE`]) live records with ids after `cursor`, in byte order of id.
    async fn scan(&self, kind: &'static Kind, cursor: Option<&str>, limit: u32) -> Result<Page>;

    /// Accepts the record if its version is greater than the one held and the precondition holds, in one
    /// atomic step that also sets or clears the dirty mark. Offering the version held again is ok.
    async fn put(&self, write: &Write) -> Result<()>;

    /// Counts each event of the batch exactly once, by its id, and answers how many of them were new.
    /// Atomic per batch. New events are owed to the other store when the batch is marked dirty.
    async fn add(&self, usage: &Usage) -> Result<u64>;
}

/// A store with the functions that only the host calls.
///
/// Every call of either trait ends within the backend's deadline. A backend reconnects by itself; a
/// connection on which a call timed out is never used again.
#[async_trait]
pub trait Backend: Store + identity::Lineage + Maintenance {
    /// Up to `limit` records that are marked as not yet in the other store and have a version below `before`,
    /// tombstones included. In order of version, from the one after the first `skip`; fewer means that there
    /// are no more.
    async fn dirty(&self, before: Version, skip: u32, limit: u32) -> Result<Vec<Arc<Record>>>;

    /// Clears the marks of these records where the version is still the one named. Lets them expire again.
    async fn settle(&self, settled: &[(Key, Version)]) -> Result<()>;

    /// Up to `limit` usage events that are not yet in the other store, in no particular order. A store that keeps
    /// them in order of id answers those after this one; another answers any, each time others.
    async fn owed_usage(&self, after: Option<&str>, limit: u32) -> Result<Vec<UsageEvent>>;

    /// Forgets that these events are owed. They stay counted.
    async fn settle_usage(&self, ids: &[String]) -> Result<()>;

    /// How many records and how many usage events are not yet in the other store, and since when.
    async fn backlog(&self) -> Result<Backlog>;

    /// Whether this store is known to hold every record of the kind, so that a missing one is absent
    /// rather than unknown. Survives as long as the data does.
    async fn complete(&self, kind: &'static Kind) -> Result<bool>;

    /// Records that a full copy has made this store hold every record of the kind.
    async fn set_complete(&self, kind: &'static Kind) -> Result<()>;

    /// Whether this store has counted any usage. Asked at start; may look through the whole store, one
    /// deadline a step.
    async fn counts_usage(&self) -> Result<bool>;

    /// Writes and reads a probe of its own: proves that the store takes writes.
    async fn probe(&self) -> Result<()>;

    /// What an acknowledgement by this store alone is worth: `postgres`, `memory`, `redis` when it is known to
    /// sync each write before it answers, else `redis-2s`.
    fn durability(&self) -> &'static str;

    /// What copies in this process have spared the store since the start; none where there are no copies.
    fn near_cache(&self) -> NearCache {
        NearCache::default()
    }

    /// The connections to the store; none where they are not counted.
    fn connections(&self) -> Option<Connections> {
        None
    }

    /// Says something about this node, proposes to move the authority if there is a proposal, and answers what
    /// the nodes have agreed on: one atomic step. None from a store that serves one node only.
    async fn control(
        &self,
        node: &str,
        ballot: Ballot,
        proposal: Option<&Proposal>,
    ) -> Result<Option<Control>>;

    /// Makes the store sync each write before it answers, what it took before included; or lets it sync again
    /// as it did before that. Nothing happens where the store does so anyway, or does not let us.
    async fn sync_all(&self, all: bool) -> Result<()>;

    /// Those of these records that are marked as not yet in the other store, tombstones included.
    async fn marked(&self, keys: &[Key]) -> Result<Vec<Arc<Record>>>;

    /// Microseconds since 1970 by the store's own clock. An embedded store has this process's.
    async fn time(&self) -> Result<i64> {
        Ok(clock::wall())
    }

    /// A page of a kind's live records as `query` wants them. It may be shorter than asked for although a further
    /// page follows. Within one list no record is answered twice unless it moved meanwhile.
    ///
    /// # Errors
    /// `Unsupported` for a kind that has no lists.
    async fn list(&self, kind: &'static Kind, query: &list::ListQuery) -> Result<Page>;

    /// Where the nodes that share this store tell each other about themselves; none when it serves this
    /// process alone.
    fn board(&self) -> Option<&dyn Board> {
        None
    }

    /// Where the nodes that share this store count what keys use of their limits; none when it serves this
    /// process alone.
    fn allowance(&self) -> Option<&dyn Allowance> {
        None
    }
}

/// Lookups that copies in this process could answer, and those they could not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NearCache {
    pub hits: u64,
    pub misses: u64,
}

/// The connections to a store, now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Connections {
    pub open: usize,
    /// Those of them that nobody uses.
    pub idle: usize,
    /// Calls that wait for one.
    pub waiting: usize,
}

impl std::ops::Add for Connections {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let (open, idle) = (self.open + other.open, self.idle + other.idle);
        Self { open, idle, waiting: self.waiting + other.waiting }
    }
}

/// What one store holds that the other does not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Backlog {
    pub records: u64,
    pub usage: u64,
    /// When the oldest of the records was written, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_ms: Option<i64>,
}

impl Backlog {
    /// `oldest`: the smallest version among the records.
    pub(crate) fn new(records: u64, usage: u64, oldest: Option<Version>) -> Self {
        Self { records, usage, oldest_ms: oldest.map(|version| (version / 1_000) as i64) }
    }

    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
