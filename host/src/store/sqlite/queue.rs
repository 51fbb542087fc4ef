//! The bounded way from a caller to the task that owns a connection.

use std::time::Duration;

use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::sync::oneshot;

use super::super::{Result, StoreError};

/// How many calls may wait for one connection.
const WAITING: usize = 1_024;

/// A call and where its answer goes.
pub(super) struct Job<C, A> {
    pub(super) call: C,
    pub(super) answer: oneshot::Sender<Result<A>>,
}

impl<C, A> Job<C, A> {
    /// Answers; a caller that gave up at its deadline does not hear it.
    pub(super) fn answer(self, answer: Result<A>) {
        let _ = self.answer.send(answer);
    }

    /// Whether the caller gave up.
    pub(super) fn is_abandoned(&self) -> bool {
        self.answer.is_closed()
    }
}

/// The caller's end.
pub(super) struct Queue<C, A> {
    jobs: mpsc::Sender<Job<C, A>>,
    deadline: Duration,
}

impl<C, A> Queue<C, A> {
    pub(super) fn new(deadline: Duration) -> (Self, mpsc::Receiver<Job<C, A>>) {
        let (jobs, queue) = mpsc::channel(WAITING);
        (Self { jobs, deadline }, queue)
    }

    /// The answer, or `Timeout` at the deadline. A full queue refuses at once.
    pub(super) async fn ask(&self, call: C) -> Result<A> {
        let (answer, answered) = oneshot::channel();
        self.jobs.try_send(Job { call, answer }).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::Overloaded,
            TrySendError::Closed(_) => StoreError::Unavailable("the embedded store has stopped".into()),
        })?;
        match tokio::time::timeout(self.deadline, answered).await {
            Ok(Ok(answer)) => answer,
            // Without an answer nobody knows what happened.
            Err(_) | Ok(Err(_)) => Err(StoreError::Timeout),
        }
    }
}
