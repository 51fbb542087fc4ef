//! What the reports of `/admin/database` say beyond the two stores, one function per fact.

use serde_json::{Value, json};

use super::super::App;
use crate::recovery::health::StoreHealth;
use crate::store::clock::now_ms;

/// The strategy that was asked for.
pub(super) fn chosen(app: &App) -> Value {
    json!(app.strategies.choice())
}

/// Whether what the store says may be believed.
pub(super) fn trusted(store: &StoreHealth) -> bool {
    store.up
}

/// Every node that serves from these stores.
pub(super) fn nodes(app: &App) -> Vec<Value> {
    let active = app.strategies.active.enter();
    vec![json!({
        "node": app.node,
        "strategy": active.name,
        "generation": active.number,
        "digest": active.digest,
        "state": "in-force",
        "seen_ms_ago": 0,
        "mode": app.modes.mode(),
    })]
}

/// Usage events that only this node has.
pub(super) fn spool() -> Value {
    json!({ "events": 0, "bytes": 0 })
}

/// What has been carried over since the start, and per second since then.
pub(super) fn drain(app: &App) -> Value {
    let carried = app.records.carry.carried();
    let seconds = app.began.elapsed().as_secs_f64().max(1.0);
    json!({ "carried": carried, "per_second": (carried as f64 / seconds * 10.0).round() / 10.0 })
}

/// How long what this store owes has waited, as far as that can be told: since the other one went down.
pub(super) fn lag_ms(store: &StoreHealth, other: Option<&StoreHealth>) -> i64 {
    match other {
        Some(other) if !store.backlog.is_empty() && !other.up => (now_ms() - other.since).max(0),
        _ => 0,
    }
}
