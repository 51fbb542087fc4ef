//! How a read is answered: with what is known to be current here, or not at all.

use std::sync::Arc;

use super::{Side, Which};
use crate::planted;
use crate::store::breaker::Circuit;
use crate::store::kind::Visibility;
use crate::store::{Key, Kind, Record, Result, StoreError, Version};

impl Side {
    /// A missing record is absent from a complete store, and unknown otherwise.
    pub(super) async fn absent<T>(&self, kind: &'static Kind, absent: T) -> Result<T> {
        // Redis may be emptied while it serves: it is asked every time.
        let fresh = self.which == Which::Postgres && self.complete.is_fresh(kind);
        if fresh || planted::is("miss-believed") {
            return Ok(absent);
        }
        if self.ask(Circuit::Reads, self.backend.complete(kind)).await? {
            self.complete.confirm(kind);
            return Ok(absent);
        }
        let (store, kind) = (self.which.name(), kind.name);
        Err(StoreError::Unavailable(format!("{store} may not hold every {kind} yet")))
    }

    /// Asked before a read: it may be overtaken by the end of the lag.
    pub(super) fn not_as_a_whole(&self) -> Result<()> {
        self.not_preceded()?;
        match self.lag.is_everything() {
            true => Err(StoreError::Unavailable(format!("{} lags behind", self.which.name()))),
            false => Ok(()),
        }
    }

    fn current(&self, key: &Key, found: Option<Version>) -> Result<()> {
        if (self.lag.is_empty() || !self.lag.is_behind(key, found)) && !self.lag.is_overtaken(key, found) {
            return Ok(());
        }
        Err(self.lags_behind_a_write_of(key))
    }

    pub(super) fn lags_behind_a_write_of(&self, key: &Key) -> StoreError {
        let store = self.which.name();
        StoreError::Unavailable(format!("{store} lags behind an acknowledged write of {key}"))
    }

    pub(super) async fn get_current(&self, key: &Key) -> Result<Option<Arc<Record>>> {
        self.not_as_a_whole()?;
        let beside = self.beside(key).await?;
        let found = self.ask(Circuit::Reads, self.backend.get(key)).await?;
        if key.kind.visibility == Visibility::Totals {
            // Afterwards: a store that lost its counters meanwhile is not complete any more.
            self.absent(key.kind, ()).await?;
            self.counted()?;
        }
        self.current(key, found.as_ref().map(|record| record.version))?;
        self.not_owed(found.as_ref(), beside)?;
        match found {
            Some(record) => {
                self.note_found(&record);
                Ok(Some(record))
            }
            None => self.absent(key.kind, None).await,
        }
    }

    pub(super) async fn find_current(
        &self,
        kind: &'static Kind,
        index: &str,
        value: &str,
    ) -> Result<Option<Arc<Record>>> {
        self.not_as_a_whole()?;
        if let Some(other) = self.asks_beside() {
            return self.find_beside(&other, kind, index, value).await;
        }
        let lagged = self.lag.may_hide(kind, value);
        let found = self.ask(Circuit::Reads, self.backend.find(kind, index, value)).await?;
        let Some(record) = found else {
            // The missing one may be among those that lag, or did when this was asked.
            if lagged || self.lag.may_hide(kind, value) {
                return Err(StoreError::Unavailable(format!("{} lags behind", self.which.name())));
            }
            return self.absent(kind, None).await;
        };
        self.current(&record.key, Some(record.version))?;
        self.note_found(&record);
        Ok(Some(record))
    }
}
