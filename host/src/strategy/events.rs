//! What happened to strategies: who, what, when, why. The last thousand, newest first.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::catalogue::Catalogue;
use crate::store::kind::STRATEGY_EVENT;
use crate::store::{Fields, Key, StoreError, clock::now_ms};

/// How many events are kept, in memory and in the durable store.
pub const KEPT: usize = 1_000;

/// One change, or one attempt that was refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Rises by one with each event, across restarts.
    pub number: u64,
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

/// The event list. Memory answers; the durable store lets it survive a restart.
pub struct Events {
    recent: Mutex<VecDeque<Event>>,
    catalogue: Arc<Catalogue>,
}

impl Events {
    pub fn new(catalogue: Arc<Catalogue>) -> Self {
        Self { recent: Mutex::default(), catalogue }
    }

    /// Takes in what earlier runs left.
    pub async fn load(&self) -> Result<(), StoreError> {
        let page = self.catalogue.store().scan(&STRATEGY_EVENT, None, KEPT as u32).await?;
        let parse =
            |record: &Arc<crate::store::Record>| serde_json::from_str(record.fields.get("event")?).ok();
        let mut earlier: Vec<Event> = page.records.iter().filter_map(parse).collect();
        earlier.sort_by_key(|event| std::cmp::Reverse(event.number));
        let mut recent = self.recent.lock();
        // Events of this run were numbered from one: they come after what was there before.
        let offset = earlier.first().map_or(0, |newest| newest.number);
        recent.iter_mut().for_each(|event| event.number += offset);
        recent.extend(earlier);
        recent.truncate(KEPT);
        Ok(())
    }

    /// Adds an event, and keeps it durably as far as the store can be reached.
    pub async fn add(&self, event: Event) {
        let event = self.push(event);
        let Event { action, strategy, detail, by, generation, .. } = &event;
        info!(action, strategy, by, generation, detail, "strategy event");
        if let Err(error) = self.keep(&event).await {
            warn!(%error, number = event.number, "strategy event not kept durably");
        }
    }

    /// Newest first.
    pub fn list(&self) -> Vec<Event> {
        self.recent.lock().iter().cloned().collect()
    }

    fn push(&self, mut event: Event) -> Event {
        let mut recent = self.recent.lock();
        event.number = recent.front().map_or(1, |newest| newest.number + 1);
        recent.push_front(event.clone());
        recent.truncate(KEPT);
        event
    }

    /// A ring of slots: the newest event takes the place of the oldest.
    async fn keep(&self, event: &Event) -> Result<(), StoreError> {
        let other = |error: String| StoreError::Other(error);
        let json = serde_json::to_string(event).map_err(|error| other(error.to_string()))?;
        let slot = format!("{:04}", event.number % KEPT as u64);
        let key = Key::new(&STRATEGY_EVENT, &slot).map_err(|error| other(error.to_string()))?;
        self.catalogue.write(key, Fields::from([("event".to_owned(), json)]), false).await
    }
}

impl Event {
    pub fn new(action: &str, strategy: &str, by: &str, detail: impl Into<String>) -> Self {
        let detail: String = detail.into();
        Self {
            number: 0,
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
