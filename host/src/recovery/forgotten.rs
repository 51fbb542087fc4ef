//! Deletes again in a PostgreSQL that was put back from a backup what had been deleted since, although Redis keeps no
//! tombstone of it any more.

use futures::{StreamExt, TryStreamExt, stream};
use tracing::warn;

use super::copy::Pace;
use crate::store::clock::now_ms;
use crate::store::kind::Kind;
use crate::store::side::Side;
use crate::store::{Expect, Fields, MAX_PAGE, Mark, Record, Result, StoreError, Write};
use crate::strategy::records::CarryOver;

/// A store knows of a delete for at least this long, in milliseconds.
const REMEMBERED_MS: i64 = 24 * 3_600 * 1_000;
const AT_ONCE: usize = 64;

/// Deletes the records of whole kinds that Redis, which is complete for them, does not have. Redis had them, because
/// PostgreSQL owes it nothing older than a day, and never loses one but by a delete. Answers their names.
pub(super) async fn delete(
    redis: &Side,
    postgres: &Side,
    carry: &dyn CarryOver,
    pace: &mut Pace,
) -> Result<Vec<String>> {
    // What PostgreSQL does owe is in Redis after this, unless that refuses it.
    if let Some(reason) = carry.catch_up().await.incomplete {
        return Err(StoreError::Unavailable(reason));
    }
    let before = ((now_ms() - REMEMBERED_MS) * 1_000) as u64;
    let mut deleted = Vec::new();
    for kind in Kind::public().filter(|kind| kind.whole) {
        if !redis.backend.complete(kind).await? {
            continue;
        }
        let mut after: Option<String> = None;
        loop {
            let page = postgres.backend.scan(kind, after.as_deref(), MAX_PAGE).await?;
            pace.take(page.records.len()).await;
            let old = page.records.into_iter().filter(|record| record.version < before);
            let sought = old.map(|record| async move { delete_if_gone(redis, postgres, &record).await });
            let gone: Vec<_> = stream::iter(sought).buffer_unordered(AT_ONCE).try_collect().await?;
            deleted.extend(gone.into_iter().flatten());
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
    Ok(deleted)
}

async fn delete_if_gone(redis: &Side, postgres: &Side, record: &Record) -> Result<Option<String>> {
    match redis.backend.get(&record.key).await {
        Ok(None) => {}
        // What cannot be read was not deleted.
        Ok(Some(_)) | Err(StoreError::Other(_)) => return Ok(None),
        Err(error) => return Err(error),
    }
    // Redis refuses what is still owed to it: it never had that.
    if !postgres.backend.marked(std::slice::from_ref(&record.key)).await?.is_empty() {
        return Ok(None);
    }
    let (version, fields) = (record.version + 1, Fields::new());
    let tombstone = Record { version, deleted: true, fields, expires_at: None, ..record.clone() };
    let write = Write { mark: Mark::Dirty, ..Write::new(tombstone.into(), Expect::AtMost(record.version)) };
    match postgres.backend.put(&write).await {
        Ok(()) => Ok(Some(record.key.to_string())),
        // It was written anew meanwhile.
        Err(StoreError::Conflict(_)) => Ok(None),
        Err(error @ (StoreError::Other(_) | StoreError::Unsupported(_))) => {
            warn!(%error, key = %record.key, "not deleted again");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
