//! What sync, check and the clearing of caches need of a store beyond its five functions.

use std::time::Duration;

use async_trait::async_trait;
use jiff::tz::Offset;
use serde::{Deserialize, Serialize};

use super::usage::Counts;
use super::{Key, Kind, Page, Result, Version};

/// Something that was left alone, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// As the store names it; characters that are not UTF-8 are replaced.
    pub key: String,
    pub reason: String,
}

/// A step through the records that another program wrote.
#[derive(Debug, Clone, Default)]
pub struct Adopted {
    /// How many keys were looked at.
    pub seen: u64,
    pub skipped: Vec<Skipped>,
    /// Where the next step begins; none after the last.
    pub next: Option<String>,
}

/// The counters of one window: the id of its `usage` record, and the values.
pub type Counted = (String, Counts);

/// A part of the windows that a store has counted.
#[derive(Debug, Clone, Default)]
pub struct Windows {
    pub counted: Vec<Counted>,
    pub skipped: Vec<Skipped>,
    /// Where the next part begins; none after the last.
    pub next: Option<String>,
}

/// The functions behind the admin's commands. Each call is one step within the backend's deadline.
#[async_trait]
pub trait Maintenance: Send + Sync {
    /// Looks at some of the keys that another program may have written, gives each record among them that
    /// has no version one that is newer than all before, and marks it. Names what cannot be a record.
    async fn adopt(&self, cursor: Option<&str>) -> Result<Adopted>;

    /// About how many live records of the kind there are, without reading them.
    async fn count(&self, kind: &'static Kind) -> Result<u64>;

    /// Up to `limit` tombstones, in no particular order; a page may be shorter than asked for.
    async fn tombstones(&self, kind: &'static Kind, cursor: Option<&str>, limit: u32) -> Result<Page>;

    /// About `limit` windows that are counted here, in no particular order, perhaps some of them twice;
    /// without `every` only those of all time.
    async fn windows(&self, cursor: Option<&str>, limit: u32, every: bool) -> Result<Windows>;

    /// Those of these usage events that this store is known to have counted.
    async fn has_counted(&self, ids: &[String]) -> Result<Vec<String>>;

    /// Counts nothing for this long, or counts again. Meanwhile `add` answers `Paused`; what it has
    /// answered before is counted. A close that is not repeated in time ends by itself.
    async fn close_usage(&self, hold: Option<Duration>) -> Result<()>;

    /// Takes over what another store has counted and this one has not: raises each total to what is held
    /// there plus what is owed to there, never lowers one, and keeps what it added, in one transaction. Answers
    /// how many totals it raised. A repetition finds nothing to do.
    ///
    /// Exact only while the other store counts nothing, and has counted nothing that is owed here.
    async fn open_balances(&self, held: &[Counted], offset: Offset, from: &str) -> Result<u64>;

    /// A part of the balances that were opened here, in order of id.
    async fn balances(&self, _cursor: Option<&str>, _limit: u32) -> Result<Windows> {
        Ok(Windows::default())
    }

    /// How often copies of a kind were dropped from this store: see [`Self::complete_since`].
    async fn dropped(&self, kind: &'static Kind) -> Result<u64>;

    /// Marks the kind complete, unless copies were dropped since the number was asked for. Answers whether it
    /// did.
    async fn complete_since(&self, kind: &'static Kind, dropped: u64) -> Result<bool>;

    /// Drops copies that still have this version and no mark; their kind is incomplete from before the first
    /// is gone. Answers how many it dropped: none in a store that holds no copies.
    async fn drop_copies(&self, kind: &'static Kind, copies: &[(Key, Version)]) -> Result<u64>;

    /// Forgets the copies in this process; answers about how many there were.
    async fn forget_near(&self) -> Result<u64>;

    /// Gives up every connection. The next calls open new ones.
    async fn reconnect(&self) -> Result<()>;
}
