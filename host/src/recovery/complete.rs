//! Makes each store complete: a store that holds every record of a kind may say that one is absent.
//!
//! At the first contact of two stores each is given what the other has, by compare-and-set, kind by kind,
//! and then marked complete. Usage is never copied: a store is complete for it if the other has counted
//! nothing yet.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use tracing::{info, warn};

use crate::store::kind::{Kind, USAGE};
use crate::store::side::{Side, Sides};
use crate::store::{Backend, MAX_PAGE, Result, StoreError, Write};

/// How many records of a copy are on their way at once: enough for a server to batch them.
const AT_ONCE: usize = 64;
/// How long to wait before a copy that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Makes both stores complete, however long that takes, and ends.
pub async fn complete(sides: Sides) {
    let (Some(redis), Some(postgres)) = (&sides.redis, &sides.postgres) else {
        let only = [&sides.redis, &sides.postgres].into_iter().flatten();
        for side in only {
            alone(side).await;
        }
        return;
    };
    let mut told = false;
    while let Err(error) = once(redis, postgres).await {
        if !told {
            warn!(%error, "the stores are not known to be complete; trying every second");
            told = true;
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// One attempt at making both stores complete.
///
/// # Errors
/// When a store cannot be reached; what was done until then stays done.
pub async fn once(redis: &Side, postgres: &Side) -> Result<()> {
    // Of two stores that have both counted usage, neither is complete for it.
    let (redis_counts, postgres_counts) =
        (redis.backend.counts_usage().await?, postgres.backend.counts_usage().await?);
    for (side, other_counts) in [(redis, postgres_counts), (postgres, redis_counts)] {
        if !other_counts {
            side.backend.set_complete(&USAGE).await?;
        }
    }
    for kind in Kind::public() {
        for (from, to) in [(postgres, redis), (redis, postgres)] {
            if !to.backend.complete(kind).await? {
                let copied = copy(&*from.backend, &*to.backend, kind).await?;
                to.backend.set_complete(kind).await?;
                info!(kind = kind.name, store = to.which.name(), copied, "store is complete");
            }
        }
    }
    Ok(())
}

/// A store without another is all there is.
async fn alone(side: &Side) {
    for kind in Kind::public().chain([&USAGE]) {
        while let Err(error) = side.backend.set_complete(kind).await {
            tracing::debug!(%error, "not marked complete yet");
            tokio::time::sleep(RETRY).await;
        }
    }
}

/// Every live record of a kind from one store into the other, unless that has a newer one. Answers how many
/// records were looked at. Deletes travel by their marks.
async fn copy(from: &dyn Backend, to: &dyn Backend, kind: &'static Kind) -> Result<u64> {
    let (mut cursor, mut copied) = (None::<String>, 0);
    loop {
        let page = from.scan(kind, cursor.as_deref(), MAX_PAGE).await?;
        let puts = page.records.into_iter().map(|record| async {
            match to.put(&Write::copy(record)).await {
                Ok(()) | Err(StoreError::Conflict(_)) => Ok(1),
                Err(error) => Err(error),
            }
        });
        let puts: Vec<u64> = stream::iter(puts).buffer_unordered(AT_ONCE).try_collect().await?;
        copied += puts.len() as u64;
        match page.next {
            Some(next) => cursor = Some(next),
            None => return Ok(copied),
        }
    }
}
