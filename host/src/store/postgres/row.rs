//! Rows as records.

use std::sync::Arc;

use sqlx::Row;
use sqlx::postgres::PgRow;
use sqlx::types::Json;

use crate::store::kind::Visibility;
use crate::store::usage::{COUNTERS, Counts, counter_fields};
use crate::store::{Fields, Key, Kind, Record, Result, StoreError, Version};

/// The columns that [`record`] reads.
pub(super) const COLUMNS: &str = "id, version, deleted, expires_at, fields";

/// Refuses kinds that are not stored as records.
pub(super) fn stored(kind: &'static Kind) -> Result<()> {
    if kind.visibility == Visibility::Totals {
        return Err(StoreError::Unsupported(format!("{} is written by adding events", kind.name)));
    }
    Ok(())
}

/// A row with [`COLUMNS`] as a record.
pub(super) fn record(kind: &'static Kind, row: &PgRow) -> sqlx::Result<Arc<Record>> {
    let Json(fields) = row.try_get::<Json<Fields>, _>("fields")?;
    Ok(Arc::new(Record {
        key: Key { kind, id: row.try_get::<&str, _>("id")?.into() },
        version: version(row)?,
        deleted: row.try_get("deleted")?,
        fields,
        expires_at: row.try_get("expires_at")?,
        cached_at: None,
    }))
}

/// The version in a row.
pub(super) fn version(row: &PgRow) -> sqlx::Result<Version> {
    Ok(row.try_get::<i64, _>("version")?.max(0) as Version)
}

/// A row of counters as a record, whose version is the number of requests.
pub(super) fn totals(kind: &'static Kind, row: &PgRow) -> sqlx::Result<Arc<Record>> {
    let mut counts = Counts::default();
    for (count, name) in counts.iter_mut().zip(COUNTERS) {
        *count = row.try_get(name)?;
    }
    Ok(Arc::new(Record {
        key: Key { kind, id: row.try_get::<&str, _>("id")?.into() },
        version: counts[0].max(0) as Version,
        deleted: false,
        fields: counter_fields(&counts),
        expires_at: None,
        cached_at: None,
    }))
}
