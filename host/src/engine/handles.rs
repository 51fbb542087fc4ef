//! The records a guest holds handles on.

use std::sync::Arc;

use crate::store::Record;

/// A slab: a handle is an index. Cheaper than a general resource table, and it counts what is alive.
#[derive(Default)]
pub(super) struct Handles {
    slots: Vec<Option<Arc<Record>>>,
    free: Vec<u32>,
}

impl Handles {
    /// A handle on the record, until it is taken back.
    pub(super) fn lend(&mut self, record: Arc<Record>) -> u32 {
        match self.free.pop() {
            Some(handle) => {
                self.slots[handle as usize] = Some(record);
                handle
            }
            None => {
                self.slots.push(Some(record));
                (self.slots.len() - 1) as u32
            }
        }
    }

    pub(super) fn get(&self, handle: u32) -> Option<&Arc<Record>> {
        self.slots.get(handle as usize)?.as_ref()
    }

    pub(super) fn take(&mut self, handle: u32) -> Option<Arc<Record>> {
        let record = self.slots.get_mut(handle as usize)?.take()?;
        self.free.push(handle);
        Some(record)
    }

    /// How many handles are alive.
    pub(super) fn live(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}
