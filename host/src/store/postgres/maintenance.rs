//! The admin's commands on PostgreSQL.

use std::sync::LazyLock;
use std::time::Duration;

use async_trait::async_trait;
use jiff::tz::Offset;
use sqlx::{AssertSqlSafe, Connection, Row};

use super::reserve::Reserve;
use super::row::{self, COLUMNS};
use super::{Postgres, failure, upkeep};
use crate::planted;
use crate::store::clock::now_ms;
use crate::store::kind::Visibility;
use crate::store::maintenance::{Adopted, Counted, Windows};
use crate::store::usage::{COUNTERS, Counts};
use crate::store::{Key, Kind, MAX_PAGE, Maintenance, Page, Result, Version};

#[async_trait]
impl Maintenance for Postgres {
    async fn adopt(&self, _cursor: Option<&str>) -> Result<Adopted> {
        Ok(Adopted::default())
    }

    async fn count(&self, kind: &'static Kind) -> Result<u64> {
        self.call(count(&self.reserve, kind)).await
    }

    async fn tombstones(&self, kind: &'static Kind, cursor: Option<&str>, limit: u32) -> Result<Page> {
        self.call(tombstones(&self.reserve, kind, cursor, limit)).await
    }

    async fn windows(&self, cursor: Option<&str>, limit: u32, every: bool) -> Result<Windows> {
        self.call(windows(&self.reserve, "usage_total", cursor, limit, every)).await
    }

    async fn has_counted(&self, ids: &[String]) -> Result<Vec<String>> {
        self.call(has_counted(&self.reserve, ids)).await
    }

    async fn close_usage(&self, _hold: Option<Duration>) -> Result<()> {
        // The durable store is the one that is compared with.
        Ok(())
    }

    async fn open_balances(&self, held: &[Counted], offset: Offset, from: &str) -> Result<u64> {
        self.call(open_balances(&self.reserve, held, offset, from)).await
    }

    async fn balances(&self, cursor: Option<&str>, limit: u32) -> Result<Windows> {
        self.call(windows(&self.reserve, "usage_opening", cursor, limit, true)).await
    }

    async fn dropped(&self, _kind: &'static Kind) -> Result<u64> {
        Ok(0)
    }

    async fn complete_since(&self, kind: &'static Kind, _dropped: u64) -> Result<bool> {
        self.call(upkeep::set_complete(&self.reserve, kind)).await.map(|()| true)
    }

    async fn drop_copies(&self, _kind: &'static Kind, _copies: &[(Key, Version)]) -> Result<u64> {
        Ok(0)
    }

    async fn forget_near(&self) -> Result<u64> {
        Ok(0)
    }

    async fn reconnect(&self) -> Result<()> {
        self.reserve.reconnect();
        Ok(())
    }
}

async fn count(reserve: &Reserve, kind: &'static Kind) -> Result<u64> {
    if kind.visibility == Visibility::Totals {
        return Ok(0);
    }
    let statement = format!("select count(*) from {} where not deleted", kind.name);
    let mut loan = reserve.lend().await?;
    let count = sqlx::query_scalar(AssertSqlSafe(statement)).fetch_one(loan.connection()).await;
    loan.end(count, failure::of_read).map(|count: i64| count as u64)
}

async fn tombstones(
    reserve: &Reserve,
    kind: &'static Kind,
    cursor: Option<&str>,
    limit: u32,
) -> Result<Page> {
    if kind.visibility == Visibility::Totals {
        return Ok(Page::default());
    }
    let limit = limit.clamp(1, MAX_PAGE) as usize;
    let statement =
        format!("select {COLUMNS} from {} where id > $1 and deleted order by id limit $2", kind.name);
    let mut loan = reserve.lend().await?;
    let rows = sqlx::query(AssertSqlSafe(statement))
        .bind(cursor.unwrap_or_default())
        .bind(limit as i64)
        .fetch_all(loan.connection())
        .await;
    let rows = rows.and_then(|rows| rows.iter().map(|row| row::record(kind, row)).collect());
    let records: Vec<_> = loan.end(rows, failure::of_read)?;
    let next = records.last().filter(|_| records.len() == limit).map(|last| last.key.id.to_string());
    Ok(Page { records, next })
}

async fn windows(
    reserve: &Reserve,
    table: &str,
    cursor: Option<&str>,
    limit: u32,
    every: bool,
) -> Result<Windows> {
    let limit = limit.clamp(1, MAX_PAGE) as usize;
    let totals = if every { "" } else { "and id like '%:total'" };
    let statement = format!(
        "select id, {} from {table} where id > $1 {totals} order by id limit $2",
        COUNTERS.join(", ")
    );
    let mut loan = reserve.lend().await?;
    let rows = sqlx::query(AssertSqlSafe(statement))
        .bind(cursor.unwrap_or_default())
        .bind(limit as i64)
        .fetch_all(loan.connection())
        .await;
    let counted = rows.and_then(|rows| rows.iter().map(counted).collect());
    let counted: Vec<Counted> = loan.end(counted, failure::of_read)?;
    let next = counted.last().filter(|_| counted.len() == limit).map(|(id, _)| id.clone());
    Ok(Windows { counted, next, ..Windows::default() })
}

