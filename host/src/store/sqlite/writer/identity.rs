//! Beats, and what is remembered of Redis.

use super::super::super::identity::Seen;
use super::Group;

impl Group<'_> {
    pub(super) async fn beat(&mut self, other: Option<&Seen>) -> sqlx::Result<u64> {
        if let Some(other) = other {
            sqlx::query(
                "insert into counterpart (one, incarnation, mark) values (1, ?, ?)
                 on conflict (one) do update set mark = max(mark, excluded.mark)
                 where incarnation = excluded.incarnation",
            )
            .bind(&other.incarnation)
            .bind(other.mark as i64)
            .execute(&mut *self.transaction)
            .await?;
        }
        let beat: i64 = sqlx::query_scalar(
            "update incarnation set beat = beat + 1, proven = case when ? then beat + 1 else proven end
             returning beat",
        )
        .bind(other.is_some())
        .fetch_one(&mut *self.transaction)
        .await?;
        Ok(beat.max(0) as u64)
    }

    pub(super) async fn remember(&mut self, other: &Seen) -> sqlx::Result<()> {
        sqlx::query("insert or replace into counterpart (one, incarnation, mark) values (1, ?, ?)")
            .bind(&other.incarnation)
            .bind(other.mark as i64)
            .execute(&mut *self.transaction)
            .await
            .map(drop)
    }

    pub(super) async fn doubt(&mut self) -> sqlx::Result<()> {
        sqlx::query("delete from complete_kind").execute(&mut *self.transaction).await.map(drop)
    }

    pub(super) async fn vouch(&mut self, above: u64) -> sqlx::Result<()> {
        sqlx::query("update incarnation set beat = max(beat, ?1) + 1, proven = max(beat, ?1) + 1")
            .bind(above as i64)
            .execute(&mut *self.transaction)
            .await
            .map(drop)
    }
}
