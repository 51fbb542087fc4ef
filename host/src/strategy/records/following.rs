//! What a write does when the nodes have moved on to a later epoch.

use std::sync::Arc;
use std::time::Duration;

use super::Records;
use crate::planted;
use crate::store::{Receipts, Result, StoreError};
use crate::strategy::generation::Generation;

/// How long a write waits for this node to follow the others into their epoch.
const FOLLOW: Duration = Duration::from_secs(2);

impl Records {
    /// Whether the nodes have moved on while only PostgreSQL took a write. A node that has slept asks first: Redis
    /// would have refused, had it been reached.
    pub(super) async fn has_moved_on(&self, receipts: &Receipts, under: u64) -> Result<bool> {
        if receipts.get() != Receipts::POSTGRES || planted::is("epoch-check-removed") {
            return Ok(false);
        }
        match self.epoch.is_current(FOLLOW).await {
            true => Ok(self.epoch.get() > under),
            false => Err(StoreError::Timeout),
        }
    }

    /// What is active once this node has followed the others into their epoch.
    pub(super) async fn follow(&self) -> Result<Arc<Generation>> {
        match self.epoch.caught_up(FOLLOW).await {
            true => Ok(self.active.enter()),
            false => Err(StoreError::Fenced(self.epoch.refused())),
        }
    }
}
