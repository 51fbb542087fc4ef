//! The durable store on PostgreSQL: one table per kind, compare-and-set in one statement, no pool.
//!
//! # Layout
//! - [`connection`]: the settings, and how a connection is opened
//! - [`failure`]: what an error of the driver means for a caller
//! - [`schema`]: migrations, and the gate that stays shut until they are done
//! - [`lane`]: workers that each own a connection and serve many calls with one statement
//! - [`read`], [`put`], [`count`]: those statements; [`mod@write`] is the lane of the latter two
//! - [`mod@epoch`]: the epoch that every statement of theirs checks
//! - [`identity`]: who the server and its data are
//! - [`reserve`]: the connections for scans and the host's own calls; [`marks`], [`upkeep`], [`maintenance`],
//!   [`hourly`], [`board`]: what runs there
//! - [`mod@list`]: lists of keys
//! - [`listen`]: hears what the server announces

mod board;
mod connection;
mod count;
mod epoch;
mod failure;
mod hourly;
mod identity;
mod lane;
mod list;
mod listen;
mod maintenance;
mod marks;
mod put;
mod read;
mod reserve;
mod row;
mod schema;
mod upkeep;
mod write;

#[cfg(test)]
mod server;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::broadcast;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::epoch::{Ballot, Control, Epoch, Proposal};
use super::list::ListQuery;
use super::{
    Backend, Backlog, Board, Connections, Key, Kind, Page, Record, Result, Store, StoreError, Usage,
    UsageEvent, Version, Write,
};
use connection::Link;
pub use connection::PostgresSettings;
use lane::{Lane, Reply};
use read::Read;
use reserve::Reserve;
use schema::Gate;
use write::WriteJob;

/// A PostgreSQL server. Must live in a tokio runtime; its tasks end when it is dropped.
pub struct Postgres {
    deadline: Duration,
    epoch: Arc<Epoch>,
    gate: Gate,
    reads: Lane<Read>,
    writes: Lane<WriteJob>,
    reserve: Arc<Reserve>,
    notices: broadcast::Sender<String>,
    /// Held while a database that took the place of another is migrated.
    migrating: Arc<tokio::sync::Mutex<()>>,
    /// The workers, the migration and the upkeep. Dropping the set ends them.
    _tasks: JoinSet<()>,
}

impl Postgres {
    /// Begins to connect, and goes on for ever: a server that cannot be reached is not an error here.
    /// Calls answer `Unavailable` with the reason meanwhile.
    ///
    /// # Errors
    /// The URL is malformed. The message names what is wrong with it and never holds the password.
    pub fn connect(settings: PostgresSettings) -> anyhow::Result<Self> {
        let link = Arc::new(Link::new(&settings)?);
        let mut tasks = JoinSet::new();
        let gate = Gate::open_when_migrated(&link, &mut tasks);
        let connections = settings.connections.max(2);
        let reads = Lane::new(connections / 2, &link, &gate, &mut tasks);
        let writes = Lane::new(connections - connections / 2, &link, &gate, &mut tasks);
        let notices = broadcast::Sender::new(listen::NOTICES);
        tasks.spawn(listen::listen(link.clone(), gate.clone(), notices.clone()));
        let reserve = Arc::new(Reserve::new(link));
        tasks.spawn(hourly::work(reserve.clone(), gate.clone()));
        Ok(Self {
            deadline: settings.deadline,
            epoch: settings.epoch,
            gate,
            reads,
            writes,
            reserve,
            notices,
            migrating: Arc::default(),
            _tasks: tasks,
        })
    }

    /// Why the schema in the database cannot be used, and what to do about it; none when it can, or when
    /// that is not known yet.
    pub fn schema_error(&self) -> Option<String> {
        self.gate.schema_error()
    }

    /// Runs a call once the schema is known to be ours, within the deadline.
    async fn call<T>(&self, call: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let admitted = async {
            self.gate.admit().await?;
            call.await
        };
        let answer = timeout(self.deadline, admitted).await.unwrap_or(Err(StoreError::Timeout));
        if let Err(StoreError::Fenced(stored)) = answer {
            self.epoch.note_refusal(stored);
        }
        answer
    }

