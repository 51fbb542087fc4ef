//! Long operations of an admin: one at a time on all nodes, followed, cancelled, and resumed after a restart.
//!
//! # Layout
//! - `journal`: the last hundred operations and the lease of the one that runs, in the durable store
//! - `runner`: the task that carries them out
//! - `progress`: what a running one tells, and how fast it may go

mod journal;
mod progress;
mod runner;

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::Offset;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::store::clock::now_ms;
use crate::store::side::{Sides, Which};
use crate::store::{Backend, Clock, StoreError};
use crate::strategy::records::CarryOver;
use journal::{Journal, Taken};
pub(super) use progress::{PAGE, Place, Progress, Stop, Work};

/// What an operation is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Task {
    /// Every record of one store into the other.
    Sync { source: Which, target: Which },
    /// Compares the two stores.
    Check { deep: bool },
    /// Compares them and repairs by version; a dry run only says what it would do.
    Fix { deep: bool, dry_run: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Running,
    Done,
    Failed,
    Cancelled,
}

/// One operation, as everyone sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    pub id: String,
    #[serde(flatten)]
    pub task: Task,
    pub state: State,
    /// How many records were looked at.
    pub done: u64,
    /// How many there are to look at, when that is known.
    pub total: Option<u64>,
    /// Milliseconds since 1970.
    pub started_at: i64,
    pub ended_at: Option<i64>,
    pub node: String,
    pub result: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Operation {
    fn new(task: Task, node: &str) -> Self {
        Self {
            id: uuid::Uuid::now_v7().to_string(),
            task,
            state: State::Running,
            done: 0,
            total: None,
            started_at: now_ms(),
            ended_at: None,
            node: node.into(),
            result: Value::Null,
            error: None,
        }
    }

    fn end(&mut self, state: State, error: Option<String>) {
        (self.state, self.error, self.ended_at) = (state, error, Some(now_ms()));
    }
}

/// Why an operation was not begun.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("operation {0} is running; one runs at a time on all nodes. Wait for it, or cancel it")]
    Running(String),
    #[error("{0} is switched off in the settings of this node, and this needs both stores")]
    Off(&'static str),
    #[error("the list of operations cannot be reached: {0}")]
    Store(StoreError),
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// An operation and where it is: what survives a restart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Entry {
    slot: usize,
    operation: Operation,
    place: Place,
}

/// What [`Operations`] is made of.
pub struct Parts {
    /// Where the list of operations and the lease are kept.
    pub durable: Arc<dyn Backend>,
    pub sides: Sides,
    pub carry: Arc<dyn CarryOver>,
    pub clock: Arc<Clock>,
    /// Where days begin.
    pub offset: Offset,
    pub node: String,
}

/// The operations of all nodes; this one carries out those that were begun on it.
pub struct Operations {
    journal: Journal,
    sides: Sides,
    carry: Arc<dyn CarryOver>,
    clock: Arc<Clock>,
    offset: Offset,
    node: String,
    /// The one that runs here, or was the last to.
    current: Mutex<Option<Current>>,
    begun: mpsc::Sender<Entry>,
    queue: Mutex<Option<mpsc::Receiver<Entry>>>,
}

#[derive(Clone)]
struct Current {
    entry: Arc<watch::Sender<Entry>>,
    cancel: CancellationToken,
}

impl Current {
    fn id(&self) -> String {
        self.entry.borrow().operation.id.clone()
    }

    /// Waits until it has ended, or for so long.
    async fn ended(&self, patience: Duration) {
        let mut entry = self.entry.subscribe();
        let ended = entry.wait_for(|entry| entry.operation.state != State::Running);
        // It is shown as it is, ended or not.
        let _ = tokio::time::timeout(patience, ended).await;
    }
}

/// How often it is tried to begin what must be begun.
const AGAIN: Duration = Duration::from_secs(2);
/// How long a cancellation waits for the operation to end.
const ENDING: Duration = Duration::from_secs(5);

impl Operations {
    pub fn new(parts: Parts) -> Self {
        let Parts { durable, sides, carry, clock, offset, node } = parts;
        let journal = Journal::new(durable, clock.clone(), node.clone());
        // One operation has the lease, so that no second one waits.
        let (begun, queue) = mpsc::channel(1);
        let (current, queue) = (Mutex::default(), Mutex::new(Some(queue)));
        Self { journal, sides, carry, clock, offset, node, current, begun, queue }
    }

