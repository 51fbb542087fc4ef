//! The marks of records that the other store does not have yet.

use std::sync::Arc;

use sqlx::sqlite::SqliteRow;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, Row};

use super::super::{Backlog, Key, Kind, Record, Result, StoreError, Version};
use super::link::Select;
use super::row::{self, COLUMNS};

/// The kinds that can be owed to the other store, each by what `of_kind` makes of its name.
fn each(of_kind: impl Fn(&str) -> String, between: &str) -> String {
    Kind::public().map(|kind| of_kind(kind.name)).collect::<Vec<_>>().join(between)
}

/// Asks for part of the marked records, in order of version.
pub(super) fn dirty(before: Version, skip: u32, limit: u32) -> Select {
    let marked =
        |name: &str| format!("select {COLUMNS}, '{name}' from {name} where dirty = 1 and version < ?1");
    let union = each(marked, " union all ");
    let ordered = format!("{union} order by version, id limit ?3 offset ?2");
    let before = i64::try_from(before).unwrap_or(i64::MAX);
    sqlx::query(AssertSqlSafe(ordered)).bind(before).bind(skip).bind(limit)
}

/// Asks which of these records are marked.
pub(super) fn of(keys: &[Key]) -> Select {
    let names = Json(keys.iter().map(ToString::to_string).collect::<Vec<_>>());
    let marked = |name: &str| {
        format!(
            "select {COLUMNS}, '{name}' from {name} where dirty = 1
             and id in (select substr(value, {}) from json_each(?1) where value like '{name}/%')",
            name.len() + 2
        )
    };
    sqlx::query(AssertSqlSafe(each(marked, " union all "))).bind(names)
}

/// The records that either question answers.
pub(super) fn records(rows: &[SqliteRow]) -> Result<Vec<Arc<Record>>> {
    let record = |row: &SqliteRow| {
        let name: &str = row.try_get(row::WIDTH).map_err(row::unreadable)?;
        let kind = Kind::public().find(|kind| kind.name == name);
        row::record(kind.ok_or_else(|| StoreError::Other(format!("an unknown kind {name}")))?, row)
    };
    rows.iter().map(record).collect()
}

/// Asks how much is owed, and since when.
pub(super) fn count() -> Select {
    let records = each(|name| format!("(select count(*) from {name} where dirty = 1)"), " + ");
    let oldest = each(|name| format!("select min(version) as v from {name} where dirty = 1"), " union all ");
    let usage = "select count(*) from usage_event where owed = 1";
    let counts = format!("select {records}, ({usage}), (select min(v) from ({oldest}))");
    sqlx::query(AssertSqlSafe(counts))
}

/// The answer to [`count`].
pub(super) fn backlog(rows: &[SqliteRow]) -> Result<Backlog> {
    let row = rows.first().ok_or_else(|| StoreError::Other("the embedded store lost a row".into()))?;
    let count = |i| row.try_get::<i64, _>(i).map(|n| n as u64).map_err(row::unreadable);
    let oldest: Option<i64> = row.try_get(2).map_err(row::unreadable)?;
    Ok(Backlog::new(count(0)?, count(1)?, oldest.map(|version| version as Version)))
}
