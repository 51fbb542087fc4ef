//! Who the data is: a file that was put back from a backup misses beats that Redis remembers.

use async_trait::async_trait;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::super::identity::{Identity, Lineage, Seen};
use super::super::{Result, StoreError, UsageEvent};
use super::Sqlite;
use super::row;
use super::writer::Change;

#[async_trait]
impl Lineage for Sqlite {
    async fn identity(&self) -> Result<Option<Identity>> {
        let rows = self
            .list(sqlx::query(
                "select own.id, own.beat, own.proven, other.incarnation, other.mark
                 from incarnation own left join counterpart other on true",
            ))
            .await?;
        let lost = || StoreError::Other("the embedded store lost a row".into());
        let row = rows.first().ok_or_else(lost)?;
        let number = |i| row.try_get::<i64, _>(i).map(|number| number.max(0) as u64).map_err(row::unreadable);
        let seen: Option<String> = row.try_get(3).map_err(row::unreadable)?;
        let counterpart = match seen {
            Some(incarnation) => Some(Seen { incarnation, mark: number(4)? }),
            None => None,
        };
        let incarnation = Some(row.try_get(0).map_err(row::unreadable)?);
        let (mark, beat) = (number(2)?, number(1)?);
        // The folder is held by this process alone: it is one run.
        let run = String::new();
        Ok(Some(Identity { run, incarnation, verified: true, synced: true, mark, beat, counterpart }))
    }

    async fn beat(&self, other: Option<&Seen>) -> Result<u64> {
        self.change(Change::Beat(other.cloned())).await
    }

    async fn remember(&self, other: &Seen) -> Result<()> {
        self.change(Change::Remember(other.clone())).await.map(drop)
    }

    async fn doubt(&self, _incarnation: &str) -> Result<()> {
        self.change(Change::Doubt).await.map(drop)
    }

    async fn vouch(&self, _holder: Option<&str>, _run: &str, above: u64) -> Result<bool> {
        self.change(Change::Vouch(above)).await.map(|_| true)
    }

    async fn usage_events(&self, after: Option<&str>, limit: u32) -> Result<Vec<UsageEvent>> {
        let select = sqlx::query("select event from usage_event where id > ? order by id limit ?")
            .bind(after.unwrap_or_default().to_owned())
            .bind(limit);
        let event = |row: &SqliteRow| {
            let event: &str = row.try_get(0).map_err(row::unreadable)?;
            serde_json::from_str(event)
                .map_err(|_| StoreError::Other("a usage event of the embedded store is damaged".into()))
        };
        self.list(select).await?.iter().map(event).collect()
    }
}
