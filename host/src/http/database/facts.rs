//! What the reports of `/admin/database` say beyond the two stores, one function per fact.

use serde_json::{Value, json};

use super::super::App;
use crate::recovery::health::StoreHealth;
use crate::store::clock::now_ms;

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

/// How long the oldest record has waited that this store owes.
pub(super) fn lag_ms(store: &StoreHealth) -> i64 {
    store.backlog.oldest_ms.map_or(0, |oldest| (now_ms() - oldest).max(0))
}
