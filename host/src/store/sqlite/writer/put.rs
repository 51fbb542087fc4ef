//! Compare-and-set of one record.

use std::sync::Arc;

use sqlx::AssertSqlSafe;
use sqlx::types::Json;

use super::super::super::clock::now_ms;
use super::super::super::{Expect, Mark, Record, Result, StoreError, Version, Write};
use super::Group;

impl Group<'_> {
    pub(super) async fn put(&mut self, write: &Write) -> sqlx::Result<Result<u64>> {
        let record = &write.record;
        if self.upsert(write).await? {
            return Ok(Ok(0));
        }
        Ok(match self.held(record).await? {
            held if held == record.version => Ok(0),
            held => Err(StoreError::Conflict(held)),
        })
    }

    /// Whether the record was accepted.
    async fn upsert(&mut self, write: &Write) -> sqlx::Result<bool> {
        let record: &Arc<Record> = &write.record;
        let at_most = match write.expect {
            Expect::AtMost(version) => i64::try_from(version).unwrap_or(i64::MAX),
            Expect::Anything | Expect::Absent => i64::MAX,
        };
        let done = sqlx::query(AssertSqlSafe(statement(record.key.kind.name)))
            .bind(record.key.id.clone())
            .bind(record.version as i64)
            .bind(record.deleted)
            .bind(write.mark == Mark::Dirty)
            .bind(record.expires_at)
            .bind(Json(&record.fields))
            .bind(at_most)
            .bind(write.expect == Expect::Absent)
            .bind(now_ms())
            .execute(&mut *self.transaction)
            .await?;
        Ok(done.rows_affected() > 0)
    }

    /// The version that stands in the way.
    async fn held(&mut self, record: &Record) -> sqlx::Result<Version> {
        let sql = AssertSqlSafe(format!("select version from {} where id = ?", record.key.kind.name));
        let held: i64 =
            sqlx::query_scalar(sql).bind(record.key.id.clone()).fetch_one(&mut *self.transaction).await?;
        Ok(held as Version)
    }
}

fn statement(table: &str) -> String {
    format!(
        "insert into {table} (id, version, deleted, dirty, expires_at, fields)
         values (?1, ?2, ?3, ?4, ?5, ?6)
         on conflict (id) do update set
             version = excluded.version, deleted = excluded.deleted, dirty = excluded.dirty,
             expires_at = excluded.expires_at, fields = excluded.fields
         where {table}.version < excluded.version and {table}.version <= ?7
             and (?8 = 0 or {table}.deleted = 1 or {table}.expires_at <= ?9)"
    )
}
