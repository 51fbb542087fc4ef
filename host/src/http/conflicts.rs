//! `/admin/database/conflicts`: what was written in two stores without each other.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde_json::json;

use super::App;
use super::database::reports::enveloped;
use super::error::{Asked, Problem, Result};

/// The conflicts that are kept, newest first, and how many there are.
#[utoipa::path(
    get,
    path = "/admin/database/conflicts",
    tag = "Database",
    responses((status = 200, description = "What was kept, and what was dropped for it", body = serde_json::Value)),
)]
pub(super) async fn list(State(app): State<Arc<App>>) -> Result<Response> {
    let conflicts = app.conflicts.list().await.map_err(|error| Problem::store(error, Asked::Read))?;
    Ok(enveloped(&json!({ "total": conflicts.len(), "conflicts": conflicts })))
}
