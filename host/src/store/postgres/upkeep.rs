//! What runs on the reserve: scans, the events owed to the other store, completeness.

use jiff::Timestamp;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row};

use super::failure;
use super::reserve::Reserve;
use super::row::{self, COLUMNS};
use crate::store::clock::now_ms;
use crate::store::kind::Visibility;
use crate::store::{Kind, MAX_PAGE, Page, Result, UsageEvent};

/// As [`crate::store::Store::scan`].
pub(super) async fn scan(
    reserve: &Reserve,
    kind: &'static Kind,
    cursor: Option<&str>,
    limit: u32,
) -> Result<Page> {
    if kind.visibility == Visibility::Totals {
        return Ok(Page::default());
    }
    let limit = limit.clamp(1, MAX_PAGE) as usize;
    let statement = format!(
        "select {COLUMNS} from {} where id > $1 and not deleted and (expires_at is null or expires_at > $2) \
         order by id limit $3",
        kind.name
    );
    let mut loan = reserve.lend().await?;
    let rows = sqlx::query(AssertSqlSafe(statement))
        .bind(cursor.unwrap_or_default())
        .bind(now_ms())
        .bind(limit as i64 + 1)
        .fetch_all(loan.connection())
        .await;
    let rows = rows.and_then(|rows| rows.iter().map(|row| row::record(kind, row)).collect());
    let mut records: Vec<_> = loan.end(rows, failure::of_read)?;
    let more = records.len() > limit;
    records.truncate(limit);
    let next = records.last().filter(|_| more).map(|record| record.key.id.to_string());
    Ok(Page { records, next })
}

/// As [`crate::store::Backend::owed_usage`].
pub(super) async fn owed_usage(
    reserve: &Reserve,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<UsageEvent>> {
    let mut loan = reserve.lend().await?;
    let rows = sqlx::query(
        "select *, (extract(epoch from at) * 1000000)::bigint as at_micros \
         from (select id, at from usage_event_id where owed and id > $1 order by id limit $2) as owed \
         join usage_event using (id, at)",
    )
    .bind(after.unwrap_or_default())
    .bind(i64::from(limit))
    .fetch_all(loan.connection())
    .await;
    let events = rows.and_then(|rows| rows.iter().map(event).collect());
    loan.end(events, failure::of_read)
}

/// As [`crate::store::identity::Lineage::usage_events`].
pub(super) async fn usage_events(
    reserve: &Reserve,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<UsageEvent>> {
    let mut loan = reserve.lend().await?;
    let rows = sqlx::query(
        "select *, (extract(epoch from at) * 1000000)::bigint as at_micros \
         from (select id, at from usage_event_id where id > $1 order by id limit $2) as named \
         join usage_event using (id, at) order by id collate \"C\"",
    )
    .bind(after.unwrap_or_default())
    .bind(i64::from(limit))
    .fetch_all(loan.connection())
    .await;
    let events = rows.and_then(|rows| rows.iter().map(event).collect());
    loan.end(events, failure::of_read)
}

fn event(row: &PgRow) -> sqlx::Result<UsageEvent> {
    let count = |name| row.try_get::<i64, _>(name).map(|count| count.max(0) as u64);
    let at = Timestamp::from_microsecond(row.try_get("at_micros")?);
    Ok(UsageEvent {
        id: row.try_get("id")?,
        key_id: row.try_get("key_id")?,
        account_id: row.try_get("account_id")?,
        model: row.try_get("model")?,
        at: at.map_err(|error| sqlx::Error::Decode(error.into()))?,
        input_tokens: count("input_tokens")?,
        output_tokens: count("output_tokens")?,
        cache_creation_5m_tokens: count("cache_creation_5m_tokens")?,
        cache_creation_1h_tokens: count("cache_creation_1h_tokens")?,
        cache_read_tokens: count("cache_read_tokens")?,
        cost_micro_usd: count("cost_micro_usd")?,
        request_id: row.try_get("request_id")?,
        partial: row.try_get("partial")?,
    })
}

/// As [`crate::store::Backend::settle_usage`].
pub(super) async fn settle_usage(reserve: &Reserve, ids: &[String], epoch: u64) -> Result<()> {
    let mut loan = reserve.lend().await?;
    let done = sqlx::query(
        "with settled as (select id from usage_event_id where id = any($1) and owed and (select fence($2)) order by id for update) \
         update usage_event_id set owed = false from settled where usage_event_id.id = settled.id",
    )
    .bind(ids)
    .bind(epoch as i64)
    .execute(loan.connection())
    .await;
    loan.end(done, failure::of_write).map(drop)
}

/// As [`crate::store::Backend::complete`].
pub(super) async fn complete(reserve: &Reserve, kind: &'static Kind) -> Result<bool> {
    let mut loan = reserve.lend().await?;
    let complete = sqlx::query_scalar("select exists (select from complete_kind where kind = $1)")
        .bind(kind.name)
        .fetch_one(loan.connection())
        .await;
    loan.end(complete, failure::of_read)
}

/// As [`crate::store::Backend::set_complete`].
pub(super) async fn set_complete(reserve: &Reserve, kind: &'static Kind) -> Result<()> {
    let mut loan = reserve.lend().await?;
    let done = sqlx::query("insert into complete_kind (kind) values ($1) on conflict do nothing")
        .bind(kind.name)
        .execute(loan.connection())
        .await;
    loan.end(done, failure::of_write).map(drop)
}

/// As [`crate::store::Backend::counts_usage`].
pub(super) async fn counts_usage(reserve: &Reserve) -> Result<bool> {
    let mut loan = reserve.lend().await?;
    let counts =
        sqlx::query_scalar("select exists (select from usage_total)").fetch_one(loan.connection()).await;
    loan.end(counts, failure::of_read)
}
