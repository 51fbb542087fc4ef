//! `/admin/database`: the routes of Claude Relay Service, in its envelope, with true answers.
//!
//! # Layout
//! - `reports`: health, status, metrics
//! - `facts`: what the reports say beyond the stores
//! - `upkeep`: the cache and the connections

mod facts;
pub(super) mod reports;
pub(super) mod upkeep;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use jiff::Timestamp;
use serde_json::json;

use super::App;
use super::answer::json;
use super::error::{Problem, Result};
use super::nodes::settled;
use super::strategies::{BY, undisturbed, wish};
use crate::strategy::catalogue::BUILT_IN;

/// Switches to the newest version of a strategy that comes with the host; its name has hyphens here.
#[utoipa::path(
    post,
    path = "/admin/database/strategy/{name}",
    tag = "Database",
    params(("name" = String, Path, description = "dual-write, cache-first, database-first, redis-only or postgres-only")),
    request_body(content = inline(Option<super::strategies::Activation>)),
    responses((status = 200, description = "The switch, and how far each node is", body = super::openapi::shapes::Details)),
)]
pub(super) async fn switch(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response> {
    let asked = path.map(|Path(name)| name).unwrap_or_default();
    let hyphenated = |name: &str| name.replace('_', "-");
    let Some(name) = BUILT_IN.iter().map(|(name, _)| *name).find(|name| hyphenated(name) == asked) else {
        let names: Vec<_> = BUILT_IN.iter().map(|(name, _)| hyphenated(name)).collect();
        let detail = format!("the strategies here are {}", names.join(", "));
        return Err(Problem::new(StatusCode::NOT_FOUND, "unknown-strategy", detail));
    };
    let (strategies, wish) = (app.strategies.clone(), wish(&headers, body).await?);
    let switched = undisturbed(async move {
        strategies.activate(name, wish, BY, "asked for at /admin/database/strategy").await
    });
    let switched = switched.await?;
    let nodes = settled(&app, &switched.chosen).await?;
    let message = match (&switched.in_force.cause, switched.switched) {
        (Some(cause), _) => format!("{name} is chosen; {} is in force: {cause}", switched.in_force.name),
        (None, true) => format!("{name} has taken over from {}", switched.from),
        (None, false) => format!("{name} was active already"),
    };
    let answer = json!({
        "success": true,
        "message": message,
        "newStrategy": name,
        "generation": switched.generation,
        "chosen": switched.chosen,
        "in_force": switched.in_force,
        "pinned": switched.pinned,
        "nodes": nodes,
        "timestamp": Timestamp::now(),
    });
    Ok(json(StatusCode::OK, &answer, 512))
}

/// Lets what is in force change by itself again when a store is lost or back.
#[utoipa::path(
    delete,
    path = "/admin/database/pin",
    tag = "Database",
    responses((status = 200, description = "What is chosen", body = super::answer::Enveloped<super::openapi::shapes::Details>)),
)]
pub(super) async fn unpin(State(app): State<Arc<App>>) -> Result<Response> {
    let strategies = app.strategies.clone();
    undisturbed(async move { strategies.unpin(BY).await }).await?;
    let (chosen, in_force) = (app.strategies.choice(), app.strategies.in_force());
    let data = json!({ "chosen": chosen, "in_force": in_force, "pinned": chosen.pinned });
    Ok(reports::enveloped(&data))
}
