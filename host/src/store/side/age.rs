//! When a copy is old enough to be read anew.

use std::time::Duration;

use tokio::sync::mpsc;

use super::Side;
use crate::store::{Key, Kind, Record, clock::now_ms};

/// Asks for copies older than their kind's `CACHE_*_TTL` to be read anew from PostgreSQL.
pub struct Refresh {
    /// Bounded; a full queue loses the request, and the next reader repeats it.
    pub queue: mpsc::Sender<Key>,
    /// The age for a kind.
    pub max_age: Box<dyn Fn(&Kind) -> Duration + Send + Sync>,
}

impl Side {
    /// Asks for a new copy of a record that has been here for longer than its kind allows.
    pub(super) fn note_age(&self, record: &Record) {
        let Some((refresh, at)) = self.refresh.as_ref().zip(record.cached_at) else { return };
        if now_ms() - at > (refresh.max_age)(record.key.kind).as_millis() as i64 {
            // A full queue loses the request; the next reader asks again.
            let _ = refresh.queue.try_send(record.key.clone());
        }
    }
}
