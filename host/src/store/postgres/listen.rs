//! Hears at once what the server announces: a connection of its own, made again for ever.

use std::sync::Arc;
use std::time::Duration;

use sqlx::Executor;
use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::sync::broadcast;
use tokio::time::{sleep, timeout};

use super::connection::{Backoff, Link};
use super::failure;
use super::schema::Gate;
use crate::store::{Result, StoreError};

/// What the triggers of the migrations announce on.
const CHANNEL: &str = "switchyard";

/// A connection that was silent for as long is asked whether it stands.
const SILENCE: Duration = Duration::from_secs(2);

/// How many notices may wait. Who falls behind loses the oldest, and is told so.
pub(super) const NOTICES: usize = 64;

/// Listens for ever, and passes on the payload of each notice. What is announced while there is no
/// connection is lost.
pub(super) async fn listen(link: Arc<Link>, gate: Gate, notices: broadcast::Sender<String>) {
    gate.opened().await;
    let mut backoff = Backoff::default();
    loop {
        match open(&link).await {
            Ok(listener) => {
                backoff = Backoff::default();
                // What changed before it listened is worth a look, too.
                pass(&notices, String::new());
                let error = hear(listener, link.deadline, &notices).await;
                tracing::debug!(%error, "no longer listening to PostgreSQL; connecting again");
            }
            Err(error) => tracing::debug!(%error, "not listening to PostgreSQL"),
        }
        sleep(backoff.next()).await;
    }
}

async fn open(link: &Link) -> Result<PgListener> {
    // The driver listens on a connection of a pool only; this one is the pool's only one.
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(link.deadline)
        .max_lifetime(None)
        .idle_timeout(None)
        .connect_lazy_with(link.options().clone());
    let opening = async {
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.eager_reconnect(false);
        listener.listen(CHANNEL).await?;
        Ok(listener)
    };
    let opened = timeout(link.deadline * 2, opening).await.unwrap_or(Err(sqlx::Error::PoolTimedOut));
    opened.map_err(|error: sqlx::Error| StoreError::Unavailable(failure::message(&error)))
}

/// Passes notices on until the connection is lost, or does not answer in time.
async fn hear(
    mut listener: PgListener,
    deadline: Duration,
    notices: &broadcast::Sender<String>,
) -> StoreError {
    let lost = || StoreError::Unavailable("the connection was lost".into());
    loop {
        match timeout(SILENCE, listener.try_recv()).await {
            Ok(Ok(Some(notice))) => pass(notices, notice.payload().to_owned()),
            Ok(Ok(None)) => return lost(),
            Ok(Err(error)) => return failure::of_read(&error),
            Err(_) => match timeout(deadline, (&mut listener).execute("select 1")).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return failure::of_read(&error),
                Err(_) => return StoreError::Timeout,
            },
        }
    }
}

fn pass(notices: &broadcast::Sender<String>, payload: String) {
    // Nobody may listen.
    let _ = notices.send(payload);
}
