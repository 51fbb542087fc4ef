//! A record, its name, its version, and the write that offers it to a store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use super::{Kind, kind::Visibility};

/// Orders every write of one record in every store: microseconds since 1970, below 2^53.
/// 0 stands for "never written"; 1 for a record that another program wrote without a version.
pub type Version = u64;

/// The version of a record that Claude Relay Service wrote: older than anything of ours.
pub const UNVERSIONED: Version = 1;

/// The contents of a record.
pub type Fields = BTreeMap<String, String>;

/// Names one record.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub kind: &'static Kind,
    pub id: Arc<str>,
}

/// An id that no record can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    #[error("an id has 1 to {MAX_ID} bytes; this one has {0}")]
    Length(usize),
    #[error("an id consists of A-Z a-z 0-9 . _ ~ @ + = - (and : in usage ids); this one has {0:?}")]
    Character(char),
    #[error("the id {0:?} is reserved in this kind")]
    Reserved(String),
}

/// The longest id, in bytes.
pub const MAX_ID: usize = 256;

impl Key {
    /// Checks the id, so that no two keys can meet in one Redis key and none needs quoting.
    pub fn new(kind: &'static Kind, id: &str) -> Result<Self, InvalidKey> {
        if id.is_empty() || id.len() > MAX_ID {
            return Err(InvalidKey::Length(id.len()));
        }
        let allowed = |c: char| {
            c.is_ascii_alphanumeric()
                || "._~@+=-".contains(c)
                || (c == ':' && kind.visibility != Visibility::Public)
        };
        if let Some(c) = id.chars().find(|c| !allowed(*c)) {
            return Err(InvalidKey::Character(c));
        }
        if kind.reserved_ids.contains(&id) {
            return Err(InvalidKey::Reserved(id.to_owned()));
        }
        Ok(Self { kind, id: id.into() })
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.kind.name, self.id)
    }
}

/// A stored record, or a tombstone (which has no fields).
#[derive(Debug, Clone)]
pub struct Record {
    pub key: Key,
    pub version: Version,
    pub deleted: bool,
    pub fields: Fields,
    /// Milliseconds since 1970 from which on the record is absent.
    pub expires_at: Option<i64>,
    /// Milliseconds since 1970 at which the Redis side took this copy; none from the PostgreSQL side.
    pub cached_at: Option<i64>,
}

/// The same version and contents, whichever store it came from.
impl PartialEq for Record {
    fn eq(&self, other: &Self) -> bool {
        let parts = |r: &Self| (r.key.clone(), r.version, r.deleted, r.expires_at);
        parts(self) == parts(other) && self.fields == other.fields
    }
}

impl Eq for Record {}

impl Record {
    /// True while the record is neither deleted nor expired.
    pub fn is_live(&self, now_ms: i64) -> bool {
        !self.deleted && !self.is_expired(now_ms)
    }

    pub fn is_expired(&self, now_ms: i64) -> bool {
        self.expires_at.is_some_and(|at| at <= now_ms)
    }

    /// The value by which the kind's index finds this record; none for a tombstone.
    pub fn index_value(&self) -> Option<&str> {
        let index = self.key.kind.index.as_ref().filter(|_| !self.deleted)?;
        self.fields.get(index.field).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Roughly the bytes it occupies in memory.
    pub fn size(&self) -> usize {
        // 64 bytes a field for the two strings' headers and the tree; 160 for the record itself.
        160 + self.fields.iter().map(|(name, value)| name.len() + value.len() + 64).sum::<usize>()
    }
}

/// Whether an accepted record is marked as not yet in the other store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Set the mark, in the same atomic step as the write.
    Dirty,
    /// The other store has it already: a fill or a drain. Clears the mark of an older version.
    Clean,
}

/// What must hold of the stored record for a write to be accepted, besides having a smaller version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    Anything,
    /// No record with a greater version than this: the writer has seen this one. A store that lags
    /// behind what the writer saw still accepts.
    AtMost(Version),
    /// No live record.
    Absent,
}

impl Expect {
    /// The same precondition for a writer whose write of this version has met it in one store.
    pub fn after(self, version: Version) -> Self {
        if self == Self::Anything { self } else { Self::AtMost(version) }
    }
}

/// A record offered to a store, and the receipts of the stores that took it.
#[derive(Debug)]
pub struct Write {
    pub record: Arc<Record>,
    pub mark: Mark,
    pub expect: Expect,
    pub receipts: Receipts,
}

impl Write {
    /// A caller's new write, owed to whichever store does not take it.
    pub fn new(record: Arc<Record>, expect: Expect) -> Self {
        Self { record, mark: Mark::Dirty, expect, receipts: Receipts::default() }
    }

    /// A copy of what another store holds.
    pub fn copy(record: Arc<Record>) -> Self {
        Self { record, mark: Mark::Clean, expect: Expect::Anything, receipts: Receipts::default() }
    }

    /// How to offer it to a further store: once one has taken it, the precondition is decided and
    /// nothing is owed to that one.
    pub fn offer(&self) -> Self {
        if self.receipts.any() {
            Self::copy(self.record.clone())
        } else {
            Self { receipts: Receipts::default(), record: self.record.clone(), ..*self }
        }
    }
}

/// Which stores really accepted something. Set by the host as each store answers, never by a strategy.
#[derive(Debug, Default)]
pub struct Receipts(AtomicU8);

impl Receipts {
    pub const REDIS: u8 = 1;
    pub const POSTGRES: u8 = 2;
    /// Not a receipt: a store has refused it, because the writer's epoch has passed.
    const FENCED: u8 = 4;

    pub fn set(&self, side: u8) {
        self.0.fetch_or(side, Ordering::AcqRel);
    }

    pub fn get(&self) -> u8 {
        self.0.load(Ordering::Acquire) & (Self::REDIS | Self::POSTGRES)
    }

    /// Notes that a store has refused it because the writer's epoch has passed.
    pub fn set_fenced(&self) {
        self.set(Self::FENCED);
    }

    /// Whether any store has: then it is not to be acknowledged, whichever store has taken it.
    pub fn fenced(&self) -> bool {
        self.0.load(Ordering::Acquire) & Self::FENCED != 0
    }

    /// Notes all that the other notes: receipts and refusals.
    pub fn take_over(&self, other: &Self) {
        self.set(other.0.load(Ordering::Acquire));
    }

    pub fn any(&self) -> bool {
        self.get() != 0
    }

    pub fn both(&self) -> bool {
        self.get() == Self::REDIS | Self::POSTGRES
    }
}