    /// Hands a read to a worker and waits for the answer.
    async fn read(
        &self,
        kind: &'static Kind,
        column: &'static str,
        value: Arc<str>,
    ) -> Result<Option<Arc<Record>>> {
        self.call(self.reads.ask(|reply| Read { kind, column, value, reply })).await
    }

    async fn write<T: Send>(&self, job: impl FnOnce(Reply<T>) -> WriteJob + Send) -> Result<T> {
        self.call(self.writes.ask(job)).await
    }
}

#[async_trait]
impl Store for Postgres {
    async fn get(&self, key: &Key) -> Result<Option<Arc<Record>>> {
        self.read(key.kind, read::ID, key.id.clone()).await
    }

    async fn find(&self, kind: &'static Kind, index: &str, value: &str) -> Result<Option<Arc<Record>>> {
        let index = kind.index_named(index)?;
        // No text in PostgreSQL holds a NUL, and the empty value is not indexed.
        if value.is_empty() || value.contains('\0') {
            return Ok(None);
        }
        self.read(kind, index.name, value.into()).await
    }

    async fn scan(&self, kind: &'static Kind, cursor: Option<&str>, limit: u32) -> Result<Page> {
        self.call(upkeep::scan(&self.reserve, kind, cursor, limit)).await
    }

    async fn put(&self, write: &Write) -> Result<()> {
        row::stored(write.record.key.kind)?;
        let (record, mark, expect) = (write.record.clone(), write.mark, write.expect);
        let epoch = self.epoch.carried();
        self.write(|reply| WriteJob::Put(put::Put { record, mark, expect, epoch, reply })).await
    }

    async fn add(&self, usage: &Usage) -> Result<u64> {
        let (events, offset, mark) = (usage.events.clone(), usage.offset, usage.mark);
        let epoch = self.epoch.carried();
        self.write(|reply| WriteJob::Add(count::Add { events, offset, mark, epoch, reply })).await
    }
}

#[async_trait]
impl Backend for Postgres {
    async fn dirty(&self, before: Version, skip: u32, limit: u32) -> Result<Vec<Arc<Record>>> {
        self.call(marks::dirty(&self.reserve, before, skip, limit)).await
    }

    async fn settle(&self, settled: &[(Key, Version)]) -> Result<()> {
        self.call(marks::settle(&self.reserve, settled, self.epoch.carried())).await
    }

    async fn owed_usage(&self, after: Option<&str>, limit: u32) -> Result<Vec<UsageEvent>> {
        self.call(upkeep::owed_usage(&self.reserve, after, limit)).await
    }

    async fn settle_usage(&self, ids: &[String]) -> Result<()> {
        self.call(upkeep::settle_usage(&self.reserve, ids, self.epoch.carried())).await
    }

    async fn backlog(&self) -> Result<Backlog> {
        self.call(marks::backlog(&self.reserve)).await
    }

    async fn complete(&self, kind: &'static Kind) -> Result<bool> {
        self.call(upkeep::complete(&self.reserve, kind)).await
    }

    async fn set_complete(&self, kind: &'static Kind) -> Result<()> {
        self.call(upkeep::set_complete(&self.reserve, kind)).await
    }

    async fn counts_usage(&self) -> Result<bool> {
        self.call(upkeep::counts_usage(&self.reserve)).await
    }

    async fn probe(&self) -> Result<()> {
        self.write(WriteJob::Probe).await
    }

    fn durability(&self) -> &'static str {
        "postgres"
    }

    fn connections(&self) -> Option<Connections> {
        Some(self.reads.connections() + self.writes.connections() + self.reserve.connections())
    }

    async fn control(&self, _: &str, _: Ballot, proposal: Option<&Proposal>) -> Result<Option<Control>> {
        self.call(epoch::control(&self.reserve, proposal)).await.map(Some)
    }

    /// It does so anyway.
    async fn sync_all(&self, _: bool) -> Result<()> {
        Ok(())
    }

    async fn list(&self, kind: &'static Kind, query: &ListQuery) -> Result<Page> {
        self.call(list::list(&self.reserve, kind, query)).await
    }

    async fn marked(&self, keys: &[Key]) -> Result<Vec<Arc<Record>>> {
        self.call(marks::marked(&self.reserve, keys)).await
    }

    async fn time(&self) -> Result<i64> {
        self.call(board::time(&self.reserve)).await
    }

    fn board(&self) -> Option<&dyn Board> {
        Some(self)
    }
}
