//! Usage: immutable events with an id, folded into counters by window.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::{Timestamp, tz::Offset};
use serde::{Deserialize, Serialize};

use super::{Fields, Mark, Receipts};

/// One upstream attempt, counted once however often it is reported. Integers only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsageEvent {
    /// Unique among all events; 1 to 128 bytes. A second event with this id is a duplicate, whatever it says.
    pub id: String,
    pub key_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_id: Option<String>,
    pub model: String,
    /// When the attempt ended. Decides the windows it counts in.
    pub at: Timestamp,
    #[serde(default)]
    pub input_tokens: u64,
    #[serde(default)]
    pub output_tokens: u64,
    #[serde(default)]
    pub cache_creation_5m_tokens: u64,
    #[serde(default)]
    pub cache_creation_1h_tokens: u64,
    #[serde(default)]
    pub cache_read_tokens: u64,
    /// Millionths of a US dollar.
    #[serde(default)]
    pub cost_micro_usd: u64,
    /// The request that the attempt was made for, as its client was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The answer did not come to its end: the counts are what was known by then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
}

/// The counters of a window, in this order wherever they stand in a row.
pub const COUNTERS: [&str; 7] = [
    "requests",
    "input_tokens",
    "output_tokens",
    "cache_creation_5m_tokens",
    "cache_creation_1h_tokens",
    "cache_read_tokens",
    "cost_micro_usd",
];

/// The most a single event may count, in tokens or micro-dollars: 10^12. A counter then stays below
/// 2^53 for 9,000 such events and below 2^63 for nine million.
pub const MAX_COUNT: u64 = 1_000_000_000_000;

/// The values of [`COUNTERS`].
pub type Counts = [i64; COUNTERS.len()];

impl UsageEvent {
    /// What this event adds to each of [`COUNTERS`].
    pub fn counts(&self) -> Counts {
        let tokens = [
            self.input_tokens,
            self.output_tokens,
            self.cache_creation_5m_tokens,
            self.cache_creation_1h_tokens,
            self.cache_read_tokens,
            self.cost_micro_usd,
        ];
        let mut counts = [1; COUNTERS.len()];
        for (count, value) in counts[1..].iter_mut().zip(tokens) {
            *count = value.min(MAX_COUNT) as i64;
        }
        counts
    }

    /// The windows it counts in.
    pub fn windows(&self, offset: Offset) -> [Window; 4] {
        let at = offset.to_datetime(self.at);
        [
            Window::Total,
            Window::Monthly(at.strftime("%Y-%m").to_string()),
            Window::Daily(at.strftime("%Y-%m-%d").to_string()),
            Window::Hourly(at.strftime("%Y-%m-%dT%H").to_string()),
        ]
    }
}

/// A span of time that usage is counted in, in the configured offset from UTC.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Window {
    Total,
    /// `YYYY-MM`
    Monthly(String),
    /// `YYYY-MM-DD`
    Daily(String),
    /// `YYYY-MM-DDTHH`
    Hourly(String),
}

impl Window {
    /// Reads `total`, `monthly:YYYY-MM`, `daily:YYYY-MM-DD` or `hourly:YYYY-MM-DDTHH`.
    pub fn parse(text: &str) -> Option<Self> {
        use jiff::civil::{Date, DateTime};
        match text.split_once(':') {
            None if text == "total" => Some(Self::Total),
            Some(("monthly", at)) if at.len() == 7 => {
                Date::strptime("%Y-%m-%d", format!("{at}-01")).ok().map(|_| Self::Monthly(at.into()))
            }
            Some(("daily", at)) if at.len() == 10 => {
                Date::strptime("%Y-%m-%d", at).ok().map(|_| Self::Daily(at.into()))
            }
            Some(("hourly", at)) if at.len() == 13 => {
                let start = format!("{at}:00");
                DateTime::strptime("%Y-%m-%dT%H:%M", start).ok().map(|_| Self::Hourly(at.into()))
            }
            _ => None,
        }
    }
}

impl std::fmt::Display for Window {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Total => f.write_str("total"),
            Self::Monthly(at) => write!(f, "monthly:{at}"),
            Self::Daily(at) => write!(f, "daily:{at}"),
            Self::Hourly(at) => write!(f, "hourly:{at}"),
        }
    }
}

/// A batch of events with distinct ids, and the receipts of the stores that counted it.
#[derive(Debug)]
pub struct Usage {
    pub events: Arc<Vec<UsageEvent>>,
    /// The offset from UTC in which windows begin.
    pub offset: Offset,
    /// Whether the events are owed to the other store.
    pub mark: Mark,
    pub receipts: Receipts,
    /// How many events were new to PostgreSQL, or else to Redis: one of the two has to decide.
    recorded: AtomicU64,
}

impl Usage {
    /// A caller's batch. Of events with the same id the first one counts.
    pub fn new(events: Vec<UsageEvent>, offset: Offset, mark: Mark) -> Self {
        let mut seen = BTreeSet::new();
        let mut events = events;
        events.retain(|event| seen.insert(event.id.clone()));
        let (receipts, recorded) = (Receipts::default(), AtomicU64::new(u64::MAX));
        Self { events: Arc::new(events), offset, mark, receipts, recorded }
    }

    /// How to offer it to a further store: once one has counted it, nothing is owed to that one.
    pub fn offer(&self) -> Self {
        let mark = if self.receipts.any() { Mark::Clean } else { self.mark };
        let (receipts, recorded) = (Receipts::default(), AtomicU64::new(u64::MAX));
        Self { events: self.events.clone(), offset: self.offset, mark, receipts, recorded }
    }

    /// Notes that a store counted the batch, and how many of the events were new to it.
    pub fn counted(&self, side: u8, new: u64) {
        let postgres_decided = self.receipts.get() & Receipts::POSTGRES != 0;
        if side & Receipts::POSTGRES != 0 || !postgres_decided {
            self.recorded.store(new, Ordering::Release);
        }
        self.receipts.set(side);
    }

    /// How many events were new to the store that decides; the others are duplicates.
    pub fn recorded(&self) -> u64 {
        self.recorded.load(Ordering::Acquire).min(self.events.len() as u64)
    }

    /// What a set of events adds to each counter: ids of `usage` records (`SUBJECT:WINDOW`) to counts.
    pub fn fold<'a>(
        events: impl IntoIterator<Item = &'a UsageEvent>,
        offset: Offset,
    ) -> BTreeMap<String, Counts> {
        let mut folded: BTreeMap<String, Counts> = BTreeMap::new();
        for event in events {
            for window in event.windows(offset) {
                let sum = folded.entry(format!("{}:{window}", event.key_id)).or_default();
                for (total, count) in sum.iter_mut().zip(event.counts()) {
                    *total = total.saturating_add(count);
                }
            }
        }
        folded
    }
}

/// Counters as the fields of a `usage` record.
pub fn counter_fields(counts: &Counts) -> Fields {
    COUNTERS.iter().zip(counts).map(|(name, count)| ((*name).to_owned(), count.to_string())).collect()
}
