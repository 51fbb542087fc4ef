//! What the other store owes this one. The drain takes a moment for it; when it cannot carry over for longer, a store
//! that is well by itself shows what other nodes have replaced. Then who reads it asks both.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use super::Side;
use crate::store::breaker::Circuit;
use crate::store::clock::now_ms;
use crate::store::kind::Visibility;
use crate::store::{Key, Kind, Record, Result, StoreError};

/// A mark that is older than this is held up: the drain takes half of it.
pub const HELD_UP: Duration = Duration::from_millis(500);
/// From this age on both stores are asked: what another node has acknowledged is shown within two seconds.
const ASKS_BOTH: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct Owed {
    other: OnceLock<Weak<Side>>,
    /// How long the oldest mark in the other store had waited when it was last asked, in milliseconds.
    waited_ms: AtomicU64,
}

impl Side {
    /// Makes each the other one of the other. To be called once.
    pub fn pair(redis: &Arc<Self>, postgres: &Arc<Self>) {
        for (side, other) in [(redis, postgres), (postgres, redis)] {
            // A second call changes nothing.
            let _ = side.owed.other.set(Arc::downgrade(other));
        }
    }

    pub(in crate::store) fn other(&self) -> Option<Arc<Self>> {
        self.owed.other.get()?.upgrade()
    }

    /// For how long the oldest of what is to be carried over here has waited in the other store, zero if nothing has.
    pub fn set_waited(&self, time: Duration) {
        self.owed.waited_ms.store(time.as_millis() as u64, Ordering::Release);
    }

    pub(in crate::store) fn has_waited(&self, time: Duration) -> bool {
        self.owed.waited_ms.load(Ordering::Acquire) > time.as_millis() as u64
    }

    /// The other store, while it is to be asked, too. One that is down is no help: see `precedence.rs`.
    pub(super) fn asks_beside(&self) -> Option<Arc<Self>> {
        if !self.has_waited(ASKS_BOTH) {
            return None;
        }
        self.other().filter(|other| other.breaker.up_for_reads())
    }

    /// What the other store has of a record, while that is to be asked. To be asked first: what is carried over
    /// meanwhile is then found here.
    pub(super) async fn beside(&self, key: &Key) -> Result<Option<Arc<Record>>> {
        match self.asks_beside() {
            Some(other) if key.kind.visibility == Visibility::Public => {
                readable(other.ask(Circuit::Reads, other.backend.get(key)).await)
            }
            _ => Ok(None),
        }
    }

    /// # Errors
    /// `Unavailable` when the other store has a newer version than was found here.
    pub(super) fn not_owed(&self, found: Option<&Arc<Record>>, beside: Option<Arc<Record>>) -> Result<()> {
        let is_newer = |beside: &Arc<Record>| match found {
            Some(found) => beside.version > found.version,
            None => beside.is_live(now_ms()),
        };
        match beside.filter(is_newer) {
            Some(newer) => Err(self.lags_behind_a_write_of(&newer.key)),
            None => Ok(()),
        }
    }

    /// The record with this value, which is here and in the other store as [`Side::get_current`] has it.
    pub(super) async fn find_beside(
        &self,
        other: &Self,
        kind: &'static Kind,
        index: &str,
        value: &str,
    ) -> Result<Option<Arc<Record>>> {
        let lagged = self.lag.may_hide(kind, value);
        let find = async |side: &Self| side.ask(Circuit::Reads, side.backend.find(kind, index, value)).await;
        let (here, there) = tokio::join!(find(self), find(other));
        let (here, there) = (here?, readable(there)?);
        for candidate in [here, there].into_iter().flatten() {
            let record = self.get_current(&candidate.key).await?;
            if let Some(record) = record.filter(|record| record.index_value() == Some(value)) {
                return Ok(Some(record));
            }
        }
        if lagged || self.lag.may_hide(kind, value) {
            return Err(StoreError::Unavailable(format!("{} lags behind", self.which.name())));
        }
        self.absent(kind, None).await
    }
}

/// What cannot be read in the other store is not newer.
fn readable(beside: Result<Option<Arc<Record>>>) -> Result<Option<Arc<Record>>> {
    match beside {
        Err(StoreError::Other(_)) => Ok(None),
        asked => asked,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::kind::API_KEY;
    use crate::store::memory::Memory;
    use crate::store::side::Which;
    use crate::store::{Expect, Fields, Store, Write};
    use crate::telemetry::Metrics;

    fn sides() -> [Arc<Side>; 2] {
        let metrics = Metrics::default();
        let sides = [Which::Redis, Which::Postgres].map(|which| {
            let (backend, metrics) = (Arc::new(Memory::new(1 << 20)), metrics.store(which.name()));
            Arc::new(Side::new(which, backend, metrics, None))
        });
        Side::pair(&sides[0], &sides[1]);
        sides
    }

    fn key() -> Key {
        Key::new(&API_KEY, "a").unwrap()
    }

    async fn put(side: &Side, version: u64, hash: &str) {
        let fields = Fields::from([("apiKey".into(), hash.into())]);
        let (key, deleted, expires_at, cached_at) = (key(), hash.is_empty(), None, None);
        let record = Record { key, version, deleted, fields, expires_at, cached_at };
        side.put(&Write::new(Arc::new(record), Expect::Anything)).await.unwrap();
    }

    /// The versions that a side shows under the key and under two values; none where it refuses.
    async fn shown(side: &Side) -> [Option<u64>; 3] {
        let version = |read: Result<Option<Arc<Record>>>| read.ok().flatten().map(|record| record.version);
        [
            version(side.get(&key()).await),
            version(side.find(&API_KEY, "hash", "old").await),
            version(side.find(&API_KEY, "hash", "new").await),
        ]
    }

    #[tokio::test]
    async fn what_has_waited_for_long_hides_what_it_replaces() {
        for turned in [false, true] {
            let [mut has, mut lacks] = sides();
            if turned {
                std::mem::swap(&mut has, &mut lacks);
            }
            put(&has, 1, "old").await;
            put(&lacks, 1, "old").await;
            put(&has, 2, "new").await;
            for (waited, is_shown) in
                [(0, [Some(1), Some(1), None]), (900, [Some(1), Some(1), None]), (1_100, [None; 3])]
            {
                lacks.set_waited(Duration::from_millis(waited));
                assert_eq!(shown(&lacks).await, is_shown, "after {waited} ms");
            }
            let refused = lacks.find(&API_KEY, "hash", "new").await;
            assert!(matches!(refused, Err(StoreError::Unavailable(_))), "not absent: {refused:?}");
            has.set_waited(Duration::from_secs(2));
            assert_eq!(shown(&has).await, [Some(2), None, Some(2)], "nothing is owed to it");
            put(&lacks, 2, "new").await;
            assert_eq!(
                shown(&lacks).await,
                [Some(2), None, Some(2)],
                "carried over, though the mark is still there"
            );
            put(&has, 3, "").await;
            assert_eq!(shown(&lacks).await, [None; 3], "a delete counts");
        }
    }

    #[tokio::test]
    async fn a_missing_record_is_not_hidden_by_one_that_is_deleted_or_over() {
        let [redis, postgres] = sides();
        put(&postgres, 1, "").await;
        redis.set_waited(Duration::from_secs(2));
        let beside = redis.beside(&key()).await.unwrap();
        assert!(beside.as_ref().is_some_and(|record| record.deleted));
        assert_eq!(redis.not_owed(None, beside), Ok(()));
    }
}
