//! `/admin/database`: the routes of Claude Relay Service, in its envelope, with true answers.
//!
//! # Layout
//! - `reports`: health, status, metrics
//! - `facts`: what the reports say beyond the stores

mod facts;
pub(super) mod reports;

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use jiff::Timestamp;
use serde_json::json;

use super::App;
use super::answer::json;
use super::error::{Problem, Result};
use super::strategies::{BY, undisturbed};
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
