//! Redis counts anew what it lacks of PostgreSQL's totals. Totals are never copied: it counts the events.

use crate::recovery::copy::Pace;
use crate::recovery::operations::Work;
use crate::recovery::recount;
use crate::store::kind::USAGE;
use crate::store::maintenance::Counted;
use crate::store::side::Side;
use crate::store::usage::{COUNTERS, Counts};
use crate::store::{Key, Result};

/// How many windows one step looks at.
const PAGE: u32 = 500;

/// Counts Redis's usage anew if a total of all time has less there than in PostgreSQL; answers how many events that
/// were. A repetition finds nothing to count.
pub(super) async fn anew(work: &Work<'_>, redis: &Side, postgres: &Side) -> Result<u64> {
    let is_whole = redis.backend.identity().await?.is_some() && postgres.backend.complete(&USAGE).await?;
    if !is_whole || !lacks(work, redis, postgres).await? {
        return Ok(0);
    }
    let holder = uuid::Uuid::now_v7().to_string();
    recount::again(redis, postgres, &holder, work.offset, work.carry, &mut Pace::default()).await
}

async fn lacks(work: &Work<'_>, redis: &Side, postgres: &Side) -> Result<bool> {
    let mut cursor = None;
    loop {
        let windows = postgres.backend.windows(cursor.as_deref(), PAGE, false).await?;
        work.progress.looked_at(windows.counted.len() as u64);
        let less = less_in(redis, &windows.counted).await?;
        if !less.is_empty() {
            // What was on its way to Redis has arrived then.
            work.carry.catch_up().await;
            if !less_in(redis, &less).await?.is_empty() {
                return Ok(true);
            }
        }
        match windows.next {
            Some(next) => cursor = Some(next),
            None => return Ok(false),
        }
    }
}

/// Those of which Redis has counted less.
async fn less_in(redis: &Side, windows: &[Counted]) -> Result<Vec<Counted>> {
    let held = futures::future::try_join_all(windows.iter().map(|(id, _)| total(redis, id))).await?;
    let is_less = |(held, (_, counts)): &(Counts, &Counted)| held.iter().zip(counts).any(|(a, b)| a < b);
    Ok(held.into_iter().zip(windows).filter(is_less).map(|(_, window)| window.clone()).collect())
}

async fn total(redis: &Side, id: &str) -> Result<Counts> {
    let Ok(key) = Key::new(&USAGE, id) else { return Ok([i64::MAX; COUNTERS.len()]) };
    let record = redis.backend.get(&key).await?;
    let count = |name: &str| record.as_ref()?.fields.get(name)?.parse().ok();
    Ok(COUNTERS.map(|name| count(name).unwrap_or_default()))
}
