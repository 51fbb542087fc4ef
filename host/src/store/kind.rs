//! The one table that defines the kinds of record. A new kind is one line here and one migration.

use super::StoreError;

/// A kind of record.
#[derive(Debug)]
pub struct Kind {
    /// As it stands in a URL, in a strategy and as the name of its table.
    pub name: &'static str,
    /// What its keys in Redis begin with, in Claude Relay Service's layout where that has the kind.
    pub redis_prefix: &'static str,
    pub index: Option<Index>,
    /// A relay cannot do without it: kept completely in Redis, where it never expires and is never evicted.
    pub whole: bool,
    /// Ids that Claude Relay Service's layout uses for something else.
    pub reserved_ids: &'static [&'static str],
    pub visibility: Visibility,
}

/// Finds a record by the value of one field.
#[derive(Debug)]
pub struct Index {
    /// The name that `find` takes.
    pub name: &'static str,
    /// The field that holds the value.
    pub field: &'static str,
    /// The Redis hash from value to id.
    pub redis_key: &'static str,
    /// A record with this field `true` need not be found: Claude Relay Service takes deleted keys out.
    pub unless: &'static str,
}

/// Who may name a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visibility {
    /// Strategies and the store API, for reading and writing.
    Public,
    /// Folded from events: read as records, written by `add` only.
    Totals,
    /// The host alone, straight to the durable store: the catalogue of strategies.
    Internal,
}

pub static API_KEY: Kind = Kind {
    name: "api_key",
    redis_prefix: "apikey:",
    index: Some(Index { name: "hash", field: "apiKey", redis_key: "apikey:hash_map", unless: "isDeleted" }),
    whole: true,
    reserved_ids: &["hash_map"],
    visibility: Visibility::Public,
};
pub static ACCOUNT: Kind = Kind {
    name: "account",
    redis_prefix: "claude_console_account:",
    index: None,
    whole: true,
    reserved_ids: &["index", "rewrap"],
    visibility: Visibility::Public,
};
/// Which accounts belong together: the field `memberIds` is a JSON array of their ids.
pub static ACCOUNT_GROUP: Kind = Kind {
    name: "account_group",
    redis_prefix: "account_group:",
    index: None,
    whole: true,
    reserved_ids: &[],
    visibility: Visibility::Public,
};
pub static SESSION: Kind = Kind {
    name: "session",
    redis_prefix: "session:",
    index: None,
    whole: false,
    reserved_ids: &["admin_credentials"],
    visibility: Visibility::Public,
};
pub static USAGE: Kind = internal("usage", Visibility::Totals);
pub static STRATEGY_VERSION: Kind = internal("strategy_version", Visibility::Internal);
pub static STRATEGY_EVENT: Kind = internal("strategy_event", Visibility::Internal);
pub static STRATEGY_STATE: Kind = internal("strategy_state", Visibility::Internal);
pub static CONFLICT_EVENT: Kind = internal("conflict_event", Visibility::Internal);

pub static OPERATION: Kind = internal("operation", Visibility::Internal);

/// Every kind there is.
pub static KINDS: [&Kind; 10] = [
    &API_KEY,
    &ACCOUNT,
    &ACCOUNT_GROUP,
    &SESSION,
    &USAGE,
    &STRATEGY_VERSION,
    &STRATEGY_EVENT,
    &STRATEGY_STATE,
    &CONFLICT_EVENT,
    &OPERATION,
];

const fn internal(name: &'static str, visibility: Visibility) -> Kind {
    Kind { name, redis_prefix: "", index: None, whole: false, reserved_ids: &[], visibility }
}

impl Kind {
    /// The kinds whose records are stored, synced and checked: all that the outside may write.
    pub fn public() -> impl Iterator<Item = &'static Kind> {
        KINDS.into_iter().filter(|kind| kind.visibility == Visibility::Public)
    }

    /// The kind of this name that strategies and the store API may name.
    pub fn named(name: &str) -> Result<&'static Kind, StoreError> {
        KINDS
            .into_iter()
            .find(|kind| kind.name == name && kind.visibility != Visibility::Internal)
            .ok_or_else(|| {
                let known: Vec<_> = Kind::public().map(|kind| kind.name).collect();
                StoreError::Unsupported(format!("unknown kind {name:?}; there are {}", known.join(", ")))
            })
    }

    /// The index of this name.
    pub fn index_named(&self, name: &str) -> Result<&Index, StoreError> {
        self.index
            .as_ref()
            .filter(|index| index.name == name)
            .ok_or_else(|| StoreError::Unsupported(format!("kind {:?} has no index {name:?}", self.name)))
    }
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Kind {}

impl std::hash::Hash for Kind {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl PartialOrd for Kind {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Kind {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.name.cmp(other.name)
    }
}
