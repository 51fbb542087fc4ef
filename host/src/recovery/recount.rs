//! Counts Redis's usage anew from the events that PostgreSQL keeps, after Redis lost counters or never had them.
//!
//! Only where PostgreSQL has counted everything. While Redis forgets what it had counted it takes no events: they go to
//! PostgreSQL alone and are owed. Each event counts once, by its id, whatever else is counted meanwhile.

use std::time::{Duration, Instant};

use jiff::tz::Offset;

use super::copy::Pace;
use crate::store::identity::{Recount, Recounted};
use crate::store::kind::USAGE;
use crate::store::side::Side;
use crate::store::{Result, StoreError, Usage};
use crate::strategy::records::CarryOver;

/// How many events are read in one step.
const BATCH: u32 = 1_000;
/// How many of them Redis is given at once: within its deadline also where it is busy.
const AT_ONCE: usize = 200;
/// For how long a part is repeated, and how long to wait in between.
const AGAIN: Duration = Duration::from_secs(5);
const BETWEEN: Duration = Duration::from_millis(50);
/// How long to wait for what only Redis has counted to be in PostgreSQL.
const CARRY: Duration = Duration::from_secs(30);

/// Whether Redis can and must be counted anew.
pub(super) async fn is_needed(redis: &Side, postgres: &Side) -> Result<bool> {
    Ok(!redis.backend.complete(&USAGE).await?
        && postgres.backend.complete(&USAGE).await?
        && redis.backend.identity().await?.is_some())
}

/// Counts anew, and answers how many events there were. Begins anew when it failed.
///
/// # Errors
/// When a store cannot be reached or another node does it.
pub(super) async fn recount(
    redis: &Side,
    postgres: &Side,
    holder: &str,
    offset: Offset,
    carry: &dyn CarryOver,
    pace: &mut Pace,
) -> Result<u64> {
    claim(redis, holder).await?;
    // Another may have done it until now.
    let counted = match is_needed(redis, postgres).await? {
        true => forget_and_replay(redis, postgres, holder, offset, carry, pace).await,
        false => Ok(0),
    };
    release(redis, holder).await?;
    counted
}

/// As [`recount`], also of a Redis that has counted.
pub(super) async fn again(
    redis: &Side,
    postgres: &Side,
    holder: &str,
    offset: Offset,
    carry: &dyn CarryOver,
    pace: &mut Pace,
) -> Result<u64> {
    claim(redis, holder).await?;
    let counted = forget_and_replay(redis, postgres, holder, offset, carry, pace).await;
    release(redis, holder).await?;
    counted
}

async fn claim(redis: &Side, holder: &str) -> Result<()> {
    match redis.backend.claim(holder, false).await? {
        true => Ok(()),
        false => Err(StoreError::Unavailable("another node counts Redis's usage anew".into())),
    }
}

async fn release(redis: &Side, holder: &str) -> Result<()> {
    if let Some(own) = redis.backend.identity().await? {
        redis.backend.vouch(Some(holder), &own.run, 0).await?;
    }
    Ok(())
}

async fn forget_and_replay(
    redis: &Side,
    postgres: &Side,
    holder: &str,
    offset: Offset,
    carry: &dyn CarryOver,
    pace: &mut Pace,
) -> Result<u64> {
    let forgotten = match carry_all(redis, holder, carry).await {
        Ok(()) => forget(redis, holder).await,
        failed => failed,
    };
    redis.backend.recount(holder, Recount::Open).await?;
    forgotten?;
    let counted = replay(redis, postgres, holder, offset, pace).await?;
    redis.backend.recount(holder, Recount::Finish).await?;
    Ok(counted)
}

/// Closes Redis for events, until PostgreSQL has all that Redis has.
async fn carry_all(redis: &Side, holder: &str, carry: &dyn CarryOver) -> Result<()> {
    let began = Instant::now();
    loop {
        renew(redis, holder).await?;
        redis.backend.recount(holder, Recount::Close).await?;
        // Nothing can be carried the other way meanwhile, which is no failure here.
        let _ = carry.catch_up().await;
        if redis.backend.backlog().await?.usage == 0 {
            return Ok(());
        }
        if began.elapsed() > CARRY {
            return Err(StoreError::Timeout);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn forget(redis: &Side, holder: &str) -> Result<()> {
    let mut cursor = String::from("0");
    while let Recounted::More(next) = redis.backend.recount(holder, Recount::Forget(cursor)).await? {
        renew(redis, holder).await?;
        cursor = next;
    }
    Ok(())
}

async fn replay(redis: &Side, postgres: &Side, holder: &str, offset: Offset, pace: &mut Pace) -> Result<u64> {
    let (mut after, mut counted) = (None, 0);
    loop {
        let events = postgres.backend.usage_events(after.as_deref(), BATCH).await?;
        let Some(last) = events.last() else { break };
        after = Some(last.id.clone());
        counted += events.len() as u64;
        for part in events.chunks(AT_ONCE) {
            pace.take(part.len()).await;
            add(redis, &Usage::replay(part.to_vec(), offset)).await?;
        }
        renew(redis, holder).await?;
    }
    open(redis, postgres, holder).await?;
    Ok(counted)
}

/// What totals began with when they were taken over from another program, which no event tells.
async fn open(redis: &Side, postgres: &Side, holder: &str) -> Result<()> {
    let mut cursor = None;
    loop {
        let balances = postgres.backend.balances(cursor.as_deref(), BATCH / 10).await?;
        if !balances.counted.is_empty() {
            redis.backend.recount(holder, Recount::Add(balances.counted)).await?;
            renew(redis, holder).await?;
        }
        match balances.next {
            Some(next) => cursor = Some(next),
            None => return Ok(()),
        }
    }
}

/// Counts a part, once more while it is not known whether it was: each event counts once. To begin all anew would
/// never end on a busy server.
async fn add(redis: &Side, usage: &Usage) -> Result<()> {
    let began = Instant::now();
    loop {
        match redis.backend.add(usage).await {
            Err(StoreError::Timeout) if began.elapsed() < AGAIN => tokio::time::sleep(BETWEEN).await,
            done => return done.map(drop),
        }
    }
}

async fn renew(redis: &Side, holder: &str) -> Result<()> {
    match redis.backend.claim(holder, true).await? {
        true => Ok(()),
        false => Err(StoreError::Unavailable("the right to count Redis's usage anew was lost".into())),
    }
}
