//! `/admin/database`: the routes of Claude Relay Service, in its envelope, with true answers.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::answer::json;
use super::error::{Problem, Result};
use super::strategies::{BY, active, undisturbed};
use super::{App, operations};
use crate::strategy::catalogue::BUILT_IN;

/// Switches to the newest version of a strategy that comes with the host; its name has hyphens here.
pub(super) async fn switch(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response> {
    let asked = path.map(|Path(name)| name).unwrap_or_default();
    let hyphenated = |name: &str| name.replace('_', "-");
    let Some(name) = BUILT_IN.iter().map(|(name, _)| *name).find(|name| hyphenated(name) == asked) else {
        let names: Vec<_> = BUILT_IN.iter().map(|(name, _)| hyphenated(name)).collect();
        let detail = format!("the strategies here are {}", names.join(", "));
        return Err(Problem::new(StatusCode::NOT_FOUND, "unknown-strategy", detail));
    };
    let strategies = app.strategies.clone();
    let switched = undisturbed(async move {
        strategies.activate(name, None, None, BY, "asked for at /admin/database/strategy").await
    });
    let switched = switched.await?;
    let message = match switched.switched {
        true => format!("{name} has taken over from {}", switched.from),
        false => format!("{name} was active already"),
    };
    let answer = json!({
        "success": true,
        "message": message,
        "newStrategy": name,
        "generation": switched.generation,
        "timestamp": Timestamp::now(),
    });
    Ok(json(StatusCode::OK, &answer, 256))
}

pub(super) async fn health(State(app): State<Arc<App>>) -> Response {
    enveloped(&health_of(&app))
}

pub(super) async fn status(State(app): State<Arc<App>>) -> Response {
    let active = active(&app.strategies);
    enveloped(&json!({
        "health": health_of(&app),
        "strategy": active["name"],
        "generation": active["generation"],
        "digest": active["digest"],
        "stores": app.health.stores(),
        "initialized": true,
    }))
}

fn health_of(app: &App) -> Value {
    let active = app.strategies.active.enter();
    let stores = app.health.stores();
    let status = match operations::is_ready(app) {
        false => "unhealthy",
        true if stores.iter().all(|store| store.up) => "healthy",
        true => "degraded",
    };
    let databases: Map<_, _> = stores.iter().map(|store| (store.store.to_owned(), json!(store))).collect();
    json!({
        "status": status,
        "databases": databases,
        "strategy": active.name,
        "generation": active.number,
        "initialized": true,
    })
}

fn enveloped(data: &Value) -> Response {
    json(StatusCode::OK, &json!({ "success": true, "data": data, "timestamp": Timestamp::now() }), 1_024)
}
