//! What a strategy may answer. It decides where to look, not what is there.
//!
//! The host has seen what each store answered in this call, so it can tell an answer from an invention:
//! another record than the one asked for, one older than a store has shown, and "absent" where no store
//! said so are failures of the strategy, not answers.

use std::sync::Arc;

use wasmtime::component::Resource;

use super::bindings::switchyard::storage::types;
use super::invocation::{Invocation, Question};
use crate::store::{MAX_PAGE, Page, Receipts, Record, Result, StoreError};

fn broken<T>(how: impl Into<String>) -> Result<T> {
    Err(StoreError::Strategy(how.into()))
}

impl Invocation {
    /// An error answered instead. A conflict names a version that later writes must exceed, so that an
    /// invented one could leave no version for them.
    pub(super) fn refused(&self, error: types::Error) -> StoreError {
        match error {
            types::Error::Conflict(held) if !self.seen.iter().any(|(_, version)| held <= *version) => {
                StoreError::Strategy("it answered a conflict that no store has reported".into())
            }
            error => error.into(),
        }
    }

    /// The answer to `get` or `find`.
    pub(super) fn found(&mut self, handle: Option<Resource<Record>>) -> Result<Option<Arc<Record>>> {
        let Some(handle) = handle else {
            if self.answered {
                return Ok(None);
            }
            return broken("it answered that the record is absent, which no store has said");
        };
        let record = self.take(&handle)?;
        let asked_for = match &self.question {
            Question::Get(key) => record.key == *key,
            Question::Find { kind, value, .. } => {
                record.key.kind == *kind && record.index_value() == Some(value.as_str())
            }
            _ => false,
        };
        if !asked_for {
            return broken(format!("it answered another record than it was asked for: {}", record.key));
        }
        if self.seen.iter().any(|(key, version)| *key == record.key && *version > record.version) {
            return broken("it answered an older version than a store had shown it");
        }
        Ok(Some(record))
    }

    /// The answer to `scan`.
    pub(super) fn page(&mut self, page: types::Page, cursor: Option<&str>, limit: u32) -> Result<Page> {
        let Question::Scan { kind } = self.question else { return broken("it answered a scan unasked") };
        let records = page.records.iter().map(|handle| self.take(handle)).collect::<Result<Vec<_>>>()?;
        if !self.answered {
            return broken("it answered a page that no store has given");
        }
        if records.len() > limit.clamp(1, MAX_PAGE) as usize {
            return broken("it answered more records than a page may hold");
        }
        if records.iter().any(|record| *record.key.kind != *kind || record.deleted) {
            return broken("it answered a tombstone or a record of another kind in a scan");
        }
        let mut last = cursor;
        for record in &records {
            if last.is_some_and(|last| last >= &*record.key.id) {
                return broken("it answered records out of order");
            }
            last = Some(&record.key.id);
        }
        Ok(Page { next: page.next, records })
    }
}

/// The answer to `put` or `add`: ok only if a store really has it.
pub(super) fn stored(receipts: &Receipts) -> Result<()> {
    if receipts.any() {
        return Ok(());
    }
    broken("it answered ok but stored nothing")
}
