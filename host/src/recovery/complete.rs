//! Makes each store complete: a store that holds every record of a kind may say that one is absent.
//!
//! At the first contact of two stores each is given what the other has, by compare-and-set, kind by kind,
//! and then marked complete. Where copying is not wanted, a store is complete if the other has nothing.
//! Usage totals are never copied: at first contact a store is complete for them if the other has counted nothing.

use tracing::{info, warn};

use super::copy::{Pace, Progress, named};
use crate::store::Result;
use crate::store::kind::{Kind, USAGE};
use crate::store::side::{Side, Sides};
use crate::strategy::records::CarryOver;

/// Whether records may be copied to make a store complete for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copying {
    Allowed,
    Unwanted,
}

/// One attempt at making all stores complete. Nothing but questions when they are.
///
/// # Errors
/// When a store cannot be reached; what was done until then stays done.
pub(super) async fn once(
    sides: &Sides,
    copying: Copying,
    carry: &dyn CarryOver,
    pace: &mut Pace,
) -> Result<()> {
    match (&sides.redis, &sides.postgres) {
        (Some(redis), Some(postgres)) => both(redis, postgres, copying, carry, pace).await,
        (Some(only), None) | (None, Some(only)) => alone(only).await,
        (None, None) => Ok(()),
    }
}

async fn both(
    redis: &Side,
    postgres: &Side,
    copying: Copying,
    carry: &dyn CarryOver,
    pace: &mut Pace,
) -> Result<()> {
    for kind in Kind::public() {
        for (from, to) in [(postgres, redis), (redis, postgres)] {
            if to.backend.complete(kind).await? {
                continue;
            }
            let nothing_to_copy = from.backend.scan(kind, None, 1).await?.records.is_empty();
            if nothing_to_copy || copying == Copying::Allowed {
                let dropped = to.backend.dropped(kind).await?;
                let mut copy = Progress::default();
                while !copy.is_done() {
                    copy.step(from, to, kind, carry, pace).await?;
                }
                if !copy.skipped.is_empty() {
                    let (store, left_out) = (to.which.name(), named(&copy.skipped));
                    warn!(store, left_out, "refused by the store, which does not answer for them");
                }
                // Copies that were dropped meanwhile are missing again.
                if to.backend.complete_since(kind, dropped).await? {
                    info!(
                        kind = kind.name,
                        store = to.which.name(),
                        copied = copy.count,
                        "store is complete"
                    );
                }
            }
        }
    }
    Ok(())
}

/// At first contact. Of two stores that have both counted usage, neither becomes complete for it.
pub(super) async fn first_usage(redis: &Side, postgres: &Side) -> Result<()> {
    for (side, other) in [(redis, postgres), (postgres, redis)] {
        if !side.backend.complete(&USAGE).await? && !other.backend.counts_usage().await? {
            side.backend.set_complete(&USAGE).await?;
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
