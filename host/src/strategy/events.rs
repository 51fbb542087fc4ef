//! What happened to strategies on all nodes: who, where, what, when, why. The last thousand, newest first.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::catalogue::Catalogue;
use crate::store::kind::STRATEGY_EVENT;
use crate::store::{Fields, Key, MAX_PAGE, Record, StoreError, clock::now_ms};

/// How many events are kept in memory, and listed.
pub const KEPT: usize = 1_000;

/// How many events of each node are kept in the durable store.
const SLOTS: usize = 250;

/// How many pages of the durable store are read: room for the slots of sixteen nodes.
const PAGES: usize = 4;

/// How long a list waits for the durable store.
const LISTED_WITHIN: Duration = Duration::from_secs(1);

/// One change, or one attempt that was refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = StrategyEvent)]
pub struct Event {
    /// Rises with each event of its node, across restarts.
    pub number: u64,
    /// The node that it happened on. Empty in events from before they had one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub node: String,
    /// Milliseconds since 1970.
    pub at: i64,
    /// `uploaded`, `activated`, `rolled-back`, `deleted`, `refused`, `watcher-failed`.
    pub action: String,
    pub strategy: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// `admin`, `watcher`, `startup`.
    pub by: String,
    /// Why, or how it went.
    pub detail: String,
}

/// The event list. The durable store has the events of all nodes, and lets them survive a restart; memory has
/// this node's own, and what was read last.
pub struct Events {
    node: String,
    recent: Mutex<Recent>,
    /// Not in the durable store yet, from old to new.
    owed: Mutex<VecDeque<Event>>,
    catalogue: Arc<Catalogue>,
}

#[derive(Default)]
struct Recent {
    /// The number of this node's newest event.
    last: u64,
    /// Newest first.
    events: Vec<Event>,
}

impl Recent {
    fn take_in(&mut self, events: impl IntoIterator<Item = Event>) {
        self.events.extend(events);
        let rank = |event: &Event| (event.at, event.number);
        self.events.sort_by(|one, other| (rank(other), &other.node).cmp(&(rank(one), &one.node)));
        self.events.dedup();
        self.events.truncate(KEPT);
    }
}

impl Events {
    pub fn new(catalogue: Arc<Catalogue>, node: String) -> Self {
        Self { node, recent: Mutex::default(), owed: Mutex::default(), catalogue }
    }

    /// Takes in what earlier runs and other nodes left, before the first event of this run.
    pub async fn load(&self) -> Result<(), StoreError> {
        match self.read().await {
            Ok(kept) => {
                self.go_on_after(kept.iter().map(|(_, event)| event));
                self.forget_oldest(kept).await
            }
            Err(error) => {
                // Greater than any that this node can have given in an earlier run, which is not known.
                self.recent.lock().last = now_ms().unsigned_abs();
                Err(error)
            }
        }
    }

    fn go_on_after<'a>(&self, kept: impl Iterator<Item = &'a Event> + Clone) {
        let mut recent = self.recent.lock();
        // Those without a node are from before events had one.
        let own = kept.clone().filter(|event| [&*self.node, ""].contains(&&*event.node));
        recent.last = own.map(|event| event.number).max().unwrap_or(0);
        recent.take_in(kept.cloned());
    }

    /// Adds an event, and keeps it durably as far as the store can be reached.
    pub async fn add(&self, event: Event) {
        let event = self.push(event);
        let Event { action, strategy, detail, by, generation, .. } = &event;
        info!(action, strategy, by, generation, detail, "strategy event");
        if let Err(error) = self.keep_owed().await {
            warn!(%error, number = event.number, "strategy event not kept durably yet");
        }
    }

    /// The events of all nodes, newest first; of the other nodes those that were read before, if the durable store
    /// does not answer soon.
    pub async fn list(&self) -> Vec<Event> {
        match timeout(LISTED_WITHIN, self.read()).await {
            Ok(Ok(kept)) => self.recent.lock().take_in(kept.into_iter().map(|(_, event)| event)),
            Ok(Err(error)) => debug!(%error, "the events of other nodes were not read"),
            Err(_) => debug!("the events of other nodes were not read in time"),
        }
        self.recent.lock().events.clone()
    }

    fn push(&self, event: Event) -> Event {
        let mut recent = self.recent.lock();
        recent.last += 1;
        let event = Event { number: recent.last, node: self.node.clone(), ..event };
        recent.take_in([event.clone()]);
        // Before the next one gets its number: they are kept in this order.
        let mut owed = self.owed.lock();
        owed.push_back(event.clone());
        let surplus = owed.len().saturating_sub(SLOTS);
        owed.drain(..surplus);
        event
    }

    /// What all nodes keep durably.
    async fn read(&self) -> Result<Vec<(Arc<Record>, Event)>, StoreError> {
        let (mut kept, mut cursor) = (Vec::new(), None::<String>);
        for _ in 0..PAGES {
            let page = self.catalogue.store().scan(&STRATEGY_EVENT, cursor.as_deref(), MAX_PAGE).await?;
            kept.extend(page.records.into_iter().filter_map(|record| {
                let event = serde_json::from_str(record.fields.get("event")?).ok()?;
                Some((record, event))
            }));
            match page.next {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
        Ok(kept)
    }

    /// Removes what is too old to be listed. Nodes that are gone leave their slots behind: a start removes as many
    /// as its own node may leave.
    async fn forget_oldest(&self, mut kept: Vec<(Arc<Record>, Event)>) -> Result<(), StoreError> {
        kept.sort_by_key(|(_, event)| event.at);
        let surplus = kept.len().saturating_sub(KEPT).min(SLOTS);
        for (record, _) in &kept[..surplus] {
            match self.catalogue.forget(record).await {
                // A newer event has taken its place.
                Err(StoreError::Conflict(_)) => {}
                done => done?,
            }
        }
        Ok(())
    }

    /// Keeps durably what is not yet, from old to new.
    async fn keep_owed(&self) -> Result<(), StoreError> {
        for _ in 0..SLOTS {
            let Some(event) = self.owed.lock().front().cloned() else { break };
            self.keep(&event).await?;
            self.owed.lock().retain(|owed| owed.number > event.number);
        }
        Ok(())
    }

    /// Each node has a ring of slots: its newest event takes the place of its oldest.
    async fn keep(&self, event: &Event) -> Result<(), StoreError> {
        let other = |error: String| StoreError::Other(error);
        let json = serde_json::to_string(event).map_err(|error| other(error.to_string()))?;
        let slot = format!("{}.{:03}", event.node, event.number % SLOTS as u64);
        let key = Key::new(&STRATEGY_EVENT, &slot).map_err(|error| other(error.to_string()))?;
        self.catalogue.write(key, Fields::from([("event".to_owned(), json)]), false).await
    }
}

impl Event {
    pub fn new(action: &str, strategy: &str, by: &str, detail: impl Into<String>) -> Self {
        let detail: String = detail.into();
        Self {
            number: 0,
            node: String::new(),
            at: now_ms(),
            action: action.into(),
            strategy: strategy.into(),
            digest: None,
            generation: None,
            by: by.into(),
            detail: detail.chars().filter(|c| !c.is_control()).take(2_000).collect(),
        }
    }
}
