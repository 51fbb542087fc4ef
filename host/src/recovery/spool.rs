//! Keeps usage events on this machine while no store takes them, and has them counted when one does.
//!
//! What is acknowledged is on the disk. Counting is by event id, so that a crash between counting and removing a file
//! counts nothing twice.
//!
//! # Layout
//! - [`frame`]: batches in a file, with checksums
//! - [`files`]: the files
//! - [`writer`]: the one task that writes; what waits together shares a sync

mod files;
pub(crate) mod frame;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::{HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tracing::{debug, info};

use crate::store::side::{Sides, Which};
use crate::store::{Result, StoreError, UsageEvent};
use crate::strategy::records::{KeepUsage, Records};
use crate::telemetry::Metrics;
use files::{Files, Sealed};
use writer::Job;

/// The most bytes that the files of the spool may have together.
pub const CAPACITY: u64 = 64 << 20;
/// How many batches may wait to be written.
const QUEUE: usize = 1_024;
/// How long writing may take.
const DEADLINE: Duration = Duration::from_secs(2);
/// How often the spool is looked at, and how long it waits at most after a failure.
const LOOK: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(2);
/// How many events are counted at once.
const AT_ONCE: usize = 200;

/// How long a file that Redis has counted is kept for PostgreSQL, too. Redis tells an event that it has counted from
/// a new one for two days.
const A_DAY: Duration = Duration::from_secs(86_400);

/// How often a part is repeated that was not answered in time.
const LATE: u32 = 5;

/// The spool of a node. Its writer ends when it is dropped.
pub struct Spool {
    jobs: mpsc::Sender<Job>,
    held: Arc<Held>,
}

/// What is in the spool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Spooled {
    pub events: u64,
    pub bytes: u64,
}

#[derive(Default)]
struct Held {
    sealed: Mutex<VecDeque<Sealed>>,
    /// Files that Redis alone has counted. They are counted again when PostgreSQL can: until then this disk is what
    /// outlasts a loss of Redis.
    in_redis: Mutex<HashSet<PathBuf>>,
    /// How many events these have.
    counted: AtomicU64,
    events: Gauge<u64, AtomicU64>,
    bytes: Gauge<u64, AtomicU64>,
}

impl Held {
    fn spooled(&self) -> Spooled {
        Spooled { events: self.events.get(), bytes: self.bytes.get() }
    }

    /// Whether there are events that Redis, or PostgreSQL, has yet to count.
    fn lacks(&self, which: Which) -> bool {
        let counted = match which {
            Which::Redis => self.counted.load(Ordering::Relaxed),
            Which::Postgres => 0,
        };
        self.events.get() > counted
    }

    fn took(&self, events: u64, bytes: u64) {
        self.events.inc_by(events);
        self.bytes.inc_by(bytes);
    }
}

impl Spool {
    /// Opens the spool in a folder, with what earlier runs have left there. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the folder cannot be created or read.
    pub fn open(folder: &Path, capacity: u64, metrics: &Metrics) -> std::io::Result<Self> {
        let (files, sealed) = Files::open(folder)?;
        let held = Arc::new(Held::default());
        let help = "Usage events that the data folder of this node has, and PostgreSQL has not.";
        metrics.register("spooled_usage_events", help, held.events.clone());
        metrics.register("spooled_bytes", "Size of these events in the data folder.", held.bytes.clone());
        for file in &sealed {
            held.took(file.events, file.bytes);
        }
        if !sealed.is_empty() {
            info!(events = held.events.get(), "usage events of an earlier run wait in the spool");
        }
        held.sealed.lock().extend(sealed);
        let (jobs, queue) = mpsc::channel(QUEUE);
        tokio::spawn(writer::run(files, queue, held.clone(), capacity));
        Ok(Self { jobs, held })
    }

    /// What is in it now.
    pub fn spooled(&self) -> Spooled {
        self.held.spooled()
    }

    /// Tells the stores' sides of what is kept here: until it is counted, no total is the whole.
    pub fn tell(&self, sides: &Sides) {
        for side in [&sides.redis, &sides.postgres].into_iter().flatten() {
            let (held, which) = (self.held.clone(), side.which);
            side.heed(move || held.lacks(which));
        }
    }

    /// Has the events counted as soon as a store takes them, for as long as the task lives.
    pub async fn run(self: Arc<Self>, records: Arc<Records>) {
        let mut pause = LOOK;
        loop {
            tokio::time::sleep(pause).await;
            pause = match self.drain(&*records).await {
                Ok(()) => LOOK,
                Err(error) => {
                    debug!(%error, "the spool is not counted yet");
                    (pause * 2).min(PATIENCE)
                }
            };
        }
    }

