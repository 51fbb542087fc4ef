//! What makes room in a full cache: never a marked record, never a record of a whole kind.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::State;
use crate::store::clock::now_ms;
use crate::store::{Record, Result, StoreError};

impl State {
    /// Drops expired records, then clean records of kinds that are not whole, until `bytes` more fit.
    pub(super) fn make_room(&mut self, bytes: usize, capacity: usize) -> Result<()> {
        if self.size + bytes <= capacity {
            return Ok(());
        }
        let now = now_ms();
        let records = self.kinds.values().flat_map(BTreeMap::values);
        let droppable = |record: &&Arc<Record>| {
            self.marked(&record.key).is_none() && (record.is_expired(now) || !record.key.kind.whole)
        };
        let droppable: Vec<_> = records.filter(droppable).cloned().collect();
        for record in droppable {
            if self.size + bytes <= capacity {
                break;
            }
            if record.is_live(now) {
                self.no_longer_complete(record.key.kind);
            }
            self.remove(&record.key);
        }
        if self.size + bytes > capacity {
            return Err(StoreError::Unavailable("the embedded cache is full".into()));
        }
        Ok(())
    }
}
