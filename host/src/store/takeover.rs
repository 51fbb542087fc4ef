//! A database of Claude Relay Service: looked at before it is taken over, and handed back afterwards, while nothing
//! of ours runs on it.

use async_trait::async_trait;
use jiff::Timestamp;
use jiff::civil::{Date, Time, date};
use jiff::fmt::temporal::Pieces;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::{Fields, Key, Result};

/// The most findings that are listed one by one.
pub const LISTED: usize = 500;

/// What counters of usage and cost are called in a survey.
pub const USAGE: &str = "usage and cost";

/// Whether that program has made the key of this id, and hashed it with its `ENCRYPTION_KEY`: ours have ids that
/// begin with the time.
pub fn is_theirs(id: &str) -> bool {
    uuid::Uuid::parse_str(id).map_or(true, |id| id.get_version_num() != 7)
}

/// Knows the credentials of accounts. Says nothing of them.
#[async_trait]
pub trait Credentials: Send + Sync {
    /// Whether clients' keys can be recognised that that program has hashed: its `ENCRYPTION_KEY` is given.
    fn recognises(&self) -> bool;

    /// Whether an account's credential can be opened here, as far as can be told; else why not.
    async fn open(&self, key: &Key, fields: &Fields) -> std::result::Result<Opened, String>;

    /// The fields of an account that have to change so that that program can open its credential; else why it cannot.
    async fn reseal(&self, key: &Key, fields: &Fields) -> std::result::Result<Fields, String>;
}

/// How much is known of a credential that can be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    /// That program has sealed it, and the `ENCRYPTION_KEY` that is given has opened it.
    WithTheirKey,
    /// It says nothing of that key.
    Otherwise,
}

/// Some keys of one sort.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Counted {
    pub what: &'static str,
    pub keys: u64,
    /// What becomes of them.
    pub why: &'static str,
}

/// Something that is broken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The key in Redis, without what is secret in it.
    pub key: String,
    pub reason: String,
}

/// What there is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Survey {
    pub api_keys: ApiKeys,
    pub accounts: Accounts,
    pub taken_over: Vec<Counted>,
    pub not_taken_over: Vec<Counted>,
    pub broken: u64,
    /// At most [`LISTED`] of those that are broken.
    pub findings: Vec<Finding>,
    /// What could not be told, in sentences.
    pub notes: Vec<&'static str>,
}

/// The keys of clients. One may count in several of these.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ApiKeys {
    pub all: u64,
    pub active: u64,
    pub disabled: u64,
    pub deleted: u64,
    pub expired: u64,
    /// Bound to an account that is not taken over: served by the shared ones.
    pub bound_elsewhere: u64,
    /// May not use Claude.
    pub without_claude: u64,
    /// Have a version already: this database was taken over before.
    pub ours: u64,
}

/// The accounts that are taken over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Accounts {
    pub all: u64,
    pub active: u64,
    /// Whose credential cannot be opened.
    pub sealed_otherwise: u64,
}

/// What was done to give a database back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct GivenBack {
    /// Keys that expire again as that program lets them.
    pub api_keys: u64,
    pub accounts: u64,
    pub groups: u64,
    pub sessions: u64,
    /// Accounts that it cannot use as they are.
    pub credentials: Vec<Finding>,
    /// Kinds of which Redis may not hold all records.
    pub incomplete: Vec<&'static str>,
}

/// A database of that program.
#[async_trait]
pub trait Takeover: Send + Sync {
    /// Looks at all keys, in bounded steps, and changes nothing. That program may go on meanwhile.
    async fn survey(&self, credentials: &dyn Credentials) -> Result<Survey>;

    /// Leaves everything as that program wants it, in bounded steps: repeating it changes nothing more. Afterwards
    /// all records are that program's, and are taken over anew, with what it has changed, at our next start.
    ///
    /// # Errors
    /// `Paused` when a node of ours was heard of lately, and nothing was done.
    async fn give_back(&self, credentials: &dyn Credentials) -> Result<GivenBack>;
}

/// On this day the times end that can be told.
const LAST_DAY: Date = date(9999, 12, 30);

/// A time as people and other programs write it; without a zone it is in UTC. One of the last two days of 9999, which
/// stand for never, is the last moment that there is.
pub(crate) fn parse_time(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at);
    }
    let pieces = Pieces::parse(text).ok()?;
    let civil = pieces.date().to_datetime(pieces.time().unwrap_or_else(Time::midnight));
    if civil.date() >= LAST_DAY {
        return Some(Timestamp::MAX);
    }
    // One with a zone was none, or it would be a time already.
    let in_utc = || TimeZone::UTC.to_timestamp(civil).ok();
    pieces.offset().is_none().then(in_utc).flatten()
}
