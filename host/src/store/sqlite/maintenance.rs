//! The admin's commands on the embedded store.

use std::time::Duration;

use async_trait::async_trait;
use jiff::tz::Offset;
use sqlx::{AssertSqlSafe, Row};

use super::super::maintenance::{Adopted, Counted, Windows};
use super::super::{Key, Kind, MAX_PAGE, Maintenance, Page, Result, Version};
use super::row::{self, COLUMNS};
use super::writer::Change;
use super::{Sqlite, has_table};

#[async_trait]
impl Maintenance for Sqlite {
    async fn adopt(&self, _cursor: Option<&str>) -> Result<Adopted> {
        Ok(Adopted::default())
    }

    async fn count(&self, kind: &'static Kind) -> Result<u64> {
        if !has_table(kind) {
            return Ok(0);
        }
        let select = format!("select count(*) from {} where deleted = 0", kind.name);
        let rows = self.list(sqlx::query(AssertSqlSafe(select))).await?;
        let count = rows.first().map_or(Ok(0), |row| row.try_get::<i64, _>(0).map_err(row::unreadable))?;
        Ok(count as u64)
    }

    async fn tombstones(&self, kind: &'static Kind, cursor: Option<&str>, limit: u32) -> Result<Page> {
        if !has_table(kind) {
            return Ok(Page::default());
        }
        let limit = limit.clamp(1, MAX_PAGE) as usize;
        let table = kind.name;
        let select =
            format!("select {COLUMNS} from {table} where id > ? and deleted = 1 order by id limit ?");
        let select = sqlx::query(AssertSqlSafe(select));
        let rows = self.list(select.bind(cursor.unwrap_or_default().to_owned()).bind(limit as i64)).await?;
        let records: Vec<_> = rows.iter().map(|row| row::record(kind, row)).collect::<Result<_>>()?;
        let next = records.last().filter(|_| records.len() == limit).map(|last| last.key.id.to_string());
        Ok(Page { records, next })
    }

    async fn windows(&self, cursor: Option<&str>, limit: u32, every: bool) -> Result<Windows> {
        self.windows_of("usage_total", cursor, limit, every).await
    }

    async fn has_counted(&self, ids: &[String]) -> Result<Vec<String>> {
        let select = "select id from usage_event where id in (select value from json_each(?))";
        let rows = self.list(sqlx::query(select).bind(sqlx::types::Json(ids.to_vec()))).await?;
        rows.iter().map(|row| row.try_get(0).map_err(row::unreadable)).collect()
    }

    async fn close_usage(&self, _hold: Option<Duration>) -> Result<()> {
        // The durable store is the one that is compared with.
        Ok(())
    }

    async fn open_balances(&self, held: &[Counted], offset: Offset, from: &str) -> Result<u64> {
        self.change(Change::Open { held: held.to_vec(), offset, from: from.to_owned() }).await
    }

    async fn balances(&self, cursor: Option<&str>, limit: u32) -> Result<Windows> {
        self.windows_of("usage_opening", cursor, limit, true).await
    }

    async fn dropped(&self, _kind: &'static Kind) -> Result<u64> {
        Ok(0)
    }

    async fn complete_since(&self, kind: &'static Kind, _dropped: u64) -> Result<bool> {
        self.change(Change::SetComplete(kind)).await.map(|_| true)
    }

    async fn drop_copies(&self, _kind: &'static Kind, _copies: &[(Key, Version)]) -> Result<u64> {
        Ok(0)
    }

    async fn forget_near(&self) -> Result<u64> {
        Ok(0)
    }

    async fn reconnect(&self) -> Result<()> {
        // A file of this process: there is nobody to connect to.
        Ok(())
    }
}

impl Sqlite {
    async fn windows_of(
        &self,
        table: &str,
        cursor: Option<&str>,
        limit: u32,
        every: bool,
    ) -> Result<Windows> {
        let limit = limit.clamp(1, MAX_PAGE) as usize;
        let select = format!(
            "select id, {} from {table} where id > ? and (? or id like '%:total') order by id limit ?",
            row::counters()
        );
        let select = sqlx::query(AssertSqlSafe(select)).bind(cursor.unwrap_or_default().to_owned());
        let rows = self.list(select.bind(every).bind(limit as i64)).await?;
        let counted: sqlx::Result<Vec<Counted>> = rows.iter().map(row::counted).collect();
        let counted = counted.map_err(row::unreadable)?;
        let next = counted.last().filter(|_| counted.len() == limit).map(|(id, _)| id.clone());
        Ok(Windows { counted, next, ..Windows::default() })
    }
}
