//! What a host does to the tables every hour: next month's partition, and the end of what has long expired.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{AssertSqlSafe, PgConnection};
use tokio::time::{sleep, timeout};

use super::failure;
use super::reserve::Reserve;
use super::schema::Gate;
use crate::store::clock::now_ms;
use crate::store::kind::CONFLICT_EVENT;
use crate::store::{Kind, Result, StoreError};

const PAUSE: Duration = Duration::from_secs(3_600);

/// How long an expired record is kept, in milliseconds: a day, so that no late write of an older version
/// brings it back.
const KEPT_MS: i64 = 86_400_000;

/// How many records one statement removes.
const AT_ONCE: i64 = 1_000;

/// Works for ever. What fails is tried again an hour later; until then events go to the last partition.
pub(super) async fn work(reserve: Arc<Reserve>, gate: Gate) {
    gate.opened().await;
    loop {
        if let Err(error) = purge(&reserve).await {
            tracing::warn!(%error, "expired records were not removed");
        }
        sleep(PAUSE).await;
        if let Err(error) = within_deadline(&reserve, partition(&reserve)).await {
            tracing::warn!(%error, "the next month's partition of usage_event was not made");
        }
    }
}

async fn within_deadline<T>(reserve: &Reserve, work: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(reserve.deadline(), work).await.unwrap_or(Err(StoreError::Timeout))
}

async fn partition(reserve: &Reserve) -> Result<()> {
    let mut loan = reserve.lend().await?;
    let made = make_partitions(loan.connection()).await;
    loan.end(made, failure::of_write)
}

/// Makes the partitions of this month and the next.
pub(super) async fn make_partitions(connection: &mut PgConnection) -> sqlx::Result<()> {
    let statement = "select usage_event_partition(now()), usage_event_partition(now() + interval '1 month')";
    sqlx::query(statement).execute(connection).await.map(drop)
}

/// Removes records that have long expired, a few at a time, except those still owed to the other store.
pub(super) async fn purge(reserve: &Reserve) -> Result<()> {
    for kind in Kind::public().chain([&CONFLICT_EVENT]) {
        while within_deadline(reserve, purge_some(reserve, kind)).await? == AT_ONCE as u64 {}
    }
    Ok(())
}

/// Removes up to [`AT_ONCE`] records; answers how many it removed.
async fn purge_some(reserve: &Reserve, kind: &Kind) -> Result<u64> {
    let statement = format!(
        "delete from {0} where id in (select id from {0} where expires_at < $1 and not dirty \
         order by expires_at limit $2 for update skip locked)",
        kind.name
    );
    let mut loan = reserve.lend().await?;
    let query = sqlx::query(AssertSqlSafe(statement)).bind(now_ms() - KEPT_MS).bind(AT_ONCE);
    let removed = query.execute(loan.connection()).await;
    loan.end(removed, failure::of_write).map(|removed| removed.rows_affected())
}