fn counted(row: &sqlx::postgres::PgRow) -> sqlx::Result<Counted> {
    let mut counts = Counts::default();
    for (count, name) in counts.iter_mut().zip(COUNTERS) {
        *count = row.try_get(name)?;
    }
    Ok((row.try_get("id")?, counts))
}

async fn has_counted(reserve: &Reserve, ids: &[String]) -> Result<Vec<String>> {
    let mut loan = reserve.lend().await?;
    let ids = sqlx::query_scalar("select id from usage_event_id where id = any($1)")
        .bind(ids)
        .fetch_all(loan.connection())
        .await;
    loan.end(ids, failure::of_read)
}

async fn open_balances(reserve: &Reserve, held: &[Counted], offset: Offset, from: &str) -> Result<u64> {
    let mut loan = reserve.lend().await?;
    let done = async {
        let mut transaction = loan.connection().begin().await?;
        // One at a time: two that see the same total would both raise it.
        sqlx::query("lock table usage_opening in exclusive mode").execute(&mut *transaction).await?;
        let mut query = sqlx::query_scalar(OPEN.as_str())
            .bind(held.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>())
            .bind(offset.seconds())
            .bind(now_ms())
            .bind(from);
        for counter in 0..COUNTERS.len() {
            query = query.bind(held.iter().map(|(_, counts)| counts[counter]).collect::<Vec<_>>());
        }
        let raised: i64 = query.fetch_one(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(raised.max(0) as u64)
    };
    let done = done.await;
    loan.end(done, failure::of_write)
}

/// What is held ($1 and the counters from $5 on) plus what is owed to there, less what is counted here, in one
/// snapshot: an event that is counted meanwhile raises both sides of the difference, or neither.
static OPEN: LazyLock<String> = LazyLock::new(|| {
    let list = |part: &dyn Fn(&str) -> String| COUNTERS.map(part).join(", ");
    let (names, most) = (COUNTERS.join(", "), i64::MAX);
    let arrays: Vec<_> = (5..5 + COUNTERS.len()).map(|n| format!("${n}::bigint[]")).collect();
    let arrays = arrays.join(", ");
    let owed =
        COUNTERS[1..].iter().map(|name| format!("sum({name}) as {name}")).collect::<Vec<_>>().join(", ");
    let known = if planted::is("sync-copies-totals") { "0 *" } else { "" };
    let less = list(&|name| {
        format!(
            "least(greatest(held.{name}::numeric + coalesce(owed.{name}, 0) - {known} coalesce(total.{name}, 0), 0), {most})::bigint as {name}"
        )
    });
    let raised =
        list(&|name| format!("{name} = least(old.{name}::numeric + excluded.{name}, {most})::bigint"));
    format!(
        "with held as materialized (select * from unnest($1::text[], {arrays}) as held (id, {names})), \
         owed as materialized (\
            select subject.name || ':' || span.name as id, count(*) as requests, {owed} \
            from (select id, at from usage_event_id where owed) as mark \
            join usage_event as event using (id, at) \
            cross join lateral (\
                select (event.at at time zone 'UTC') + $2::integer * interval '1 second' as at) as here \
            cross join lateral (values (event.key_id), ('account:' || event.account_id), \
                ('model:' || event.counted_as), (event.key_id || ':model:' || event.counted_as)) as subject (name) \
            cross join lateral (values ('total'), ('monthly:' || to_char(here.at, 'YYYY-MM')), \
                ('weekly:' || to_char(here.at, 'IYYY\"-W\"IW')), ('daily:' || to_char(here.at, 'YYYY-MM-DD')), \
                ('hourly:' || to_char(here.at, 'YYYY-MM-DD\"T\"HH24'))) as span (name) \
            where subject.name || ':' || span.name in (select id from held) group by 1\
         ), lacking as materialized (\
            select held.id, {less} from held left join owed using (id) left join usage_total as total using (id)\
         ), raised as (\
            insert into usage_total as old (id, {names}) select id, {names} from lacking \
            where greatest({names}) > 0 order by id collate \"C\" \
            on conflict (id) do update set {raised} returning id\
         ), kept as (\
            insert into usage_opening as old (id, imported_at, source, {names}) \
            select id, $3::bigint, $4::text, {names} from lacking join raised using (id) order by id collate \"C\" \
            on conflict (id) do update set imported_at = excluded.imported_at, source = excluded.source, {raised}\
         ) select count(*) from raised"
    )
});
