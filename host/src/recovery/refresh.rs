//! Reads copies anew from PostgreSQL that have been in Redis for longer than their kind allows.

use tokio::sync::mpsc;
use tracing::debug;

use crate::store::side::Sides;
use crate::store::{Key, Result, Store, StoreError, Write};

/// How many records may wait to be read anew. A request that finds the queue full is lost; the next reader
/// asks again.
pub const QUEUE: usize = 1_024;

/// Refreshes one record after the other for as long as the task lives.
pub async fn run(sides: Sides, mut queue: mpsc::Receiver<Key>) {
    while let Some(key) = queue.recv().await {
        if let Err(error) = refresh(&sides, &key).await {
            debug!(%error, %key, "not read anew");
        }
    }
}

async fn refresh(sides: &Sides, key: &Key) -> Result<()> {
    let (Some(redis), Some(postgres)) = (&sides.redis, &sides.postgres) else { return Ok(()) };
    let Some(record) = postgres.backend.get(key).await? else { return Ok(()) };
    match redis.put(&Write::copy(record)).await {
        // Redis has a newer one, which is on its way to PostgreSQL.
        Err(StoreError::Conflict(_)) => Ok(()),
        done => done,
    }
}
