//! What was asked and what came of it, in the bench's own time.

use std::collections::{BTreeMap, HashSet};

use crate::stage::Store;

/// Microseconds since the run began.
pub type At = u64;

pub const SECOND: At = 1_000_000;

/// A record, by its place in [`crate::keys`].
pub type KeyIndex = u16;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// By its id.
    Get,
    /// By its index.
    Find,
    /// With the id of this write as its value.
    Put(u64),
    Delete,
    /// Usage events with these numbers.
    Add(Vec<u64>),
}

impl Op {
    pub fn writes(&self) -> bool {
        matches!(self, Self::Put(_) | Self::Delete)
    }

    /// Whether there is something to lose.
    pub fn changes(&self) -> bool {
        !matches!(self, Self::Get | Self::Find)
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Find => "find",
            Self::Put(_) => "put",
            Self::Delete => "delete",
            Self::Add(_) => "add",
        }
    }
}

/// What an acknowledgement is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Durability {
    Both,
    Postgres,
    Redis,
    /// Redis, which writes through every two seconds only.
    RedisLate,
    Memory,
    Local,
}

impl Durability {
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "both" => Self::Both,
            "postgres" => Self::Postgres,
            "redis" => Self::Redis,
            "redis-2s" => Self::RedisLate,
            "memory" => Self::Memory,
            "local" => Self::Local,
            _ => return None,
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A record with this version, whose value is the id of the write.
    Found {
        version: u64,
        write: u64,
    },
    Absent,
    /// Acknowledged. Usage has no version.
    Acknowledged {
        version: u64,
        durability: Durability,
    },
    /// It has failed, and has no effect: a refusal, or a connection that was never made.
    Failed(String),
    /// It may have had an effect, or may still have one.
    Unknown(String),
    /// An answer that cannot be, such as another record than the one asked for.
    Wrong(String),
}

#[derive(Debug, Clone)]
pub struct Entry {
    pub key: KeyIndex,
    pub client: u16,
    pub host: u8,
    pub op: Op,
    pub began: At,
    pub ended: At,
    pub outcome: Outcome,
    /// `NAME@GENERATION`, empty without an answer.
    pub strategy: String,
    /// What a refusal says of its reason, for people.
    pub detail: String,
}

impl Entry {
    /// The version of an acknowledged write or of a record that was found.
    pub fn version(&self) -> Option<u64> {
        match self.outcome {
            Outcome::Found { version, .. } | Outcome::Acknowledged { version, .. } => Some(version),
            _ => None,
        }
    }

    pub fn durability(&self) -> Option<Durability> {
        match self.outcome {
            Outcome::Acknowledged { durability, .. } => Some(durability),
            _ => None,
        }
    }

    /// One line for people.
    pub fn show(&self) -> String {
        let (began, ended) = (self.began as f64 / 1e6, self.ended as f64 / 1e6);
        let (host, client, op, outcome) = (self.host, self.client, &self.op, &self.outcome);
        format!(
            "{began:10.4} to {ended:10.4}  host {host} client {client:3}  {op:?} -> {outcome:?}  {} {}",
            self.strategy, self.detail
        )
    }
}

/// An operator's loss of what Redis held, and what it alone held then.
#[derive(Debug, Clone, Default)]
pub struct Loss {
    /// What was written from here on, and before `at`, may or may not be among what was lost.
    pub from: At,
    pub at: At,
    /// Records whose mark said that PostgreSQL did not have them, with the version that PostgreSQL had of each: 0 if
    /// none, or if it could not be asked.
    pub keys: BTreeMap<KeyIndex, u64>,
    /// Events that PostgreSQL was owed.
    pub events: HashSet<u64>,
}

/// A fault that was in force.
#[derive(Debug, Clone, Default)]
pub struct Window {
    pub name: String,
    pub from: At,
    pub to: At,
    /// The one host that it cuts off, and from which store.
    pub cut: Option<(u8, Store)>,
    /// What may be refused because of it; nothing without.
    pub excuse: Option<Excuse>,
}

/// What a fault excuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Excuse {
    /// The only host whose calls it excuses.
    pub host: Option<u8>,
    /// The store that it takes away.
    pub store: Option<Store>,
    /// How long after its begin writes may be refused, if nothing else is wrong: the other store stands in then.
    pub degraded: At,
    /// Whether usage may be refused, too, which a host keeps by itself when it has no store.
    pub usage: bool,
    /// How long after its end its effects may last.
    pub after: At,
}

/// A record as a store holds it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Held {
    pub version: u64,
    pub deleted: bool,
    pub fields: BTreeMap<String, String>,
}

impl Held {
    pub fn write(&self) -> Option<u64> {
        self.fields.get("w")?.parse().ok()
    }
}

/// What one store holds in the end.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    pub records: BTreeMap<KeyIndex, Held>,
    /// Requests and input tokens by subject.
    pub totals: BTreeMap<KeyIndex, (u64, u64)>,
    /// Records and events that the other store does not have yet.
    pub owed: (u64, u64),
}

/// What both hold in the end.
#[derive(Debug, Clone, Default)]
pub struct Truth {
    pub redis: Contents,
    pub postgres: Contents,
    /// Events that PostgreSQL has counted, by subject.
    pub events: BTreeMap<KeyIndex, HashSet<u64>>,
}

/// Everything a run leaves behind for the checker.
#[derive(Debug, Clone, Default)]
pub struct History {
    pub entries: Vec<Entry>,
    pub faults: Vec<Window>,
    /// Spans in which the machine let the bench itself wait.
    pub stalls: Vec<Window>,
    /// When Redis crashed.
    pub crashes: Vec<At>,
    pub losses: Vec<Loss>,
    pub truth: Truth,
    /// From here on nothing was wrong any more, and nobody may be refused.
    pub calm_from: At,
    /// The last span of the load, in which nothing excused anything any more.
    pub calm: Option<(At, At)>,
    /// What else was seen that may not be, with its rule.
    pub wrong: Vec<(&'static str, At, String)>,
}
