//! From an attempt's first token to its event in the stores, whatever ends in between: the client, the upstream or
//! this process.
//!
//! What an attempt has used is in the `journal` before [`OpenAttempt::seen`] returns, and stays there until a store
//! (or the spool) has acknowledged the event. What a process leaves there is recorded by the next one with the same
//! folder, under the same id, so that nothing counts twice.

mod attempt;

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::Notify;
use tracing::{debug, error, info};

use super::journal::{Entry, Journal};
use super::price::Prices;
use crate::store::{Result, StoreError, UsageEvent};
use crate::strategy::records::Records;
use crate::telemetry::{Metrics, Seldom};
pub use attempt::{Attempt, OpenAttempt};

/// How long events are folded into one batch, and how many there are in one at most: Redis counts a batch in one step,
/// of some microseconds an event. As many as come in that time at 10,000 a second.
const FOLD: Duration = Duration::from_millis(25);
const AT_ONCE: usize = 250;
/// How long to wait after a failure: at first and at most.
const PAUSE: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(2);
/// The most attempts that are open or wait to be recorded: some 150 MiB.
const MOST: usize = 200_000;

static FAILURES: Seldom = Seldom::new();
static LOST: Seldom = Seldom::new();

/// Records what attempts used.
pub struct Recorder {
    state: Mutex<State>,
    ready: Notify,
    prices: Arc<Prices>,
    figures: Figures,
}

struct State {
    journal: Journal,
    /// Attempts that have used something and are not recorded: open, or in the queue.
    held: HashMap<String, UsageEvent>,
    /// Those that have ended, oldest first.
    queue: VecDeque<String>,
}

#[derive(Default)]
struct Figures {
    held: Gauge<u64, AtomicU64>,
    recorded: Counter<u64, AtomicU64>,
    unjournaled: Counter<u64, AtomicU64>,
    lost: Counter<u64, AtomicU64>,
}

