//! Opening balances: what Redis has counted before PostgreSQL knew of it becomes part of PostgreSQL's totals, once.
//!
//! PostgreSQL's total must become what Redis has counted plus what Redis has yet to count. That sum is known
//! exactly only while Redis counts nothing: it is closed for as long as this takes, and new events are owed to it.

use std::time::{Duration, Instant};

use super::Report;
use crate::recovery::operations::Work;
use crate::store::side::Side;
use crate::store::{Result, StoreError};

/// How long Redis stays closed unless that is repeated, and how often it is.
const CLOSED: Duration = Duration::from_secs(30);
const CLOSE_EVERY: Duration = Duration::from_secs(5);
/// A close that is this old may end before the next call does.
const TOO_OLD: Duration = Duration::from_secs(25);
/// How often it is tried to get what Redis owes.
const ATTEMPTS: usize = 20;
/// The most events that may be owed to Redis.
const MOST_OWED: u32 = 100_000;
/// How many totals are raised in one transaction, and how many are asked for.
const AT_ONCE: usize = 200;
const PAGE: u32 = 1_000;

/// Raises the totals of `postgres`; answers how many. A repetition finds nothing to raise.
pub(super) async fn open(work: &Work<'_>, redis: &Side, postgres: &Side, report: &mut Report) -> Result<u64> {
    work.carry.catch_up().await;
    let mut closed = Closed::begin(redis).await?;
    let raised = compare(work, redis, postgres, report, &mut closed).await;
    // A crash, too, ends it: by itself.
    redis.backend.close_usage(None).await?;
    raised
}

async fn compare(
    work: &Work<'_>,
    redis: &Side,
    postgres: &Side,
    report: &mut Report,
    closed: &mut Closed<'_>,
) -> Result<u64> {
    settle(work, redis, postgres, closed).await?;
    let (mut cursor, mut raised) = (None::<String>, 0);
    loop {
        let windows = redis.backend.windows(cursor.as_deref(), PAGE, true).await?;
        report.skip(windows.skipped);
        for held in windows.counted.chunks(AT_ONCE) {
            closed.still().await?;
            raised += postgres.backend.open_balances(held, work.offset, "redis").await?;
            // Whether it was, too, is known afterwards only: this process may have slept.
            closed.still().await?;
            // Live traffic comes first.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        work.progress.looked_at(windows.counted.len() as u64);
        match windows.next {
            Some(next) => cursor = Some(next),
            None => return Ok(raised),
        }
    }
}

/// Until Redis owes nothing, and no event is said to be owed to Redis that it has counted.
async fn settle(work: &Work<'_>, redis: &Side, postgres: &Side, closed: &mut Closed<'_>) -> Result<()> {
    for attempt in 0.. {
        if redis.backend.backlog().await?.usage == 0 {
            break;
        }
        if attempt == ATTEMPTS {
            return Err(StoreError::Unavailable("Redis owes usage that cannot be carried over".into()));
        }
        work.carry.catch_up().await;
        closed.still().await?;
    }
    let owed = postgres.backend.owed_usage(None, MOST_OWED).await?;
    if owed.len() >= MOST_OWED as usize {
        return Err(StoreError::Unavailable("too much usage is owed to Redis; let it catch up first".into()));
    }
    let owed: Vec<_> = owed.into_iter().map(|event| event.id).collect();
    for ids in owed.chunks(AT_ONCE) {
        closed.still().await?;
        let counted = redis.backend.has_counted(ids).await?;
        postgres.backend.settle_usage(&counted).await?;
    }
    Ok(())
}

/// Redis counts nothing while this is kept up.
struct Closed<'a> {
    redis: &'a Side,
    since: Instant,
}

impl<'a> Closed<'a> {
    async fn begin(redis: &'a Side) -> Result<Self> {
        let since = Instant::now();
        redis.backend.close_usage(Some(CLOSED)).await?;
        Ok(Self { redis, since })
    }

    /// # Errors
    /// When it may have ended in between: what was compared then is not exact.
    async fn still(&mut self) -> Result<()> {
        if self.since.elapsed() > TOO_OLD {
            return Err(StoreError::Unavailable("usage was not closed for long enough".into()));
        }
        if self.since.elapsed() > CLOSE_EVERY {
            *self = Self::begin(self.redis).await?;
        }
        Ok(())
    }
}
