//! Migrations, and the gate that stays shut until they are done.

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgConnection;
use sqlx::migrate::{MigrateError, Migrator};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::connection::{Backoff, Link};
use super::{failure, hourly};
use crate::store::{Result, StoreError};

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/postgres");

/// How long migrating may take, the wait for another host that migrates included. A migration is one
/// transaction: what does not end in time is rolled back and tried again.
const MIGRATING: Duration = Duration::from_secs(60);

/// Whether the schema is the one that this program knows.
#[derive(Clone)]
enum State {
    /// Nothing has failed yet: calls wait.
    Unknown,
    Open,
    /// The server could not be reached or did not let us migrate.
    Unreachable(String),
    /// The schema cannot be used, and only a person can change that.
    Refused(String),
}

/// Shut until the schema is known to be ours; every call and every worker passes it.
#[derive(Clone)]
pub(super) struct Gate(watch::Receiver<State>);

impl Gate {
    /// Migrates in the background, again and again until it succeeds.
    pub(super) fn open_when_migrated(link: &Arc<Link>, tasks: &mut JoinSet<()>) -> Self {
        let (state, gate) = watch::channel(State::Unknown);
        tasks.spawn(open(link.clone(), state));
        Self(gate)
    }

    /// Waits for the first attempt to end.
    ///
    /// # Errors
    /// `Unavailable`, while the gate is shut.
    pub(super) async fn admit(&self) -> Result<()> {
        match &*self.0.borrow() {
            State::Open => return Ok(()),
            State::Unreachable(why) | State::Refused(why) => {
                return Err(StoreError::Unavailable(why.clone()));
            }
            State::Unknown => {}
        }
        let mut gate = self.0.clone();
        match gate.wait_for(|state| !matches!(state, State::Unknown)).await.as_deref() {
            Ok(State::Open) => Ok(()),
            Ok(State::Unreachable(why) | State::Refused(why)) => Err(StoreError::Unavailable(why.clone())),
            Ok(State::Unknown) | Err(_) => Err(StoreError::Unavailable("not connected".into())),
        }
    }

    /// Waits until the gate is open, however long that takes.
    pub(super) async fn opened(&self) {
        // The sender lives as long as the store, and with it everyone who waits here.
        let _ = self.0.clone().wait_for(|state| matches!(state, State::Open)).await;
    }

    pub(super) fn schema_error(&self) -> Option<String> {
        match &*self.0.borrow() {
            State::Refused(why) => Some(why.clone()),
            _ => None,
        }
    }
}

async fn open(link: Arc<Link>, state: watch::Sender<State>) {
    let mut backoff = Backoff::default();
    loop {
        let reached = migrate(&link).await;
        let open = matches!(reached, State::Open);
        state.send_replace(reached);
        if open {
            // The gate is open for as long as its sender lives.
            return state.closed().await;
        }
        sleep(backoff.next()).await;
    }
}

/// Migrates a database that took the place of one that was migrated.
pub(super) async fn migrate_again(link: &Link) {
    if let State::Unreachable(why) | State::Refused(why) = migrate(link).await {
        tracing::warn!(why, "the database that took the place of the last one was not migrated");
    }
}

async fn migrate(link: &Link) -> State {
    let mut connection = match link.open_for(MIGRATING).await {
        Ok(connection) => connection,
        Err(StoreError::Unavailable(why)) => return State::Unreachable(why),
        Err(error) => return State::Unreachable(error.to_string()),
    };
    // Dropping the connection releases the lock, whatever happened.
    match timeout(MIGRATING, run(&mut connection)).await {
        Ok(Ok(())) => State::Open,
        Ok(Err(error)) => judge(&error),
        Err(_) => State::Unreachable(format!("migrating took more than {} s", MIGRATING.as_secs())),
    }
}

async fn run(connection: &mut PgConnection) -> Result<(), MigrateError> {
    MIGRATIONS.run_direct(None, connection, false).await?;
    // Before the first event, so that none of this month goes to the last partition.
    hourly::make_partitions(connection).await.map_err(MigrateError::Execute)
}

/// Whether time may heal it.
fn judge(error: &MigrateError) -> State {
    let newest = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default();
    match error {
        MigrateError::VersionMissing(version) if *version > newest => State::Refused(format!(
            "the database has migration {version}, but this program knows only {newest}: it was used by a newer \
             Switchyard. Run that version, or restore a backup from before the upgrade"
        )),
        MigrateError::VersionMissing(version) => State::Refused(format!(
            "the database has migration {version}, which this program does not know: it belongs to another \
             program or build. Use a database of its own, or the build that made it"
        )),
        MigrateError::VersionMismatch(version) => State::Refused(format!(
            "migration {version} in the database is not the one in this program: one of them was changed after \
             it was applied. Run the build that applied it, or restore a backup"
        )),
        MigrateError::Dirty(version) => State::Refused(format!(
            "migration {version} is half applied. Restore a backup, or finish it by hand and set success in \
             _sqlx_migrations"
        )),
        MigrateError::Execute(cause) | MigrateError::ExecuteMigration(cause, _)
            if matches!(failure::of_read(cause), StoreError::Other(_)) =>
        {
            State::Refused(format!("migrating failed: {}", failure::of_migration(error)))
        }
        _ => State::Unreachable(format!("migrating failed: {}", failure::of_migration(error))),
    }
}
