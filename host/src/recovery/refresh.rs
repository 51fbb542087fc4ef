//! Reads copies anew from PostgreSQL that have been in Redis for longer than their kind allows.

use std::sync::Arc;

use tokio::sync::mpsc;
use tracing::debug;

use super::conflicts::Conflicts;
use crate::store::side::Sides;
use crate::store::{Key, Result, Store, StoreError, Write};

/// How many records may wait to be read anew. A request that finds the queue full is lost; the next reader
/// asks again.
pub const QUEUE: usize = 1_024;

/// Refreshes one record after the other for as long as the task lives.
pub async fn run(sides: Sides, conflicts: Arc<Conflicts>, mut queue: mpsc::Receiver<Key>) {
    while let Some(key) = queue.recv().await {
        if let Err(error) = refresh(&sides, &conflicts, &key).await {
            debug!(%error, %key, "not read anew");
        }
    }
}

async fn refresh(sides: &Sides, conflicts: &Conflicts, key: &Key) -> Result<()> {
    let (Some(redis), Some(postgres)) = (&sides.redis, &sides.postgres) else { return Ok(()) };
    let Some(record) = postgres.backend.get(key).await? else { return Ok(()) };
    if !conflicts.before_copies(postgres, redis, std::slice::from_ref(&record)).await?.is_empty() {
        return Ok(());
    }
    match redis.put(&Write::copy(record)).await {
        // Redis has a newer one, which is on its way to PostgreSQL.
        Err(StoreError::Conflict(_)) => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::clock::now_ms;
    use crate::store::kind::API_KEY;
    use crate::store::memory::Memory;
    use crate::store::side::{Refresh, Side, Which};
    use crate::store::{Backend, Expect, Fields, Record};
    use crate::telemetry::Metrics;

    fn record(version: u64) -> Write {
        let key = Key::new(&API_KEY, "k1").unwrap();
        let (fields, expires_at, cached_at) = (Fields::new(), None, None);
        let record = Record { key, version, deleted: false, fields, expires_at, cached_at };
        Write::new(Arc::new(record), Expect::Anything)
    }

    #[tokio::test]
    async fn an_old_copy_is_read_anew_and_then_young() {
        let (redis, postgres) = (Memory::new(1 << 20), Memory::new(1 << 20));
        redis.put(&Write { mark: crate::store::Mark::Clean, ..record(1) }).await.unwrap();
        postgres.put(&record(1)).await.unwrap();
        let (queue, mut old) = mpsc::channel(QUEUE);
        // Every copy is old from the beginning, so that the test need not wait.
        let refresh = Refresh { queue, max_age: Box::new(|_| Duration::ZERO) };
        let side = |which, backend: &Memory, refresh| {
            let backend: Arc<dyn Backend> = Arc::new(backend.clone());
            Some(Arc::new(Side::new(which, backend, Metrics::default().store("test"), refresh)))
        };
        let sides = Sides {
            redis: side(Which::Redis, &redis, Some(refresh)),
            postgres: side(Which::Postgres, &postgres, None),
        };
        let conflicts = Conflicts::new(Arc::new(postgres.clone()), &Metrics::default());
        let key = Key::new(&API_KEY, "k1").unwrap();
        let first = redis.get(&key).await.unwrap().unwrap().cached_at;
        while now_ms() <= first.unwrap() + 1 {
            tokio::task::yield_now().await;
        }
        sides.redis.as_ref().unwrap().get(&key).await.unwrap();
        assert_eq!(old.try_recv().unwrap(), key);
        super::refresh(&sides, &conflicts, &key).await.unwrap();
        assert!(redis.get(&key).await.unwrap().unwrap().cached_at > first);

        postgres.put(&record(2)).await.unwrap();
        super::refresh(&sides, &conflicts, &key).await.unwrap();
        assert_eq!(redis.get(&key).await.unwrap().unwrap().version, 2);
    }
}