impl Recorder {
    /// Opens the journal in a folder. What an earlier run has left there is recorded first.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub fn start(folder: &Path, prices: Arc<Prices>, metrics: &Metrics) -> io::Result<Arc<Self>> {
        let (journal, left) = Journal::open(folder)?;
        if !left.is_empty() {
            info!(events = left.len(), "usage of attempts that an earlier run has not recorded");
        }
        let queue = left.iter().map(|event| event.id.clone()).collect();
        let held: HashMap<_, _> = left.into_iter().map(|event| (event.id.clone(), event)).collect();
        let figures = Figures::default();
        figures.held.set(held.len() as u64);
        let help = "Attempts that have used something and are not recorded yet.";
        metrics.register("usage_attempts_held", help, figures.held.clone());
        metrics.register("usage_attempts_recorded", "Attempts recorded.", figures.recorded.clone());
        let help = "Notes on attempts that the journal could not take.";
        metrics.register("usage_journal_failures", help, figures.unjournaled.clone());
        let help = "Attempts that could not be held until a store takes them.";
        metrics.register("usage_attempts_lost", help, figures.lost.clone());
        let state = Mutex::new(State { journal, held, queue });
        Ok(Arc::new(Self { state, ready: Notify::new(), prices, figures }))
    }

    /// Follows an attempt. One that is dropped has ended.
    pub fn open(self: &Arc<Self>, attempt: Attempt) -> OpenAttempt {
        OpenAttempt::new(self.clone(), attempt)
    }

    pub fn prices(&self) -> &Arc<Prices> {
        &self.prices
    }

    /// How many attempts have used something and are not recorded yet.
    pub fn held(&self) -> u64 {
        self.figures.held.get()
    }

    /// False when no further attempt could be held: stores and spool take nothing, and have not for long.
    pub fn has_room(&self) -> bool {
        self.figures.held.get() < MOST as u64
    }

    /// Records what has ended, for as long as the task lives.
    pub async fn run(self: Arc<Self>, records: Arc<Records>) {
        self.record_all(&*records).await;
    }

    /// Records what has ended until now, for at most this long. What is left is recorded by the next run.
    pub async fn flush(&self, records: &Records, patience: Duration) {
        let flushed = async { while self.waiting() > 0 && self.record_some(records).await.is_ok() {} };
        // What is left is in the journal.
        let _ = tokio::time::timeout(patience, flushed).await;
    }

    async fn record_all(&self, stores: &dyn Add) {
        let mut pause = PAUSE;
        loop {
            if self.waiting() == 0 {
                self.ready.notified().await;
            }
            if self.waiting() < AT_ONCE {
                tokio::time::sleep(FOLD).await;
            }
            match self.record_some(stores).await {
                Ok(()) => pause = PAUSE,
                Err(error) => {
                    debug!(%error, "usage is not recorded yet");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PATIENCE);
                }
            }
        }
    }

    fn waiting(&self) -> usize {
        self.state.lock().queue.len()
    }

    /// One batch. When it is refused, each of its events for itself.
    async fn record_some(&self, stores: &dyn Add) -> Result<()> {
        let batch: Vec<_> = {
            let state = self.state.lock();
            state.queue.iter().take(AT_ONCE).filter_map(|id| state.held.get(id).cloned()).collect()
        };
        match stores.add(batch.clone()).await {
            Ok(()) => {
                self.recorded(batch);
                Ok(())
            }
            Err(error) if passes(&error) => Err(error),
            Err(_) => self.record_each(stores, batch).await,
        }
    }

    async fn record_each(&self, stores: &dyn Add, batch: Vec<UsageEvent>) -> Result<()> {
        let mut refused = None;
        for event in batch {
            match stores.add(vec![event.clone()]).await {
                Ok(()) => self.recorded(vec![event]),
                Err(error) if passes(&error) => return Err(error),
                Err(error) => {
                    if FAILURES.is_due() {
                        error!(%error, event = event.id, "a usage event is refused; it is tried again");
                    }
                    self.later(&event);
                    refused = Some(error);
                }
            }
        }
        refused.map_or(Ok(()), Err)
    }

    fn recorded(&self, events: Vec<UsageEvent>) {
        let ids: Vec<_> = events.into_iter().map(|event| event.id).collect();
        let mut state = self.state.lock();
        let gone: HashSet<_> = ids.iter().map(String::as_str).collect();
        // They are at the front, unless some were put off.
        let front = state.queue.iter().take_while(|id| gone.contains(id.as_str())).count();
        state.queue.drain(..front);
        if front < ids.len() {
            state.queue.retain(|id| !gone.contains(id.as_str()));
        }
        for id in &ids {
            state.held.remove(id);
        }
        self.figures.held.set(state.held.len() as u64);
        self.figures.recorded.inc_by(ids.len() as u64);
        self.journal(&mut state, &Entry::Gone(&ids));
    }

    /// Lets others go first.
    fn later(&self, event: &UsageEvent) {
        let mut state = self.state.lock();
        if state.queue.front() == Some(&event.id) {
            state.queue.rotate_left(1);
        }
    }

    /// Holds what an attempt has used; if it has ended, to be recorded.
    fn hold(&self, event: UsageEvent, ended: bool) {
        let mut state = self.state.lock();
        if state.held.len() >= MOST && !state.held.contains_key(&event.id) {
            drop(state);
            self.figures.lost.inc();
            if LOST.is_due() {
                error!(
                    event = event.id,
                    "usage is lost: neither the stores nor the spool have taken any for long"
                );
            }
            return;
        }
        let id = event.id.clone();
        state.held.insert(id.clone(), event.clone());
        self.figures.held.set(state.held.len() as u64);
        self.journal(&mut state, &Entry::Holds(&event));
        if ended {
            state.queue.push_back(id);
            drop(state);
            self.ready.notify_one();
        }
    }

    fn journal(&self, state: &mut State, entry: &Entry<'_>) {
        let State { journal, held, .. } = state;
        if let Err(error) = journal.append(entry, held.values()) {
            self.figures.unjournaled.inc();
            if FAILURES.is_due() {
                error!(%error, "the usage journal cannot be written; a killed process would lose usage");
            }
        }
    }
}

/// Whether it will pass without anything being wrong with what was offered.
fn passes(error: &StoreError) -> bool {
    use StoreError::{ClockSkewed, Fenced, Overloaded, Paused, Timeout, Unavailable};
    matches!(error, Unavailable(_) | Paused(_) | Fenced(_) | Timeout | Overloaded | ClockSkewed(_))
}

/// What counts events: the stores through the active strategy, and the spool while they do not.
#[async_trait]
trait Add: Send + Sync {
    async fn add(&self, events: Vec<UsageEvent>) -> Result<()>;
}

#[async_trait]
impl Add for Records {
    async fn add(&self, events: Vec<UsageEvent>) -> Result<()> {
        Self::add(self, events).await.map(drop)
    }
}

#[cfg(test)]
mod tests;
