//! The marks of records that the other store does not have yet. They run on the reserve.

use std::collections::BTreeMap;
use std::sync::Arc;

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row};

use super::failure;
use super::reserve::Reserve;
use super::row::{self, COLUMNS};
use crate::store::{Backlog, Key, Kind, Record, Result, Version};
use crate::telemetry::Seldom;

/// Records by kind: ids, and what belongs to each.
type ByKind<'a, T> = BTreeMap<&'static Kind, (Vec<&'a str>, Vec<T>)>;

/// As [`crate::store::Backend::dirty`].
pub(super) async fn dirty(
    reserve: &Reserve,
    before: Version,
    skip: u32,
    limit: u32,
) -> Result<Vec<Arc<Record>>> {
    let of_kind = |kind: &Kind| {
        let name = kind.name;
        format!(
            "(select '{name}' as kind, {COLUMNS} from {name} where dirty and version < $1 \
             order by version, id limit $2 + $3)"
        )
    };
    let kinds: Vec<_> = Kind::public().map(of_kind).collect();
    let statement = format!("{} order by version, kind, id offset $2 limit $3", kinds.join(" union all "));
    let mut loan = reserve.lend().await?;
    let rows = sqlx::query(AssertSqlSafe(statement))
        .bind(i64::try_from(before).unwrap_or(i64::MAX))
        .bind(i64::from(skip))
        .bind(i64::from(limit))
        .fetch_all(loan.connection())
        .await;
    let rows = loan.end(rows, failure::of_read)?;
    let record = |row: &PgRow| {
        let name: &str = row.try_get("kind")?;
        let kind = Kind::public().find(|kind| kind.name == name).ok_or(sqlx::Error::RowNotFound)?;
        row::record(kind, row)
    };
    Ok(readable(rows.iter().map(record)))
}

/// One row that cannot be read must not keep the others from the other store.
fn readable(rows: impl Iterator<Item = sqlx::Result<Arc<Record>>>) -> Vec<Arc<Record>> {
    static UNREADABLE: Seldom = Seldom::new();
    let told = |error: sqlx::Error| {
        if UNREADABLE.is_due() {
            let error = failure::of_read(&error);
            tracing::error!(%error, "a marked record in PostgreSQL is unreadable, and stays there");
        }
    };
    rows.filter_map(|row| row.map_err(told).ok()).collect()
}

/// As [`crate::store::Backend::marked`].
pub(super) async fn marked(reserve: &Reserve, keys: &[Key]) -> Result<Vec<Arc<Record>>> {
    let mut records = Vec::new();
    for (kind, (ids, _)) in by_kind(keys.iter().map(|key| (key, ()))) {
        let name = kind.name;
        let statement = format!("select {COLUMNS} from {name} where dirty and id = any($1)");
        let mut loan = reserve.lend().await?;
        let rows = sqlx::query(AssertSqlSafe(statement)).bind(ids).fetch_all(loan.connection()).await;
        let rows = loan.end(rows, failure::of_read)?;
        records.extend(readable(rows.iter().map(|row| row::record(kind, row))));
    }
    Ok(records)
}

/// As [`crate::store::Backend::settle`].
pub(super) async fn settle(reserve: &Reserve, settled: &[(Key, Version)], epoch: u64) -> Result<()> {
    for (kind, (ids, versions)) in by_kind(settled.iter().map(|(key, version)| (key, *version as i64))) {
        // Locked in order of id, as puts do.
        let statement = format!(
            "with settled as (select held.id from {0} held \
             join unnest($1::text[], $2::bigint[]) as named (id, version) \
             on held.id = named.id and held.version = named.version \
             where held.dirty and (select fence($3)) order by held.id for update of held) \
             update {0} set dirty = false from settled where {0}.id = settled.id",
            kind.name
        );
        let mut loan = reserve.lend().await?;
        let query = sqlx::query(AssertSqlSafe(statement)).bind(ids).bind(versions).bind(epoch as i64);
        let done = query.execute(loan.connection()).await;
        loan.end(done, failure::of_write)?;
    }
    Ok(())
}

fn by_kind<'a, T>(named: impl Iterator<Item = (&'a Key, T)>) -> ByKind<'a, T> {
    let mut kinds = ByKind::new();
    for (key, of_it) in named.filter(|(key, _)| row::stored(key.kind).is_ok()) {
        let (ids, all) = kinds.entry(key.kind).or_default();
        ids.push(&*key.id);
        all.push(of_it);
    }
    kinds
}

/// As [`crate::store::Backend::backlog`].
pub(super) async fn backlog(reserve: &Reserve) -> Result<Backlog> {
    let each = |what: &str| {
        let of_kind = |kind: &Kind| format!("(select {what} from {} where dirty)", kind.name);
        Kind::public().map(of_kind).collect::<Vec<_>>()
    };
    let statement = format!(
        "select {} as records, least({}) as oldest, (select count(*) from usage_event_id where owed) as usage",
        each("count(*)").join(" + "),
        each("min(version)").join(", ")
    );
    let mut loan = reserve.lend().await?;
    let row = sqlx::query(AssertSqlSafe(statement)).fetch_one(loan.connection()).await;
    let backlog = row.and_then(|row| {
        let count = |name| row.try_get::<i64, _>(name).map(|count| count.max(0) as u64);
        let oldest = row.try_get::<Option<i64>, _>("oldest")?.map(|version| version.max(0) as Version);
        Ok(Backlog::new(count("records")?, count("usage")?, oldest))
    });
    loan.end(backlog, failure::of_read)
}
