//! Usage: immutable events with an id, folded into counters by window.

mod group;
mod subject;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::civil::{Date, DateTime, ISOWeekDate, Weekday};
use jiff::{Timestamp, tz::Offset};
use serde::{Deserialize, Serialize};

pub use self::group::{Group, hour};
pub use self::subject::{Subject, encode, is_claude, model_name};
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
    pub fn windows(&self, offset: Offset) -> [Window; 5] {
        let at = offset.to_datetime(self.at);
        Span::ALL.map(|span| span.window(at))
    }
}

/// How long a window is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Span {
    Total,
    Monthly,
    Weekly,
    Daily,
    Hourly,
}

impl Span {
    const ALL: [Self; 5] = [Self::Total, Self::Monthly, Self::Weekly, Self::Daily, Self::Hourly];

    /// The window of this length that has this moment.
    pub fn window(self, at: DateTime) -> Window {
        match self {
            Self::Total => Window::Total,
            Self::Monthly => Window::Monthly(at.strftime("%Y-%m").to_string()),
            Self::Weekly => Window::Weekly(at.strftime("%G-W%V").to_string()),
            Self::Daily => Window::Daily(at.strftime("%Y-%m-%d").to_string()),
            Self::Hourly => Window::Hourly(at.strftime("%Y-%m-%dT%H").to_string()),
        }
    }
}

impl UsageEvent {
    /// Whose usage it is.
    pub fn subjects(&self) -> Vec<Subject> {
        let model = model_name(&self.model);
        let mut subjects = vec![Subject::Key(self.key_id.clone())];
        subjects.extend(self.account_id.clone().map(Subject::Account));
        if !model.is_empty() {
            subjects.extend([Subject::Model(model.clone()), Subject::KeyModel(self.key_id.clone(), model)]);
        }
        subjects.retain(Subject::fits);
        subjects
    }

    /// The ids of the `usage` records that it counts in.
    pub fn totals(&self, offset: Offset) -> Vec<String> {
        let windows = self.windows(offset);
        let of = |subject: Subject| windows.each_ref().map(|window| subject.id(window));
        self.subjects().into_iter().flat_map(of).collect()
    }
}

/// A span of time that usage is counted in, in the configured offset from UTC.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Window {
    Total,
    /// `YYYY-MM`
    Monthly(String),
    /// `YYYY-Www`: a week of ISO 8601, which begins on a Monday.
    Weekly(String),
    /// `YYYY-MM-DD`
    Daily(String),
    /// `YYYY-MM-DDTHH`
    Hourly(String),
}

impl Window {
    /// Reads `total`, `monthly:YYYY-MM`, `weekly:YYYY-Www`, `daily:YYYY-MM-DD` or `hourly:YYYY-MM-DDTHH`.
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once(':') {
            None if text == "total" => Some(Self::Total),
            Some(("monthly", at)) if at.len() == 7 => {
                Date::strptime("%Y-%m-%d", format!("{at}-01")).ok().map(|_| Self::Monthly(at.into()))
            }
            Some(("weekly", at)) if at.len() == 8 => monday(at).map(|_| Self::Weekly(at.into())),
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

/// The day that a week begins with.
fn monday(week: &str) -> Option<Date> {
    let (year, week) = week.split_once("-W")?;
    let week = ISOWeekDate::new(year.parse().ok()?, week.parse().ok()?, Weekday::Monday);
    week.ok().map(|week| week.date())
}

impl Window {
    /// The day that it begins on; none for all time.
    pub fn first_day(&self) -> Option<Date> {
        let day = |text: &str| Date::strptime("%Y-%m-%d", text).ok();
        match self {
            Self::Total => None,
            Self::Monthly(at) => day(&format!("{at}-01")),
            Self::Weekly(at) => monday(at),
            Self::Daily(at) => day(at),
            Self::Hourly(at) => day(at.get(..10)?),
        }
    }
}

impl std::fmt::Display for Window {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Total => f.write_str("total"),
            Self::Monthly(at) => write!(f, "monthly:{at}"),
            Self::Weekly(at) => write!(f, "weekly:{at}"),
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
    /// Whether these events are counted anew, in a store that may have listed them before.
    pub replayed: bool,
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
        Self { events: Arc::new(events), offset, mark, replayed: false, receipts, recorded }
    }

    /// Events that are counted anew.
    pub fn replay(events: Vec<UsageEvent>, offset: Offset) -> Self {
        Self { replayed: true, ..Self::new(events, offset, Mark::Clean) }
    }

    /// How to offer it to a further store: once one has counted it, nothing is owed to that one.
    pub fn offer(&self) -> Self {
        let mark = if self.receipts.any() { Mark::Clean } else { self.mark };
        let (receipts, recorded) = (Receipts::default(), AtomicU64::new(u64::MAX));
        Self { events: self.events.clone(), mark, receipts, recorded, ..*self }
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

    /// What a set of events adds to each counter: ids of `usage` records ([`Subject::id`]) to counts.
    pub fn fold<'a>(
        events: impl IntoIterator<Item = &'a UsageEvent>,
        offset: Offset,
    ) -> BTreeMap<String, Counts> {
        let mut groups: HashMap<Group<'_>, (&UsageEvent, Counts)> = HashMap::new();
        let add = |sum: &mut Counts, counts: Counts| {
            sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum = sum.saturating_add(count));
        };
        for event in events {
            let (_, sum) = groups.entry(event.group(offset)).or_insert((event, Counts::default()));
            add(sum, event.counts());
        }
        let mut folded: BTreeMap<String, Counts> = BTreeMap::new();
        for (event, counts) in groups.into_values() {
            event.totals(offset).into_iter().for_each(|total| add(folded.entry(total).or_default(), counts));
        }
        folded
    }
}

/// Counters as the fields of a `usage` record.
pub fn counter_fields(counts: &Counts) -> Fields {
    COUNTERS.iter().zip(counts).map(|(name, count)| ((*name).to_owned(), count.to_string())).collect()
}
