//! Marks and small notes.

use std::collections::BTreeMap;

use sqlx::AssertSqlSafe;
use sqlx::types::Json;

use super::super::super::kind::Visibility;
use super::super::super::{Key, Kind, Version};
use super::Group;

impl Group<'_> {
    pub(super) async fn settle(&mut self, settled: &[(Key, Version)]) -> sqlx::Result<()> {
        let mut kinds: BTreeMap<&Kind, Vec<(&str, Version)>> = BTreeMap::new();
        for (key, version) in settled.iter().filter(|(key, _)| key.kind.visibility != Visibility::Totals) {
            kinds.entry(key.kind).or_default().push((&key.id, *version));
        }
        for (kind, settled) in kinds {
            let sql = AssertSqlSafe(format!(
                "update {} set dirty = 0 where dirty = 1
                 and (id, version) in (select value ->> 0, value ->> 1 from json_each(?))",
                kind.name
            ));
            sqlx::query(sql).bind(Json(settled)).execute(&mut *self.transaction).await?;
        }
        Ok(())
    }

    pub(super) async fn settle_usage(&mut self, ids: &[String]) -> sqlx::Result<()> {
        sqlx::query(
            "update usage_event set owed = 0
             where owed = 1 and id in (select value from json_each(?))",
        )
        .bind(Json(ids))
        .execute(&mut *self.transaction)
        .await
        .map(drop)
    }

    pub(super) async fn set_complete(&mut self, kind: &Kind) -> sqlx::Result<()> {
        sqlx::query("insert into complete_kind (kind) values (?) on conflict do nothing")
            .bind(kind.name)
            .execute(&mut *self.transaction)
            .await
            .map(drop)
    }

    pub(super) async fn probe(&mut self, at: i64) -> sqlx::Result<()> {
        sqlx::query(
            "insert into probe (id, at) values (1, ?)
             on conflict (id) do update set at = excluded.at",
        )
        .bind(at)
        .execute(&mut *self.transaction)
        .await
        .map(drop)
    }
}
