//! What the reports of `/admin/database` say beyond the two stores, one function per fact.

use serde_json::{Value, json};

use super::super::App;
use crate::recovery::health::StoreHealth;
use crate::store::clock::now_ms;
use crate::store::side::Which;

/// The strategy that was asked for.
pub(super) fn chosen(app: &App) -> Value {
    json!(app.strategies.choice())
}

/// Every node that serves from these stores.
pub(super) fn nodes(app: &App) -> Value {
    json!(app.cluster.nodes())
}

/// Usage events that only this node has.
pub(super) fn spool(app: &App) -> Value {
    json!(app.spool.spooled())
}

/// What has been carried over since the start, and per second just now.
pub(super) fn drain(app: &App) -> Value {
    json!(app.drain.figures())
}

/// Records that a store refuses, whatever it is asked, as far as this node knows: it does not answer for them.
pub(super) fn refused(app: &App) -> Value {
    json!(app.drain.waiting())
}

/// How long the oldest record has waited that this store owes.
pub(super) fn lag_ms(store: &StoreHealth) -> i64 {
    store.backlog.oldest_ms.map_or(0, |oldest| (now_ms() - oldest).max(0))
}

/// The connections to each store. Redis is spoken to over one, and an embedded store over none.
pub(super) fn connections(app: &App, stores: &[StoreHealth]) -> Value {
    let connected = |which: Which| stores.iter().any(|store| store.store == which.name() && store.up);
    let postgres = app.records.sides.postgres.as_ref().and_then(|side| side.backend.connections());
    let postgres = postgres.unwrap_or_default();
    json!({
        "redis": { "connected": connected(Which::Redis) },
        "postgres": {
            "connected": connected(Which::Postgres),
            "totalCount": postgres.open,
            "idleCount": postgres.idle,
            "waitingCount": postgres.waiting,
        },
    })
}
