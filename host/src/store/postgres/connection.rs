//! The settings, and how a connection is opened. A connection on which anything went wrong is closed.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use parking_lot::Mutex;
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use tokio::time::timeout;
use url::Url;

use super::failure;
use crate::store::{Epoch, Result, StoreError};

/// Where the server is and how it is used.
#[derive(Clone)]
pub struct PostgresSettings {
    /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=...&sslrootcert=...`
    pub url: String,
    /// How long a call may take.
    pub deadline: Duration,
    /// Connections for calls, at least 2: half of them for reads. A few more are opened for scans and
    /// migrations.
    pub connections: usize,
    /// The epoch of this process.
    pub epoch: Arc<Epoch>,
}

impl PostgresSettings {
    /// The defaults: one second, four connections.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), deadline: Duration::from_secs(1), connections: 4, epoch: Arc::default() }
    }
}

/// How long opening a connection may take: DNS, TLS and a password hash that is slow on purpose.
const OPENING: Duration = Duration::from_secs(5);

/// What changes when the server starts again, another takes its place, or the database is replaced.
const INSTANCE: &str = "select concat(pg_postmaster_start_time(), '/', \
    (select oid from pg_database where datname = current_database()))";

/// The pauses between attempts to connect: from 100 ms, doubling, to 2 s.
pub(super) struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(Duration::from_millis(100))
    }
}

impl Backoff {
    /// How long to wait before the next attempt.
    pub(super) fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(Duration::from_secs(2));
        pause
    }
}

/// The parameters that a URL may have: the driver ignores others, and logs them with their values.
const PARAMETERS: [&str; 13] = [
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "password",
    "port",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "statement-cache-capacity",
    "user",
];

/// The way to the server.
pub(super) struct Link {
    options: PgConnectOptions,
    /// The server's name in messages.
    name: String,
    pub(super) deadline: Duration,
    /// The run of the server, and the database, that the last connection led to.
    instance: Mutex<Option<String>>,
    /// Rises with each connection to another instance, before that connection serves.
    pub(super) contact: AtomicU64,
    era: AtomicU64,
}

impl Link {
    pub(super) fn new(settings: &PostgresSettings) -> anyhow::Result<Self> {
        let options = parse(&settings.url)?.disable_statement_logging();
        let options = match options.get_application_name() {
            Some(_) => options,
            None => options.application_name("switchyard"),
        };
        let milliseconds = settings.deadline.as_millis().max(1).to_string();
        let options = options.options([
            ("statement_timeout", milliseconds.as_str()),
            ("idle_in_transaction_session_timeout", milliseconds.as_str()),
            ("timezone", "UTC"),
        ]);
        let name = match options.get_socket() {
            Some(folder) => format!("postgres in {}", folder.display()),
            None => format!("postgres at {}:{}", options.get_host(), options.get_port()),
        };
        let (instance, contact) = (Mutex::default(), AtomicU64::new(0));
        let era = AtomicU64::new(0);
        Ok(Self { options, name, deadline: settings.deadline, instance, contact, era })
    }

    /// How connections for calls are opened.
    pub(super) fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    /// Rises when all connections are to be given up.
    pub(super) fn era(&self) -> u64 {
        self.era.load(Ordering::Acquire)
    }

    /// Lets every connection end as soon as it is idle.
    pub(super) fn begin_anew(&self) {
        self.era.fetch_add(1, Ordering::AcqRel);
    }

    /// A connection for calls: statements end at the deadline.
    pub(super) async fn open(&self) -> Result<PgConnection> {
        let mut connection = self.open_as(&self.options).await?;
        let instance = sqlx::query_scalar(INSTANCE).fetch_one(&mut connection);
        let instance: String = timeout(self.deadline, instance)
            .await
            .map_err(|_| StoreError::Timeout)?
            .map_err(|error| failure::of_read(&error))?;
        let mut last = self.instance.lock();
        if last.as_ref() != Some(&instance) {
            self.contact.fetch_add(1, Ordering::AcqRel);
            *last = Some(instance);
        }
        Ok(connection)
    }

    /// A connection whose statements may take this long.
    pub(super) async fn open_for(&self, limit: Duration) -> Result<PgConnection> {
        let options = self.options.clone().options([("statement_timeout", limit.as_millis())]);
        self.open_as(&options).await
    }

    async fn open_as(&self, options: &PgConnectOptions) -> Result<PgConnection> {
        let reason = match timeout(OPENING, options.connect()).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => failure::message(&error),
            Err(_) => format!("no answer within {} s", OPENING.as_secs()),
        };
        Err(StoreError::Unavailable(format!("{}: {reason}", self.name)))
    }
}

fn parse(text: &str) -> anyhow::Result<PgConnectOptions> {
    let url = Url::parse(text).context("the PostgreSQL URL is malformed")?;
    ensure!(
        ["postgres", "postgresql"].contains(&url.scheme()),
        "the PostgreSQL URL begins with {:?}, not with \"postgres\"",
        url.scheme()
    );
    for (name, _) in url.query_pairs() {
        if !PARAMETERS.contains(&&*name) && !name.starts_with("options[") {
            bail!(
                "the PostgreSQL URL has an unknown parameter {name:?}; there are {}",
                PARAMETERS.join(", ")
            );
        }
    }
    PgConnectOptions::from_str(text).context("the PostgreSQL URL is malformed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_urls_are_named_without_their_password() {
        for (url, wrong) in [
            ("postgres://u:hunter2@h:70000/d", "port"),
            ("mysql://u:hunter2@h/d", "mysql"),
            ("postgres://u:hunter2@h/d?sslmode=maybe", "maybe"),
            ("postgres://u:hunter2@h/d?pasword=hunter2", "pasword"),
            ("u:hunter2@h", "begins with \"u\""),
            ("", "malformed"),
        ] {
            let error = format!("{:#}", parse(url).expect_err(url));
            assert!(error.contains(wrong), "{url}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
