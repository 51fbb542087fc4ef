//! The task that carries operations out, one after the other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::journal::{Renewed, Taken};
use super::progress::PATIENCE;
use super::{Entry, Operations, Progress, State, Stop, Task, Work};
use crate::recovery::{check, sync};

/// How often a running operation is written down and its lease renewed.
const KEEP_EVERY: Duration = Duration::from_secs(1);
/// How often it is tried to write down that one has ended.
const LAST_WORDS: usize = 10;

impl Operations {
    /// Resumes what an earlier life of this node left unfinished, and carries out what is begun, for as long
    /// as the task lives. An operation that is running when the task ends is resumed by the next one.
    pub async fn run(self: Arc<Self>) {
        let Some(mut queue) = self.queue.lock().take() else { return };
        let mut unfinished = true;
        loop {
            let next = if unfinished { self.next_or_resumed(&mut queue).await } else { queue.recv().await };
            match next {
                Some(entry) => self.carry_out(entry).await,
                None if unfinished => unfinished = false,
                None => return,
            }
        }
    }

    /// What is begun next, or was left; none when nothing was.
    async fn next_or_resumed(&self, queue: &mut mpsc::Receiver<Entry>) -> Option<Entry> {
        loop {
            match self.left().await {
                Ok(Found::Nothing) => return None,
                Ok(Found::Ours(entry)) => {
                    info!(operation = entry.operation.id, "resumed");
                    return Some(*entry);
                }
                // Another one runs, or the store is away.
                Ok(Found::Waiting) | Err(_) => {}
            }
            if let Ok(begun) = tokio::time::timeout(KEEP_EVERY, queue.recv()).await {
                return begun;
            }
        }
    }

    /// The operation that this node left, with its lease.
    async fn left(&self) -> crate::store::Result<Found> {
        let left =
            |entry: &Entry| entry.operation.state == State::Running && entry.operation.node == self.node;
        let Some(entry) = self.journal.read().await?.into_iter().find(left) else {
            return Ok(Found::Nothing);
        };
        Ok(match self.journal.take(&entry.operation.id).await? {
            Taken::Ours => Found::Ours(entry.into()),
            Taken::By(_) => Found::Waiting,
        })
    }

    async fn carry_out(&self, entry: Entry) {
        let (id, task) = (entry.operation.id.clone(), entry.operation.task);
        let current = self.show(entry);
        let progress = Progress(current.entry);
        let outcome = tokio::select! {
            outcome = self.perform(task, &progress) => outcome,
            stop = self.keep(&progress.0, &current.cancel) => Err(stop),
        };
        self.tidy_up(task).await;
        let (state, error) = match outcome {
            Ok(()) => (State::Done, None),
            Err(Stop::Cancelled) => (State::Cancelled, None),
            Err(Stop::Failed(why)) => (State::Failed, Some(why)),
        };
        let mut ended = progress.0.borrow().clone();
        ended.operation.end(state, error);
        if state == State::Done {
            // What was there in the end is what was looked at: some may have gone since they were counted.
            ended.operation.total = Some(ended.operation.done);
        }
        // Written before it is shown, so that who sees the end may begin the next.
        for _ in 0..LAST_WORDS {
            match self.journal.write(&ended).await {
                Ok(()) => break,
                Err(error) => {
                    warn!(%error, operation = id, "the end of an operation is not written down yet")
                }
            }
            tokio::time::sleep(KEEP_EVERY).await;
        }
        self.journal.release(&id).await;
        info!(operation = id, ?state, done = ended.operation.done, "operation ended");
        progress.0.send_replace(ended);
    }

    fn perform<'a>(&'a self, task: Task, progress: &'a Progress) -> BoxFuture<'a, Result<(), Stop>> {
        let work = Work {
            sides: &self.sides,
            carry: &*self.carry,
            clock: &self.clock,
            offset: self.offset,
            progress,
        };
        Box::pin(async move {
            match task {
                Task::Sync { source, target } => sync::run(&work, source, target).await,
                Task::Check { deep } => check::run(&work, deep, None).await,
                Task::Fix { deep, dry_run } => check::run(&work, deep, Some(dry_run)).await,
            }
        })
    }

    /// Whatever way it ended: usage is counted again.
    async fn tidy_up(&self, task: Task) {
        if matches!(task, Task::Sync { .. })
            && let Some(redis) = &self.sides.redis
            && let Err(error) = redis.backend.close_usage(None).await
        {
            warn!(%error, "Redis counts usage again within half a minute");
        }
    }

    /// Writes the operation down and renews its lease until it has to end, and says why it has to. A lease that ends
    /// while the store is away is renewed afterwards, unless another operation has begun.
    async fn keep(&self, entry: &watch::Sender<Entry>, cancel: &CancellationToken) -> Stop {
        let id = entry.borrow().operation.id.clone();
        let mut held = Instant::now();
        loop {
            if cancel.run_until_cancelled(tokio::time::sleep(KEEP_EVERY)).await.is_none() {
                return Stop::Cancelled;
            }
            let now = entry.borrow().clone();
            if let Err(error) = self.journal.write(&now).await {
                warn!(%error, operation = id, "the progress of an operation is not written down");
            }
            match self.journal.renew(&id).await {
                Ok(Renewed::Ours) => held = Instant::now(),
                Ok(Renewed::ToEnd) => return Stop::Cancelled,
                Ok(Renewed::Lost) => return Stop::Failed("another operation has begun".into()),
                Err(error) if held.elapsed() > PATIENCE => {
                    return Stop::Failed(format!("the durable store does not answer: {error}"));
                }
                Err(_) => {}
            }
        }
    }
}

/// What was left by an earlier life.
enum Found {
    Nothing,
    Ours(Box<Entry>),
    Waiting,
}
