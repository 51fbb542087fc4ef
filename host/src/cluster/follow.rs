//! The latest choice of an admin, wherever it was made: taken from each store, and put into each store.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::{Cluster, EVERY, Shared};
use crate::engine::Digest;
use crate::store::StoreError;
use crate::store::side::Which;
use crate::strategy::StrategyError;
use crate::strategy::catalogue::ActiveState;

/// Who switches, in the list of events.
const BY: &str = "cluster";

/// How long a version that could not be loaded is not tried again.
const RETRY: Duration = Duration::from_secs(5);

/// A choice that could not be followed.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) generation: u64,
    pub(super) error: String,
    /// When to try again.
    again: Instant,
}

impl Cluster {
    /// Looks into one store for ever: at intervals, and whenever there is news.
    pub(super) async fn tend(self: Arc<Self>, at: usize) {
        let Some(shared) = self.shared.get(at) else { return };
        let mut notices = shared.board().ok().and_then(|board| board.notices());
        let mut news = self.news.subscribe();
        loop {
            self.tend_once(shared).await;
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                notice = next(&mut notices) => self.compile_ahead(&notice),
                // The sender lives as long as the cluster.
                _ = news.changed() => {}
            }
        }
    }

    pub(super) async fn tend_once(self: &Arc<Self>, shared: &Shared) {
        let store = shared.side.which.name();
        if let Err(error) = self.follow(shared).await {
            tracing::debug!(store, %error, "the choice of a strategy was not looked up");
        }
        match self.announce(shared).await {
            Ok(()) => self.hear(shared).await,
            Err(error) => tracing::debug!(store, %error, "this node was not announced"),
        }
    }

    /// Takes a later choice from a store, or puts a later one into it.
    async fn follow(&self, shared: &Shared) -> Result<(), StoreError> {
        let kept = self.kept_in(shared).await?;
        if let Some(later) = kept.as_ref().filter(|kept| kept.is_after(&self.strategies.chosen())) {
            self.adopt(later).await;
        }
        let chosen = self.strategies.chosen();
        if kept.is_none_or(|kept| chosen.is_after(&kept)) {
            self.keep_in(shared, &chosen).await?;
        }
        Ok(())
    }

    async fn adopt(&self, later: &ActiveState) {
        let generation = later.generation;
        let waits = |failure: &Failure| failure.generation == generation && failure.again > Instant::now();
        if self.failure.lock().as_ref().is_some_and(waits) {
            return;
        }
        let failure = match self.strategies.follow(later.clone(), BY, "chosen on another node").await {
            Ok(_) => None,
            // Something else switches now; the next look finds out what became of it.
            Err(StrategyError::Busy) => return,
            Err(error) => {
                tracing::warn!(strategy = later.name, generation, %error, "a choice cannot be followed");
                let pause = if matches!(error, StrategyError::Store(_)) { Duration::ZERO } else { RETRY };
                Some(Failure { generation, error: error.to_string(), again: Instant::now() + pause })
            }
        };
        *self.failure.lock() = failure;
        self.tell();
    }

    /// The choice as a store has it: PostgreSQL in the catalogue, Redis as a copy.
    async fn kept_in(&self, shared: &Shared) -> Result<Option<ActiveState>, StoreError> {
        if shared.side.which == Which::Postgres {
            return self.strategies.kept().await;
        }
        let copy = shared.board()?.choice().await?;
        Ok(copy.and_then(|json| serde_json::from_str(&json).ok()))
    }

    async fn keep_in(&self, shared: &Shared, chosen: &ActiveState) -> Result<(), StoreError> {
        if shared.side.which == Which::Postgres {
            return self.strategies.keep_durably(chosen).await;
        }
        let json = serde_json::to_string(chosen).map_err(|error| StoreError::Other(error.to_string()))?;
        shared.board()?.set_choice(&json).await
    }

    /// Compiles a version that another node has just taken in, so that a switch to it is quick.
    fn compile_ahead(self: &Arc<Self>, notice: &str) {
        let Some((name, digest)) = notice.split_once('@') else { return };
        let (Some(digest), name, this) = (Digest::parse(digest), name.to_owned(), self.clone()) else {
            return;
        };
        tokio::spawn(async move {
            if let Err(error) = this.strategies.compile_ahead(&name, &digest).await {
                tracing::debug!(strategy = name, %error, "an uploaded version is not ready here");
            }
        });
    }
}

/// The next notice. Those that were missed are one without a name.
async fn next(notices: &mut Option<Receiver<String>>) -> String {
    if let Some(receiver) = notices {
        match receiver.recv().await {
            Ok(notice) => return notice,
            Err(RecvError::Lagged(_)) => return String::new(),
            Err(RecvError::Closed) => *notices = None,
        }
    }
    std::future::pending().await
}
