//! The data folder: held by one process, with a schema that this program knows.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::SqliteConnection;

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/sqlite");

/// How often a held folder is tried again.
const RETRY: Duration = Duration::from_millis(10);

/// The database's file.
pub(super) fn database(folder: &Path) -> PathBuf {
    folder.join("switchyard.db")
}

/// Creates the folder when missing, readable by this user alone, and takes it for this process until the file
/// is dropped. A process that is just ending has until the deadline to let go of it.
pub async fn take(folder: &Path, deadline: Duration) -> Result<File> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).with_context(|| format!("creating the data folder {}", folder.display()))?;
    let path = folder.join("switchyard.lock");
    let lock = File::options().create(true).truncate(false).write(true).open(&path);
    let lock = lock.with_context(|| format!("opening {}", path.display()))?;
    match tokio::time::timeout(deadline, locked(&lock)).await {
        Ok(locked) => locked.with_context(|| format!("locking {}", path.display()))?,
        Err(_) => return Err(anyhow!("another Switchyard is using the data folder {}", folder.display())),
    }
    Ok(lock)
}

async fn locked(lock: &File) -> std::io::Result<()> {
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(RETRY).await,
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// Brings the schema up to date.
pub(super) async fn migrate(connection: &mut SqliteConnection, folder: &Path) -> Result<()> {
    let Err(error) = MIGRATIONS.run(connection).await else { return Ok(()) };
    let folder = folder.display();
    Err(match error {
        MigrateError::VersionMissing(newer) => anyhow!(
            "the data in {folder} was written by a newer Switchyard: its schema has migration {newer}, \
             which this one does not know. Run the newer one, or restore an older backup"
        ),
        MigrateError::VersionMismatch(changed) => anyhow!(
            "the data in {folder} has another migration {changed} than this Switchyard. Run the one that \
             wrote it, or restore a backup"
        ),
        MigrateError::Dirty(half) => anyhow!(
            "migration {half} of the data in {folder} was only half applied. Restore the backup \
             from before it"
        ),
        error => anyhow::Error::new(error).context(format!("bringing the data in {folder} up to date")),
    })
}
