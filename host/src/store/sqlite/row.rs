//! Rows as records.

use std::sync::Arc;

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::super::usage::{COUNTERS, Counts, counter_fields};
use super::super::{Key, Kind, Record, Result, StoreError, Version, kind};

/// What [`record`] reads, in this order, before any other column.
pub(super) const COLUMNS: &str = "id, version, deleted, expires_at, fields";

/// The number of columns that [`record`] reads.
pub(super) const WIDTH: usize = 5;

/// The record of a row that begins with [`COLUMNS`].
pub(super) fn record(kind: &'static Kind, row: &SqliteRow) -> Result<Arc<Record>> {
    let id: &str = row.try_get(0).map_err(unreadable)?;
    let fields = row.try_get::<&str, _>(4).map_err(unreadable)?;
    // The parser's own words could quote the contents.
    let fields = serde_json::from_str(fields)
        .map_err(|_| StoreError::Other(format!("the embedded store's {}/{id} is damaged", kind.name)))?;
    Ok(Arc::new(Record {
        key: Key { kind, id: id.into() },
        version: row.try_get::<i64, _>(1).map_err(unreadable)? as Version,
        deleted: row.try_get(2).map_err(unreadable)?,
        fields,
        expires_at: row.try_get(3).map_err(unreadable)?,
        cached_at: None,
    }))
}

/// The record of a row of `usage_total` that begins with the id and [`COUNTERS`].
pub(super) fn totals(row: &SqliteRow) -> Result<Arc<Record>> {
    let id: &str = row.try_get(0).map_err(unreadable)?;
    let mut counts = Counts::default();
    for (i, count) in counts.iter_mut().enumerate() {
        *count = row.try_get(i + 1).map_err(unreadable)?;
    }
    Ok(Arc::new(Record {
        key: Key { kind: &kind::USAGE, id: id.into() },
        version: counts[0] as Version,
        deleted: false,
        fields: counter_fields(&counts),
        expires_at: None,
        cached_at: None,
    }))
}

/// The same row as an id and its counters.
pub(super) fn counted(row: &SqliteRow) -> sqlx::Result<(String, Counts)> {
    let mut counts = Counts::default();
    for (i, count) in counts.iter_mut().enumerate() {
        *count = row.try_get(i + 1)?;
    }
    Ok((row.try_get(0)?, counts))
}

/// The names of the counters, as a list of columns.
pub(super) fn counters() -> String {
    COUNTERS.join(", ")
}

pub(super) fn unreadable(error: sqlx::Error) -> StoreError {
    StoreError::Other(format!("a row of the embedded store cannot be read: {error}"))
}
