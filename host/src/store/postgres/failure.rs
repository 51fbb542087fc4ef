//! What an error of the driver means for a caller. Never a value: messages may hold what was bound.

use sqlx::Error;
use sqlx::migrate::MigrateError;

use crate::store::StoreError;

/// What a failed read means.
pub(super) fn of_read(error: &Error) -> StoreError {
    match error {
        Error::Database(refusal) => of_refusal(&refusal.code().unwrap_or_default(), error),
        Error::Io(_) | Error::Tls(_) | Error::Protocol(_) => StoreError::Unavailable(message(error)),
        _ => StoreError::Other(message(error)),
    }
}

/// What a failed write means: once the connection broke, it may have happened.
pub(super) fn of_write(error: &Error) -> StoreError {
    match error {
        Error::Io(_) | Error::Tls(_) | Error::Protocol(_) => StoreError::Timeout,
        _ => of_read(error),
    }
}

/// By SQLSTATE. The server has rolled the statement back, except where it says that it does not know.
fn of_refusal(code: &str, error: &Error) -> StoreError {
    match code {
        // By our own function `fence`: the message is the epoch.
        "SY001" => match error.as_database_error().and_then(|refusal| refusal.message().parse().ok()) {
            Some(stored) => StoreError::Fenced(stored),
            None => StoreError::Other(message(error)),
        },
        // Cancelled, which only our own limit does; completion unknown.
        "57014" | "40003" | "08007" => StoreError::Timeout,
        // Shut down, starting up, read-only, deadlock, serialization; a prepared statement or plan that the server no longer has; and a table, when the database
        // was replaced and is not migrated yet.
        "57P01" | "57P02" | "57P03" | "57P05" | "25006" | "40P01" | "40001" | "26000" | "0A000" | "42P01" => {
            StoreError::Unavailable(message(error))
        }
        // The connection; too little of something, such as disk, memory or connections; the system below.
        _ if ["08", "53", "58"].iter().any(|class| code.starts_with(class)) => {
            StoreError::Unavailable(message(error))
        }
        _ => StoreError::Other(message(error)),
    }
}

/// Whether the connection may be used again after this.
pub(super) fn spares_connection(error: &StoreError) -> bool {
    !matches!(error, StoreError::Unavailable(_) | StoreError::Timeout)
}

/// The error in words.
pub(super) fn message(error: &Error) -> String {
    match error {
        Error::Database(refusal) => {
            let code = refusal.code().unwrap_or_default();
            // These two classes quote the data.
            if code.starts_with("22") || code.starts_with("23") {
                return format!("postgres refused a value ({code})");
            }
            format!("{} ({code})", refusal.message())
        }
        Error::Io(error) => error.to_string(),
        Error::Tls(error) => format!("TLS: {error}"),
        Error::Protocol(_) => "the server broke the protocol".into(),
        Error::ColumnDecode { index, .. } => format!("column {index} cannot be read"),
        Error::Migrate(error) => of_migration(error),
        Error::Configuration(error) => format!("configuration: {error}"),
        _ => "the driver failed".into(),
    }
}

/// Why migrating failed.
pub(super) fn of_migration(error: &MigrateError) -> String {
    match error {
        MigrateError::Execute(error) => message(error),
        MigrateError::ExecuteMigration(error, version) => format!("migration {version}: {}", message(error)),
        other => other.to_string(),
    }
}
