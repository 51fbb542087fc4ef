//! The embedded durable store: SQLite in the data folder, in the role of PostgreSQL when none is configured.
//!
//! # Layout
//! - [`queue`]: the bounded way to the tasks below
//! - [`link`]: a connection that is opened anew after a failure
//! - [`writer`]: the one task that writes; concurrent writes share a commit
//! - [`lookup`]: the task that reads single records; concurrent reads share a select
//! - [`marks`]: the records that the other store does not have yet
//! - [`row`]: rows as records
//! - [`mod@list`]: lists of keys
//! - [`folder`]: the lock and the schema
//! - [`identity`]: who the data is
//! - [`maintenance`]: the functions of the admin's commands
//!
//! Whatever was acknowledged is on the disk (`synchronous=FULL`). A read sees what was acknowledged before
//! it began. A full disk or an I/O error makes calls `Unavailable`; the next ones try again.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use sqlx::sqlite::{SqliteConnectOptions, SqliteRow};
use sqlx::{AssertSqlSafe, Row};

use super::clock::now_ms;
use super::epoch::{Ballot, Control, Proposal};
use super::kind::Visibility;
use super::list::ListQuery;
use super::{
    Backend, Backlog, Key, Kind, MAX_PAGE, Page, Receipts, Record, Result, Store, StoreError, Usage,
    UsageEvent, Version, Write,
};
use link::{Link, Select};
use lookup::{Found, Lookup};
use queue::Queue;
use row::COLUMNS;
use writer::Change;

pub mod folder;
mod identity;
mod link;
mod list;
mod lookup;
mod maintenance;
mod marks;
mod queue;
mod row;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
mod tests;
mod writer;

/// A durable store in a folder of this machine.
pub struct Sqlite {
    writer: Queue<Change, u64>,
    lookups: Queue<Lookup, Found>,
    /// Reads of many rows, apart from the lookups so that none waits behind a scan.
    lists: Queue<Select, Vec<SqliteRow>>,
}

impl Sqlite {
    /// Opens the store in the folder `path`, creating what is missing and bringing the schema up to date.
    ///
    /// Every call ends within `deadline`. Fails when another process has the folder, and does not release
    /// it within `deadline`; or when the schema is newer than this program, changed or half applied. Needs a
    /// Tokio runtime. The folder is released some time after the store was dropped, when all accepted writes
    /// are done.
    pub async fn open(path: &Path, deadline: Duration) -> anyhow::Result<Self> {
        Self::open_with(path, deadline, link::writing(&folder::database(path), deadline)).await
    }

    async fn open_with(
        path: &Path,
        deadline: Duration,
        writing: SqliteConnectOptions,
    ) -> anyhow::Result<Self> {
        let lock = folder::take(path, deadline).await?;
        let file = folder::database(path);
        let opening = || format!("opening {}", file.display());
        let mut link = Link::open(writing).await.with_context(opening)?;
        folder::migrate(link.connection().await?, path).await?;
        let reader = || Link::open(link::reading(&file, deadline));
        let (lookup_link, list_link) = (reader().await.with_context(opening)?, reader().await?);
        let (writer, changes) = Queue::new(deadline);
        let (lookups, sought) = Queue::new(deadline);
        let (lists, selects) = Queue::new(deadline);
        tokio::spawn(writer::run(link, changes, lock));
        tokio::spawn(lookup::run(lookup_link, sought));
        tokio::spawn(link::run(list_link, selects));
        Ok(Self { writer, lookups, lists })
    }

    async fn change(&self, change: Change) -> Result<u64> {
        self.writer.ask(change).await
    }

    async fn list(&self, select: Select) -> Result<Vec<SqliteRow>> {
        self.lists.ask(select).await
    }
}

fn has_table(kind: &Kind) -> bool {
    kind.visibility != Visibility::Totals
}

#[async_trait]
impl Store for Sqlite {
    async fn get(&self, key: &Key) -> Result<Option<Arc<Record>>> {
        self.lookups.ask(Lookup { kind: key.kind, column: lookup::ID, value: key.id.clone() }).await
    }

    async fn find(&self, kind: &'static Kind, index: &str, value: &str) -> Result<Option<Arc<Record>>> {
        let column = kind.index_named(index)?.name;
        self.lookups.ask(Lookup { kind, column, value: value.into() }).await
    }

