//! Who the server and its data are. What was committed survives a restart, so a run is no reason for doubt; a beat that
//! is missing is, and so is another cluster or timeline.

use std::sync::atomic::Ordering;

use async_trait::async_trait;
use sqlx::Row;

use super::upkeep;
use super::{Postgres, failure, schema};
use crate::store::identity::{Identity, Lineage, Seen};
use crate::store::{Result, UsageEvent};

impl Postgres {
    async fn read_identity(&self) -> Result<Identity> {
        let mut loan = self.reserve.lend().await?;
        let row = sqlx::query(
            "select pg_postmaster_start_time()::text as run, concat(data_lineage(), '/', own.id) as own, \
             own.beat, own.proven, other.incarnation, other.mark \
             from incarnation own left join counterpart other on true",
        )
        .fetch_one(loan.connection())
        .await;
        let missing = |error: &sqlx::Error| {
            let code = error.as_database_error().and_then(|error| error.code());
            code.is_some_and(|code| ["42P01", "42883"].contains(&&*code))
        };
        if row.as_ref().is_err_and(missing) {
            self.migrate_again();
        }
        let identity = row.and_then(|row| {
            let number = |name| row.try_get::<i64, _>(name).map(|number| number.max(0) as u64);
            let other: Option<String> = row.try_get("incarnation")?;
            let mark: Option<i64> = row.try_get("mark")?;
            Ok(Identity {
                run: row.try_get("run")?,
                incarnation: Some(row.try_get("own")?),
                verified: true,
                synced: true,
                mark: number("proven")?,
                beat: number("beat")?,
                counterpart: other
                    .zip(mark)
                    .map(|(incarnation, mark)| Seen { incarnation, mark: mark.max(0) as u64 }),
            })
        });
        loan.end(identity, failure::of_read)
    }

    /// Another database took the place of the one that was migrated. Goes on beyond the deadline of a call.
    fn migrate_again(&self) {
        if let Ok(alone) = self.migrating.clone().try_lock_owned() {
            let link = self.reserve.link().clone();
            tokio::spawn(async move {
                schema::migrate_again(&link).await;
                drop(alone);
            });
        }
    }

    async fn note(&self, other: Option<&Seen>) -> Result<u64> {
        let mut loan = self.reserve.lend().await?;
        let beat = sqlx::query_scalar(
            "with seen as (\
                 insert into counterpart as held (incarnation, mark) \
                 select $1::text, $2::bigint where $1::text is not null \
                 on conflict (one) do update set mark = greatest(held.mark, excluded.mark) \
                 where held.incarnation = excluded.incarnation and held.mark < excluded.mark\
             ) update incarnation set beat = beat + 1, \
             proven = case when $1::text is null then proven else beat + 1 end returning beat",
        )
        .bind(other.map(|other| other.incarnation.as_str()))
        .bind(other.map(|other| other.mark as i64))
        .fetch_one(loan.connection())
        .await;
        loan.end(beat, failure::of_write).map(|beat: i64| beat.max(0) as u64)
    }

    async fn replace(&self, other: &Seen) -> Result<()> {
        let mut loan = self.reserve.lend().await?;
        let done = sqlx::query(
            "insert into counterpart (incarnation, mark) values ($1, $2) \
             on conflict (one) do update set incarnation = excluded.incarnation, mark = excluded.mark",
        )
        .bind(&other.incarnation)
        .bind(other.mark as i64)
        .execute(loan.connection())
        .await;
        loan.end(done, failure::of_write).map(drop)
    }

    async fn forget_complete(&self) -> Result<()> {
        let mut loan = self.reserve.lend().await?;
        let done = sqlx::query("delete from complete_kind").execute(loan.connection()).await;
        loan.end(done, failure::of_write).map(drop)
    }

    async fn raise(&self, run: &str, above: u64) -> Result<bool> {
        let mut loan = self.reserve.lend().await?;
        let done = sqlx::query(
            "update incarnation set beat = greatest(beat, $2) + 1, proven = greatest(beat, $2) + 1 \
             where pg_postmaster_start_time()::text = $1",
        )
        .bind(run)
        .bind(above as i64)
        .execute(loan.connection())
        .await;
        loan.end(done, failure::of_write).map(|done| done.rows_affected() == 1)
    }
}

#[async_trait]
impl Lineage for Postgres {
    fn contact(&self) -> u64 {
        self.reserve.link().contact.load(Ordering::Acquire)
    }

    async fn identity(&self) -> Result<Option<Identity>> {
        self.call(self.read_identity()).await.map(Some)
    }

    async fn beat(&self, other: Option<&Seen>) -> Result<u64> {
        self.call(self.note(other)).await
    }

    async fn remember(&self, other: &Seen) -> Result<()> {
        self.call(self.replace(other)).await
    }

    async fn doubt(&self, _incarnation: &str) -> Result<()> {
        self.call(self.forget_complete()).await
    }

    async fn vouch(&self, _holder: Option<&str>, run: &str, above: u64) -> Result<bool> {
        self.call(self.raise(run, above)).await
    }

    async fn usage_events(&self, after: Option<&str>, limit: u32) -> Result<Vec<UsageEvent>> {
        self.call(upkeep::usage_events(&self.reserve, after, limit)).await
    }
}
