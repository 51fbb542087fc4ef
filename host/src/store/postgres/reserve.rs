//! A few connections for scans and for the host's own upkeep, so that neither waits for calls nor they for it.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sqlx::PgConnection;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::connection::Link;
use super::failure;
use crate::store::{Connections, Result, StoreError};

/// How many connections there are at most.
const CONNECTIONS: usize = 2;

/// The most calls that wait for one, or have one.
const QUEUE: usize = 1_024;

/// Connections that are opened when needed and lent to one call at a time.
pub(super) struct Reserve {
    link: Arc<Link>,
    queue: Semaphore,
    connections: Semaphore,
    idle: Mutex<Vec<PgConnection>>,
}

impl Reserve {
    pub(super) fn new(link: Arc<Link>) -> Self {
        let (queue, connections) = (Semaphore::new(QUEUE), Semaphore::new(CONNECTIONS));
        Self { link, queue, connections, idle: Mutex::default() }
    }

    pub(super) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    pub(super) fn deadline(&self) -> Duration {
        self.link.deadline
    }

    /// Closes the connections that nobody has; all others end with the call that they are lent to.
    pub(super) fn reconnect(&self) {
        self.link.begin_anew();
        self.idle.lock().clear();
    }

    /// Those that are open, and the calls that wait to be lent one.
    pub(super) fn connections(&self) -> Connections {
        let lent = CONNECTIONS - self.connections.available_permits();
        let asked = QUEUE - self.queue.available_permits();
        let idle = self.idle.lock().len();
        Connections { open: lent + idle, idle, waiting: asked.saturating_sub(lent) }
    }

    /// Lends a connection. Whoever drops the loan without ending it, as a call past its deadline does,
    /// closes the connection.
    pub(super) async fn lend(&self) -> Result<Loan<'_>> {
        let stopped = |_| StoreError::Unavailable("postgres is stopped".into());
        let place = self.queue.try_acquire().map_err(|_| StoreError::Overloaded)?;
        let permit = self.connections.acquire().await.map_err(stopped)?;
        let idle = self.idle.lock().pop();
        let era = self.link.era();
        let connection = match idle {
            Some(connection) => connection,
            None => self.link.open().await?,
        };
        Ok(Loan { reserve: self, connection, era, _places: [place, permit] })
    }
}

/// A connection on loan.
pub(super) struct Loan<'r> {
    reserve: &'r Reserve,
    connection: PgConnection,
    era: u64,
    _places: [SemaphorePermit<'r>; 2],
}

impl Loan<'_> {
    pub(super) fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// Gives the connection back, unless what happened on it forbids that, and says what it means.
    pub(super) fn end<T>(
        self,
        result: sqlx::Result<T>,
        meaning: fn(&sqlx::Error) -> StoreError,
    ) -> Result<T> {
        let result = result.map_err(|error| meaning(&error));
        match &result {
            Err(error) if !failure::spares_connection(error) => {
                // What ended this one has ended the others.
                self.reserve.idle.lock().clear();
            }
            _ if self.era != self.reserve.link.era() => {}
            _ => self.reserve.idle.lock().push(self.connection),
        }
        result
    }
}
