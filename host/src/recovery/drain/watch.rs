//! How long what one store has and the other lacks has waited: after some time neither is read alone.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::{Drain, LOOK};
use crate::store::clock::now_ms;
use crate::store::side::{HELD_UP, Side};
use crate::store::{Record, Result};

/// How many old marks are looked at. If all of them are in order, and there are more, the oldest counts.
const LOOKED_AT: u32 = 32;

impl Drain {
    /// Keeps each side informed for as long as the task lives. Each by itself: a look may wait for a store.
    pub(super) async fn watch(&self) {
        let (Some(redis), Some(postgres)) = (&self.sides.redis, &self.sides.postgres) else { return };
        tokio::join!(self.watch_one(redis, postgres), self.watch_one(postgres, redis));
    }

    async fn watch_one(&self, from: &Side, to: &Side) {
        loop {
            let began = Instant::now();
            // A store that takes no writes keeps its marks, and is read all the same.
            if from.breaker().up_for_reads()
                && let Ok(waited) = self.waited(from, to).await
            {
                to.set_waited(waited);
            }
            sleep(LOOK.max(began.elapsed())).await;
        }
    }

    /// For how long the oldest has waited that the other store has not, and would take.
    async fn waited(&self, from: &Side, to: &Side) -> Result<Duration> {
        let now = now_ms();
        let age = |ms: i64| Duration::from_millis((now - ms).try_into().unwrap_or_default());
        let oldest = from.backend.backlog().await?.oldest_ms.map_or(Duration::ZERO, age);
        if oldest <= HELD_UP {
            return Ok(oldest);
        }
        // A version is a time in microseconds.
        let before = (now - HELD_UP.as_millis() as i64).unsigned_abs() * 1_000;
        let marked = from.backend.dirty(before, 0, LOOKED_AT).await?;
        for record in &marked {
            if !self.refused.lock().has(to.which, &record.key) && !has(to, record).await {
                return Ok(age((record.version / 1_000) as i64));
            }
        }
        Ok(if marked.len() < LOOKED_AT as usize { Duration::ZERO } else { oldest })
    }
}

/// Whether a store has this version: then a mark is only not cleared yet.
async fn has(side: &Side, record: &Record) -> bool {
    let held = side.backend.get(&record.key).await.ok().flatten();
    held.is_some_and(|held| held.version >= record.version)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::tz::Offset;

    use super::*;
    use crate::recovery::conflicts::Conflicts;
    use crate::store::kind::API_KEY;
    use crate::store::memory::Memory;
    use crate::store::side::{Sides, Which};
    use crate::store::{Expect, Fields, Key, Store, StoreError, Write};
    use crate::telemetry::Metrics;

    #[tokio::test]
    async fn a_mark_counts_while_the_other_store_lacks_what_it_would_take() {
        let metrics = Metrics::default();
        let durable = Arc::new(Memory::new(1 << 20));
        let side = |which: Which| {
            let backend = Arc::new(Memory::new(1 << 20));
            Arc::new(Side::new(which, backend, metrics.store(which.name()), None))
        };
        let (redis, postgres) = (side(Which::Redis), side(Which::Postgres));
        let sides = Sides { redis: Some(redis.clone()), postgres: Some(postgres.clone()) };
        let drain = Drain::new(sides, Offset::UTC, Arc::new(Conflicts::new(durable, &metrics)), &metrics);
        let waited = async || drain.waited(&redis, &postgres).await.unwrap().as_secs();
        let write = |id: &str, seconds: i64| {
            let (key, fields) = (Key::new(&API_KEY, id).unwrap(), Fields::new());
            let version = (now_ms() - seconds * 1_000).unsigned_abs() * 1_000;
            let (deleted, expires_at, cached_at) = (false, None, None);
            let record = Record { key, version, deleted, fields, expires_at, cached_at };
            Write::new(Arc::new(record), Expect::Anything)
        };
        assert_eq!(waited().await, 0);
        let (old, older) = (write("a", 5), write("b", 3_600));
        redis.put(&old).await.unwrap();
        assert!((5..60).contains(&waited().await));
        redis.put(&older).await.unwrap();
        assert!(waited().await >= 3_600);
        drain.refused.lock().add(Which::Postgres, &older.record, &StoreError::Other("it is odd".into()));
        assert!((5..60).contains(&waited().await), "what is refused waits for ever");
        postgres.backend.put(&Write::copy(old.record)).await.unwrap();
        assert_eq!(waited().await, 0, "only the mark is still there");
    }
}
