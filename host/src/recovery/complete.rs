//! Makes each store complete: a store that holds every record of a kind may say that one is absent.
//!
//! At the first contact of two stores each is given what the other has, by compare-and-set, kind by kind,
//! and then marked complete. Where copying is not wanted, a store is complete if the other has nothing.
//! Usage is never copied: a store is complete for it if the other has counted nothing yet.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::oneshot;
use tracing::{info, warn};

use crate::store::kind::{Kind, USAGE};
use crate::store::side::{Side, Sides};
use crate::store::{Backend, MAX_PAGE, Result, StoreError, Write};

/// How many records of a copy are on their way at once: enough for a server to batch them.
const AT_ONCE: usize = 64;
/// How long to wait before a copy that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How long until the stores are asked again: a server may have lost its data meanwhile.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Whether records may be copied to make a store complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copying {
    Allowed,
    Unwanted,
}

/// Makes both stores complete, and again when one has lost its data, for as long as the task lives. Tells when
/// it has succeeded for the first time.
pub async fn keep_complete(sides: Sides, copying: Copying, first: oneshot::Sender<()>) {
    let (mut first, mut failing) = (Some(first), false);
    loop {
        match attempt(&sides, copying).await {
            Ok(()) => {
                failing = false;
                if let Some(first) = first.take() {
                    // Nobody waits any more when this fails.
                    let _ = first.send(());
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            Err(error) => {
                if !failing {
                    warn!(%error, "the stores are not known to be complete; trying every second");
                }
                failing = true;
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

async fn attempt(sides: &Sides, copying: Copying) -> Result<()> {
    match (&sides.redis, &sides.postgres) {
        (Some(redis), Some(postgres)) => once(redis, postgres, copying).await,
        (Some(only), None) | (None, Some(only)) => alone(only).await,
        (None, None) => Ok(()),
    }
}

/// One attempt at making both stores complete. Nothing but questions when they are.
///
/// # Errors
/// When a store cannot be reached; what was done until then stays done.
pub async fn once(redis: &Side, postgres: &Side, copying: Copying) -> Result<()> {
    // Of two stores that have both counted usage, neither becomes complete for it.
    for (side, other) in [(redis, postgres), (postgres, redis)] {
        if !side.backend.complete(&USAGE).await? && !other.backend.counts_usage().await? {
            side.backend.set_complete(&USAGE).await?;
        }
    }
    for kind in Kind::public() {
        for (from, to) in [(postgres, redis), (redis, postgres)] {
            if to.backend.complete(kind).await? {
                continue;
            }
            let nothing_to_copy = from.backend.scan(kind, None, 1).await?.records.is_empty();
            if nothing_to_copy || copying == Copying::Allowed {
                let copied = copy(&*from.backend, &*to.backend, kind).await?;
                to.backend.set_complete(kind).await?;
                info!(kind = kind.name, store = to.which.name(), copied, "store is complete");
            }
        }
    }
    Ok(())
}

/// A store without another is all there is.
async fn alone(side: &Side) -> Result<()> {
    for kind in Kind::public().chain([&USAGE]) {
        if !side.backend.complete(kind).await? {
            side.backend.set_complete(kind).await?;
        }
    }
    Ok(())
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