    /// Has everything counted that is in the spool now.
    ///
    /// # Errors
    /// When some of it could not be counted, and stays.
    async fn drain(&self, stores: &dyn Count) -> Result<()> {
        if self.spooled() == Spooled::default() {
            return Ok(());
        }
        let (done, sealed) = oneshot::channel();
        self.ask(Job::Seal(done), sealed).await?;
        let mut left = Ok(());
        let files: Vec<_> = self.held.sealed.lock().iter().cloned().collect();
        for file in files {
            let counted = self.held.in_redis.lock().contains(&file.path);
            let is_old = counted && files::age(&file) > A_DAY;
            if counted && !is_old && !stores.is_durable() {
                continue;
            }
            let done = match is_old {
                true => self.keep_no_longer(file).await,
                false => self.drain_file(file, stores).await,
            };
            match done {
                Ok(()) => {}
                Err(error @ (StoreError::Unavailable(_) | StoreError::Timeout)) => return Err(error),
                // The other files may fare better.
                Err(error) => left = Err(error),
            }
        }
        left
    }

    async fn drain_file(&self, file: Sealed, stores: &dyn Count) -> Result<()> {
        let (events, foreign) = read(&file).await?;
        count_all(&events, stores).await?;
        if stores.is_durable() {
            self.end(file, foreign, events.len()).await;
        } else if self.held.in_redis.lock().insert(file.path) {
            self.held.counted.fetch_add(file.events, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Redis would soon take its events for new ones.
    async fn keep_no_longer(&self, file: Sealed) -> Result<()> {
        let (_, foreign) = read(&file).await?;
        self.end(file, foreign, 0).await;
        Ok(())
    }

    async fn end(&self, file: Sealed, foreign: bool, events: usize) {
        self.held.sealed.lock().retain(|held| *held != file);
        self.held.events.inner().fetch_sub(file.events, Ordering::Relaxed);
        if self.held.in_redis.lock().remove(&file.path) {
            self.held.counted.fetch_sub(file.events, Ordering::Relaxed);
        }
        self.held.bytes.inner().fetch_sub(file.bytes, Ordering::Relaxed);
        info!(events, "usage events of the spool are counted");
        // Counted events that stay on the disk are counted again, which changes nothing.
        let _ = tokio::task::spawn_blocking(move || files::end(&file, foreign)).await;
    }

    async fn ask<T>(&self, job: Job, answer: oneshot::Receiver<T>) -> Result<T> {
        let asked = async {
            self.jobs.send(job).await.ok()?;
            answer.await.ok()
        };
        let ended = || StoreError::Unavailable("the local spool has ended".into());
        timeout(DEADLINE, asked).await.map_err(|_| StoreError::Timeout)?.ok_or_else(ended)
    }
}

#[async_trait]
impl KeepUsage for Spool {
    async fn keep(&self, events: &[UsageEvent]) -> Result<()> {
        let frame = frame::encode(events)
            .ok_or_else(|| StoreError::Other("a batch that is too large for the local spool".into()))?;
        let (done, kept) = oneshot::channel();
        let job = Job::Keep { frame, events: events.len() as u64, done };
        let kept = self.ask(job, kept).await?;
        kept.map_err(|why| StoreError::Unavailable(format!("no store takes usage, and {why}")))
    }
}

/// What counts events: the stores through the active strategy.
#[async_trait]
trait Count: Send + Sync {
    /// Answers what the acknowledgement is worth.
    async fn count(&self, events: Vec<UsageEvent>) -> Result<&'static str>;

    /// Whether what is counted now outlasts a loss of Redis, or is meant not to: PostgreSQL takes writes, or there
    /// is none.
    fn is_durable(&self) -> bool;
}

#[async_trait]
impl Count for Records {
    async fn count(&self, events: Vec<UsageEvent>) -> Result<&'static str> {
        Self::count(self, events).await.map(|written| written.durability)
    }

    fn is_durable(&self) -> bool {
        self.sides.postgres.as_ref().is_none_or(|postgres| postgres.breaker().up_for_writes())
    }
}

/// Has events counted where they outlast a crash, as they do in the spool. When a batch is refused, each of its
/// events for itself.
async fn count_all(events: &[UsageEvent], stores: &dyn Count) -> Result<()> {
    let (mut parts, mut refused) = (events.chunks(AT_ONCE).collect::<VecDeque<_>>(), None);
    let mut late = 0;
    while let Some(part) = parts.pop_front() {
        match stores.count(part.to_vec()).await {
            Ok("memory") => {
                return Err(StoreError::Unavailable("only memory would have the spooled events".into()));
            }
            Ok(_) => late = 0,
            // To begin the file anew would never end on a busy server.
            Err(StoreError::Timeout) if late < LATE => {
                late += 1;
                parts.push_front(part);
            }
            Err(
                error @ (StoreError::Unavailable(_)
                | StoreError::Paused(_)
                | StoreError::Fenced(_)
                | StoreError::Timeout
                | StoreError::Overloaded),
            ) => {
                return Err(error);
            }
            Err(_) if part.len() > 1 => parts.extend(part.chunks(1)),
            Err(error) => refused = Some(error),
        }
    }
    refused.map_or(Ok(()), Err)
}

/// As [`files::read`].
async fn read(file: &Sealed) -> Result<(Vec<UsageEvent>, bool)> {
    let file = file.clone();
    let read = tokio::task::spawn_blocking(move || files::read(&file)).await;
    read.map_err(|error| failed(&error))?.map_err(|error| failed(&error))
}

fn failed(error: &dyn std::error::Error) -> StoreError {
    StoreError::Other(format!("reading the local spool failed: {error}"))
}
