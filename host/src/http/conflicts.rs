//! `/admin/database/conflicts`: what was written in two stores without each other.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;

use super::App;
use super::answer::Enveloped;
use super::database::reports::enveloped;
use super::error::{Asked, Problem, Result};
use super::openapi::shapes::Details;

/// How many a page has unless asked otherwise, and at most: each may have a whole record.
const PAGE: (usize, usize) = (100, 250);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asking {
    cursor: Option<String>,
    limit: Option<usize>,
}

/// The conflicts that are kept, a page of them, the newest first, and how many there are.
#[utoipa::path(
    get,
    path = "/admin/database/conflicts",
    tag = "Database",
    params(
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
        ("limit" = Option<u32>, Query, description = "Conflicts a page: 100 unless asked otherwise, at most 250"),
    ),
    responses((status = 200, description = "What was kept, and what was dropped for it", body = Enveloped<Details>)),
)]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    asking: Result<Query<Asking>, QueryRejection>,
) -> Result<Response> {
    let Query(asking) = asking.map_err(|error| Problem::bad("invalid-query", error.body_text()))?;
    let limit = asking.limit.unwrap_or(PAGE.0);
    if !(1..=PAGE.1).contains(&limit) {
        return Err(Problem::bad("invalid-query", format!("limit is 1 to {}", PAGE.1)));
    }
    let listed = app.conflicts.list(asking.cursor.as_deref(), limit).await;
    let listed = listed.map_err(|error| Problem::store(error, Asked::Read))?;
    Ok(enveloped(&json!(listed)))
}
