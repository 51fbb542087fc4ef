//! A connection that is opened anew after a failure, and the task that answers arbitrary selects.

use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteRow, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection};
use tokio::sync::mpsc;

use super::super::{Result, StoreError};
use super::queue::Job;

/// How large the write-ahead log may stay after a checkpoint, in bytes.
const JOURNAL_SIZE: &str = "67108864";

/// After how many pages of 4 KiB the log is copied into the database: 32 MiB, so that pages written again
/// and again are copied once.
const CHECKPOINT: &str = "8000";

/// How much of the database the writer keeps in memory: 64 MiB, given in negative KiB.
const CACHE: &str = "-65536";

/// A query with its arguments.
pub(super) type Select = sqlx::query::Query<'static, sqlx::Sqlite, SqliteArguments>;

/// How the writer opens the database file, which it creates when missing.
pub(super) fn writing(file: &Path, busy: Duration) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("journal_size_limit", JOURNAL_SIZE)
        .pragma("wal_autocheckpoint", CHECKPOINT)
        .pragma("cache_size", CACHE)
        .busy_timeout(busy)
        .disable_statement_logging()
}

/// How a reader opens it.
pub(super) fn reading(file: &Path, busy: Duration) -> SqliteConnectOptions {
    SqliteConnectOptions::new().filename(file).read_only(true).busy_timeout(busy).disable_statement_logging()
}

/// A connection, or how to get the next one.
pub(super) struct Link {
    options: SqliteConnectOptions,
    connection: Option<SqliteConnection>,
}

impl Link {
    pub(super) async fn open(options: SqliteConnectOptions) -> sqlx::Result<Self> {
        let connection = Some(options.connect().await?);
        Ok(Self { options, connection })
    }

    pub(super) async fn connection(&mut self) -> sqlx::Result<&mut SqliteConnection> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.options.connect().await?,
        };
        Ok(self.connection.insert(connection))
    }

    /// Closes it. After an error nobody knows whether a transaction is still open, so the next call
    /// begins with a new connection.
    pub(super) async fn close(&mut self) {
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, "closing a connection of the embedded store failed");
        }
    }

    pub(super) async fn rows(&mut self, select: Select) -> Result<Vec<SqliteRow>> {
        let rows = match self.connection().await {
            Ok(connection) => select.fetch_all(connection).await,
            Err(error) => Err(error),
        };
        if rows.is_err() {
            self.close().await;
        }
        rows.map_err(unavailable)
    }
}

/// What a caller hears of a failure of SQLite: a full disk, an I/O error.
pub(super) fn unavailable(error: sqlx::Error) -> StoreError {
    StoreError::Unavailable(format!("the embedded store failed: {error}"))
}

/// Answers selects, one after the other, until the last sender is gone.
pub(super) async fn run(mut link: Link, mut queue: mpsc::Receiver<Job<Select, Vec<SqliteRow>>>) {
    while let Some(Job { call, answer }) = queue.recv().await {
        if answer.is_closed() {
            continue;
        }
        // A caller that gave up meanwhile does not hear it.
        let _ = answer.send(link.rows(call).await);
    }
    link.close().await;
}
