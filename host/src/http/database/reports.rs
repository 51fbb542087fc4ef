//! Health, status and metrics of the stores. Answered from memory: no store is asked.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::super::answer::{Enveloped, json};
use super::super::openapi::shapes::Details;
use super::super::strategies::active;
use super::super::{App, operations};
use super::facts;
use crate::recovery::health::StoreHealth;
use crate::store::side::{Side, Which};
use crate::telemetry::Operation;

/// How the stores are.
#[utoipa::path(
    get,
    path = "/admin/database/health",
    tag = "Database",
    responses((status = 200, description = "Whether each store takes reads and writes, and what is owed to it", body = Enveloped<Details>)),
)]
pub(in super::super) async fn health(State(app): State<Arc<App>>) -> Response {
    enveloped(&health_of(&app))
}

/// How the whole is: mode, strategy, nodes, stores.
#[utoipa::path(
    get,
    path = "/admin/database/status",
    tag = "Database",
    responses((status = 200, description = "The mode, what is chosen and in force, the nodes, the stores", body = Enveloped<Details>)),
)]
pub(in super::super) async fn status(State(app): State<Arc<App>>) -> Response {
    let (active, stores) = (active(&app.strategies), app.health.stores());
    let modes = app.modes.status();
    enveloped(&json!({
        "health": health_of(&app),
        "mode": modes.mode,
        "chosen": facts::chosen(&app),
        "active": active,
        "strategy": active["name"],
        "generation": active["generation"],
        "digest": active["digest"],
        "cause": app.strategies.in_force().cause.or(modes.cause),
        "since": modes.since,
        "transitions": modes.transitions,
        "node": app.node,
        "nodes": facts::nodes(&app),
        "connectionPools": facts::connections(&app, &stores),
        "stores": stores,
        "spool": facts::spool(&app),
        "refused": facts::refused(&app),
        "initialized": true,
    }))
}

/// Figures of the stores.
#[utoipa::path(
    get,
    path = "/admin/database/metrics",
    tag = "Database",
    responses((status = 200, description = "Calls, errors and latencies of each store and operation", body = Enveloped<Details>)),
)]
pub(in super::super) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let (active, stores) = (app.strategies.active.enter(), app.health.stores());
    let figures =
        stores.iter().filter_map(|store| Some((store.store.to_owned(), figures(side(&app, store)?, store))));
    let sides = &app.records.sides;
    let near = sides.redis.as_ref().map(|side| side.backend.near_cache()).unwrap_or_default();
    enveloped(&json!({
        "uptime_s": app.began.elapsed().as_secs(),
        "strategy": active.name,
        "chosen": facts::chosen(&app)["name"],
        "generation": active.number,
        "mode": app.modes.mode(),
        "stores": figures.collect::<Map<_, _>>(),
        "near_cache": {
            "hits": near.hits,
            "misses": near.misses,
            "hit_rate": rate(near.hits, near.hits + near.misses),
        },
        "requests": app.requests.totals(),
        "spool": facts::spool(&app),
        "drain": facts::drain(&app),
    }))
}

fn side<'a>(app: &'a App, store: &StoreHealth) -> Option<&'a Arc<Side>> {
    let sides = [&app.records.sides.redis, &app.records.sides.postgres];
    sides.into_iter().flatten().find(|side| side.which.name() == store.store)
}

/// One store since the start.
fn figures(side: &Side, store: &StoreHealth) -> Value {
    let of = |operation: Operation| (operation.name().to_owned(), side.metrics().calls(operation));
    let operations = Operation::ALL.map(of);
    let calls: u64 = operations.iter().map(|(_, of)| of.calls).sum();
    let errors: u64 = operations.iter().map(|(_, of)| of.errors).sum();
    let (found, lookups) = side.metrics().hits();
    json!({
        "backend": store.backend,
        "up": store.up,
        "breaker": { "reads": store.reads, "writes": store.writes, "since": store.since, "reason": store.error },
        "hit_rate": rate(found, lookups),
        "error_rate": rate(errors, calls),
        "calls": calls,
        "errors": errors,
        "backlog": store.backlog,
        "lag_ms": facts::lag_ms(store),
        "operations": operations.into_iter().map(|(name, of)| (name, json!(of))).collect::<Map<_, _>>(),
    })
}

/// Part of a whole, 0 of nothing.
fn rate(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

pub(in super::super) fn health_of(app: &App) -> Value {
    let active = app.strategies.active.enter();
    let stores = app.health.stores();
    let is_up = |which: Which| stores.iter().any(|store| store.store == which.name() && store.up);
    json!({
        "status": operations::status(app, &stores),
        "databases": { "redis": is_up(Which::Redis), "postgres": is_up(Which::Postgres) },
        "stores": stores,
        "strategy": active.name,
        "generation": active.number,
        "stats": stats(app),
        "clock": app.cluster.clock(),
        "initialized": true,
        "syncEnabled": app.sync_enabled,
    })
}

/// The counters that Claude Relay Service had.
fn stats(app: &App) -> Value {
    let sides = &app.records.sides;
    let calls = |which: Which, operation: Operation| {
        let side = sides.side(which).ok();
        side.map(|side| side.metrics().calls(operation))
    };
    let all = |which| Operation::ALL.into_iter().filter_map(move |operation| calls(which, operation));
    let (hits, lookups) = sides.redis.as_ref().map_or((0, 0), |side| side.metrics().hits());
    let sets = calls(Which::Redis, Operation::Put);
    json!({
        "redisHits": hits,
        "redisMisses": lookups.saturating_sub(hits),
        "postgresQueries": all(Which::Postgres).map(|of| of.calls).sum::<u64>(),
        "cacheSets": sets.map_or(0, |of| of.calls.saturating_sub(of.errors)),
        "errors": all(Which::Redis).chain(all(Which::Postgres)).map(|of| of.errors).sum::<u64>(),
    })
}

pub(in super::super) fn enveloped(data: &Value) -> Response {
    json(StatusCode::OK, &Enveloped::new(data), 1_024)
}
