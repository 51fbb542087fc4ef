//! Clears cached copies, and nothing that is not a copy.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;

use crate::store::side::{Side, Sides};
use crate::store::{Key, Kind, Result, StoreError, Version};

const PAGE: u32 = 250;
const AT_ONCE: usize = 16;
/// Between two steps: live traffic comes first.
const REST: Duration = Duration::from_millis(2);

/// What was cleared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cleared {
    #[serde(rename = "clearedKeys")]
    pub keys: u64,
    pub message: String,
}

/// Clears the copies in this process; and those in Redis that are clean, that PostgreSQL holds, and whose kind
/// need not be whole there. A record that only Redis holds stays, and so does everything while PostgreSQL is away.
///
/// # Errors
/// When Redis does not answer.
pub async fn clear(sides: &Sides) -> Result<Cleared> {
    let Some(redis) = &sides.redis else {
        return Ok(Cleared { keys: 0, message: "Redis is switched off: there are no copies".into() });
    };
    let near = redis.backend.forget_near().await?;
    let message = |rest: &str| format!("{near} copies in this process are forgotten; {rest}");
    let Some(postgres) = &sides.postgres else {
        let rest = "Redis is the only store, so that everything in it stays";
        return Ok(Cleared { keys: near, message: message(rest) });
    };
    let mut dropped = 0;
    for kind in Kind::public().filter(|kind| !kind.whole) {
        match clear_kind(redis, postgres, kind).await {
            Ok(more) => dropped += more,
            Err(Away(error)) => {
                let rest = format!("what is in Redis stays, because PostgreSQL cannot be asked: {error}");
                return Ok(Cleared { keys: near + dropped, message: message(&rest) });
            }
        }
    }
    let rest = format!("{dropped} copies in Redis are dropped. API keys and accounts stay there, whole");
    Ok(Cleared { keys: near + dropped, message: message(&rest) })
}

/// A store that could not be asked.
struct Away(StoreError);

impl From<StoreError> for Away {
    fn from(error: StoreError) -> Self {
        Self(error)
    }
}

async fn clear_kind(redis: &Side, postgres: &Side, kind: &'static Kind) -> Result<u64, Away> {
    let (mut cursor, mut dropped) = (None::<String>, 0);
    loop {
        let page = redis.backend.scan(kind, cursor.as_deref(), PAGE).await?;
        let held = page.records.into_iter().map(|record| async move {
            let held = postgres.backend.get(&record.key).await?;
            let is_copy = held.is_some_and(|held| held.version >= record.version);
            Ok::<_, StoreError>(is_copy.then(|| (record.key.clone(), record.version)))
        });
        let copies: Vec<Option<(Key, Version)>> =
            stream::iter(held).buffer_unordered(AT_ONCE).try_collect().await?;
        let copies: Vec<_> = copies.into_iter().flatten().collect();
        if !copies.is_empty() {
            dropped += redis.backend.drop_copies(kind, &copies).await?;
        }
        match page.next {
            Some(next) => cursor = Some(next),
            None => break,
        }
        tokio::time::sleep(REST).await;
    }
    // Copies of this process may have been read before they were dropped.
    redis.backend.forget_near().await?;
    Ok(dropped)
}
