//! Whether a side has counted all usage that this node has acknowledged.

use std::sync::OnceLock;

use super::Side;
use crate::store::{Result, StoreError};

/// Whether this node keeps acknowledged usage that no store has.
#[derive(Default)]
pub(super) struct Spooled(OnceLock<Box<dyn Fn() -> bool + Send + Sync>>);

impl Side {
    /// Asks this from now on whether usage that was acknowledged is kept where no store has it: totals lack it then.
    /// The first one that is given holds.
    pub fn heed(&self, is_spooled: impl Fn() -> bool + Send + Sync + 'static) {
        let _ = self.spooled.0.set(Box::new(is_spooled));
    }

    /// Whether its usage counters are whole, as far as this node knows.
    pub fn has_counted_all(&self) -> bool {
        self.is_trusted() && self.counted().is_ok() && !self.lag.is_everything()
    }

    /// # Errors
    /// `Unavailable` when acknowledged usage is not counted here yet.
    pub(super) fn counted(&self) -> Result<()> {
        let is_spooled = self.spooled.0.get().is_some_and(|is_spooled| is_spooled());
        if !is_spooled && self.lag.has_counted_all() {
            return Ok(());
        }
        let store = self.which.name();
        Err(StoreError::Unavailable(format!("{store} has acknowledged usage yet to count")))
    }
}