    async fn scan(&self, kind: &'static Kind, cursor: Option<&str>, limit: u32) -> Result<Page> {
        if !has_table(kind) {
            return Ok(Page::default());
        }
        let limit = limit.clamp(1, MAX_PAGE) as usize;
        let select = sqlx::query(AssertSqlSafe(format!(
            "select {COLUMNS} from {} where id > ? and deleted = 0
             and (expires_at is null or expires_at > ?) order by id limit ?",
            kind.name
        )))
        .bind(cursor.unwrap_or_default().to_owned())
        .bind(now_ms())
        .bind(limit as i64 + 1);
        let rows = self.list(select).await?;
        let records: Vec<_> =
            rows.iter().take(limit).map(|row| row::record(kind, row)).collect::<Result<_>>()?;
        let next = records.last().filter(|_| rows.len() > limit).map(|record| record.key.id.to_string());
        Ok(Page { records, next })
    }

    async fn put(&self, write: &Write) -> Result<()> {
        let record = write.record.clone();
        if !has_table(record.key.kind) {
            return Err(StoreError::Unsupported(format!("{} is written by add only", record.key.kind.name)));
        }
        let (mark, expect, receipts) = (write.mark, write.expect, Receipts::default());
        self.change(Change::Put(Write { record, mark, expect, receipts })).await.map(drop)
    }

    async fn add(&self, usage: &Usage) -> Result<u64> {
        let (events, offset, mark) = (usage.events.clone(), usage.offset, usage.mark);
        self.change(Change::Add { events, offset, mark }).await
    }
}

#[async_trait]
impl Backend for Sqlite {
    async fn dirty(&self, before: Version, skip: u32, limit: u32) -> Result<Vec<Arc<Record>>> {
        marks::records(&self.list(marks::dirty(before, skip, limit)).await?)
    }

    async fn settle(&self, settled: &[(Key, Version)]) -> Result<()> {
        self.change(Change::Settle(settled.to_vec())).await.map(drop)
    }

    async fn owed_usage(&self, after: Option<&str>, limit: u32) -> Result<Vec<UsageEvent>> {
        let select =
            sqlx::query("select event from usage_event where owed = 1 and id > ? order by id limit ?");
        let select = select.bind(after.unwrap_or_default().to_owned()).bind(limit);
        let event = |row: &SqliteRow| {
            let event: &str = row.try_get(0).map_err(row::unreadable)?;
            serde_json::from_str(event)
                .map_err(|_| StoreError::Other("a usage event of the embedded store is damaged".into()))
        };
        self.list(select).await?.iter().map(event).collect()
    }

    async fn settle_usage(&self, ids: &[String]) -> Result<()> {
        self.change(Change::SettleUsage(ids.to_vec())).await.map(drop)
    }

    async fn backlog(&self) -> Result<Backlog> {
        marks::backlog(&self.list(marks::count()).await?)
    }

    async fn complete(&self, kind: &'static Kind) -> Result<bool> {
        let select = sqlx::query("select 1 from complete_kind where kind = ?").bind(kind.name);
        Ok(!self.list(select).await?.is_empty())
    }

    async fn set_complete(&self, kind: &'static Kind) -> Result<()> {
        self.change(Change::SetComplete(kind)).await.map(drop)
    }

    async fn counts_usage(&self) -> Result<bool> {
        Ok(!self.list(sqlx::query("select 1 from usage_total limit 1")).await?.is_empty())
    }

    async fn probe(&self) -> Result<()> {
        // At the same time, so that both end within the deadline.
        let (write, read) = (Change::Probe(now_ms()), sqlx::query("select at from probe"));
        tokio::try_join!(self.change(write), self.list(read)).map(drop)
    }

    fn durability(&self) -> &'static str {
        "postgres"
    }

    async fn control(&self, _: &str, _: Ballot, _: Option<&Proposal>) -> Result<Option<Control>> {
        Ok(None)
    }

    async fn sync_all(&self, _: bool) -> Result<()> {
        Ok(())
    }

    async fn list(&self, kind: &'static Kind, query: &ListQuery) -> Result<Page> {
        self.list_records(kind, query).await
    }

    async fn marked(&self, keys: &[Key]) -> Result<Vec<Arc<Record>>> {
        marks::records(&self.list(marks::of(keys)).await?)
    }
}