    /// Begins an operation, which goes on by itself.
    ///
    /// # Errors
    /// `Running` while another one is, on whichever node.
    pub async fn start(&self, task: Task) -> Result<Operation, Refused> {
        for which in [Which::Redis, Which::Postgres] {
            self.sides.side(which).map_err(|_| Refused::Off(which.name()))?;
        }
        let operation = Operation::new(task, &self.node);
        if let Taken::By(other) = self.journal.take(&operation.id).await? {
            return Err(Refused::Running(other));
        }
        let begun = async {
            let slot = self.journal.free_slot().await?;
            let entry = Entry { slot, operation: operation.clone(), place: Place::default() };
            self.journal.write(&entry).await?;
            let busy = |_| StoreError::Unavailable("this node is about to resume another operation".into());
            self.show(entry.clone());
            self.begun.try_send(entry).map_err(busy)
        };
        if let Err(error) = begun.await {
            self.journal.release(&operation.id).await;
            return Err(error.into());
        }
        Ok(operation)
    }

    /// The operations of all nodes, newest first.
    ///
    /// # Errors
    /// When the durable store does not answer.
    pub async fn list(&self) -> Result<Vec<Operation>, StoreError> {
        let mut operations: Vec<_> = self.journal.read().await?.into_iter().map(|e| e.operation).collect();
        if let Some(current) = self.current() {
            operations.retain(|operation| operation.id != current.id);
            operations.push(current);
        }
        operations.sort_by(|a, b| b.id.cmp(&a.id));
        Ok(operations)
    }

    /// # Errors
    /// When another node has it, or had, and the durable store does not answer.
    pub async fn get(&self, id: &str) -> Result<Option<Operation>, StoreError> {
        if let Some(current) = self.current().filter(|current| current.id == id) {
            return Ok(Some(current));
        }
        let entries = self.journal.read().await?;
        Ok(entries.into_iter().map(|entry| entry.operation).find(|operation| operation.id == id))
    }

    /// Ends an operation before its time; one that has ended stays as it is. One of another node ends within
    /// two seconds.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn cancel(&self, id: &str) -> Result<Option<Operation>, StoreError> {
        let current = self.current.lock().clone();
        if let Some(current) = current.filter(|current| current.id() == id) {
            current.cancel.cancel();
            current.ended(ENDING).await;
            let operation = current.entry.borrow().operation.clone();
            return Ok(Some(operation));
        }
        let entry = self.journal.read().await?.into_iter().find(|entry| entry.operation.id == id);
        let Some(mut entry) = entry else { return Ok(None) };
        if entry.operation.state == State::Running && !self.journal.ask_to_end(id).await? {
            // Nobody carries it out any more.
            entry.operation.end(State::Cancelled, None);
            self.journal.write(&entry).await?;
        }
        Ok(Some(entry.operation))
    }

    /// Waits until an operation of this node has ended, or for so long; answers how it stands.
    pub async fn wait(&self, id: &str, patience: Duration) -> Option<Operation> {
        let current = self.current.lock().clone().filter(|current| current.id() == id)?;
        current.ended(patience).await;
        let operation = current.entry.borrow().operation.clone();
        Some(operation)
    }

    /// Begins a sync to PostgreSQL each time that it is told to, as soon as no other operation runs; for as long as
    /// the task lives.
    pub async fn sync_when(self: Arc<Self>, told: Arc<Notify>) {
        let task = Task::Sync { source: Which::Redis, target: Which::Postgres };
        loop {
            told.notified().await;
            while let Err(refused) = self.start(task).await {
                debug!(%refused, "a sync to PostgreSQL waits");
                tokio::time::sleep(AGAIN).await;
            }
            info!("a sync takes over from Redis what PostgreSQL has lost of its totals");
        }
    }

    fn current(&self) -> Option<Operation> {
        self.current.lock().as_ref().map(|current| current.entry.borrow().operation.clone())
    }

    /// Makes an entry the current one, unless it is already.
    fn show(&self, entry: Entry) -> Current {
        let mut current = self.current.lock();
        if let Some(current) = current.as_ref().filter(|current| current.id() == entry.operation.id) {
            return current.clone();
        }
        let shown = Current { entry: Arc::new(watch::Sender::new(entry)), cancel: CancellationToken::new() };
        *current = Some(shown.clone());
        shown
    }
}
