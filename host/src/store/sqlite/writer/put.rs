//! Compare-and-set. Writes that wait together and have the same precondition share a statement.

use std::collections::{HashMap, HashSet};

use sqlx::types::Json;
use sqlx::{AssertSqlSafe, Row};

use super::super::super::clock::now_ms;
use super::super::super::{Expect, Kind, Mark, Result, StoreError, Version, Write};
use super::Group;

/// The most bytes of records in one statement, unless a single record is larger.
const STATEMENT: usize = 8 << 20;

/// What writes have in common that share a statement.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Condition {
    kind: &'static Kind,
    at_most: i64,
    absent: bool,
}

impl Condition {
    pub(super) fn of(write: &Write) -> Self {
        let at_most = match write.expect {
            Expect::AtMost(version) => i64::try_from(version).unwrap_or(i64::MAX),
            Expect::Anything | Expect::Absent => i64::MAX,
        };
        Self { kind: write.record.key.kind, at_most, absent: write.expect == Expect::Absent }
    }
}

impl Group<'_> {
    /// Decides these writes in their order, and answers each at its position among `answers`.
    pub(super) async fn put(
        &mut self,
        condition: Condition,
        writes: &[(usize, &Write)],
        answers: &mut [Result<u64>],
    ) -> sqlx::Result<()> {
        let mut rest = writes;
        while !rest.is_empty() {
            let (part, later) = rest.split_at(fitting(rest));
            let accepted = self.upsert(condition, part).await?;
            let name = |write: &Write| (write.record.key.id.to_string(), write.record.version);
            let refused = part.iter().filter(|(_, write)| !accepted.contains(&name(write)));
            let refused: Vec<_> = refused.copied().collect();
            if !refused.is_empty() {
                self.explain(condition.kind, &refused, answers).await?;
            }
            rest = later;
        }
        Ok(())
    }

    /// The ids and versions that were accepted.
    async fn upsert(
        &mut self,
        condition: Condition,
        writes: &[(usize, &Write)],
    ) -> sqlx::Result<HashSet<(String, Version)>> {
        let rows = writes.iter().map(|(_, write)| {
            let record = &write.record;
            let dirty = u8::from(write.mark == Mark::Dirty);
            let (id, fields) = (&*record.key.id, &record.fields);
            (id, record.version, u8::from(record.deleted), dirty, record.expires_at, fields)
        });
        let accepted = sqlx::query(AssertSqlSafe(statement(condition.kind.name)))
            .bind(Json(rows.collect::<Vec<_>>()))
            .bind(condition.at_most)
            .bind(condition.absent)
            .bind(now_ms())
            .fetch_all(&mut *self.transaction)
            .await?;
        accepted.iter().map(|row| Ok((row.try_get(0)?, row.try_get::<i64, _>(1)? as Version))).collect()
    }

    /// Answers writes that were refused: ok when that very version is held.
    async fn explain(
        &mut self,
        kind: &Kind,
        refused: &[(usize, &Write)],
        answers: &mut [Result<u64>],
    ) -> sqlx::Result<()> {
        let ids: Vec<_> = refused.iter().map(|(_, write)| &*write.record.key.id).collect();
        let sql =
            format!("select id, version from {} where id in (select value from json_each(?))", kind.name);
        let rows = sqlx::query(AssertSqlSafe(sql)).bind(Json(ids)).fetch_all(&mut *self.transaction).await?;
        let held = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get::<i64, _>(1)? as Version)));
        let held: HashMap<&str, Version> = held.collect::<sqlx::Result<_>>()?;
        for (position, write) in refused {
            let held = *held.get(&*write.record.key.id).ok_or(sqlx::Error::RowNotFound)?;
            if held != write.record.version {
                answers[*position] = Err(StoreError::Conflict(held));
            }
        }
        Ok(())
    }
}

/// How many of the writes go into one statement: at least one.
fn fitting(writes: &[(usize, &Write)]) -> usize {
    let mut bytes = 0;
    let fits = |(_, write): &&(usize, &Write)| {
        bytes += write.record.size();
        bytes <= STATEMENT
    };
    writes.iter().take_while(fits).count().max(1)
}

/// Each row is `[id, version, deleted, dirty, expires_at, fields]`. A later row meets the earlier ones.
fn statement(table: &str) -> String {
    format!(
        "insert into {table} (id, version, deleted, dirty, expires_at, fields)
         select value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value -> 5
         from json_each(?1) where true
         on conflict (id) do update set
             version = excluded.version, deleted = excluded.deleted, dirty = excluded.dirty,
             expires_at = excluded.expires_at, fields = excluded.fields
         where {table}.version < excluded.version and {table}.version <= ?2
             and (?3 = 0 or {table}.deleted = 1 or {table}.expires_at <= ?4)
         returning id, version"
    )
}
