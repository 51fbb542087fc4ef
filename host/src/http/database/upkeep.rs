//! The routes that change nothing but what is kept in between: the cache, and the connections.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::answer::json;
use super::super::error::{Asked, Problem, Result};
use super::super::{App, body};
use super::reports;
use crate::recovery::clear;
use crate::recovery::health::StoreHealth;
use crate::store::StoreError;

/// How long a closed store may take to be up again.
const RECONNECTING: Duration = Duration::from_secs(2);
const PROBE_AGAIN: Duration = Duration::from_millis(50);
/// The longest pattern of keys, in bytes.
const LONGEST_PATTERN: usize = 1_024;

/// Which copies to clear: all, or those whose key in Redis matches.
#[derive(Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Clearing {
    /// Such as `session:*`.
    pattern: Option<String>,
}

/// Clears what are copies, and never the only copy of anything.
#[utoipa::path(
    post,
    path = "/admin/database/cache/clear",
    tag = "Database",
    request_body(content = inline(Option<Clearing>)),
    responses((status = 200, description = "How many copies were cleared", body = serde_json::Value)),
)]
pub(in super::super) async fn clear_cache(State(app): State<Arc<App>>, body: Body) -> Result<Response> {
    let bytes = body::read(body, body::MAX_BODY, body::WHOLE).await?;
    let Clearing { pattern } = match bytes.trim_ascii() {
        b"" => Clearing::default(),
        json => body::parse(json)?,
    };
    let pattern = pattern.filter(|pattern| !pattern.is_empty());
    if pattern.as_ref().is_some_and(|pattern| pattern.len() > LONGEST_PATTERN) {
        let detail = format!("a pattern has at most {LONGEST_PATTERN} bytes");
        return Err(Problem::bad("invalid-pattern", detail));
    }
    let (sides, reads) = (app.records.sides.clone(), app.strategies.active.enter().needs.postgres);
    let cleared = clear::clear(&sides, reads, pattern.as_deref()).await.map_err(unreachable)?;
    Ok(enveloped(&json!(cleared)))
}

/// Closes every connection to both stores and waits until they are up, and believed, again.
#[utoipa::path(
    post,
    path = "/admin/database/reconnect",
    tag = "Database",
    responses((status = 200, description = "How the stores are now", body = serde_json::Value)),
)]
pub(in super::super) async fn reconnect(State(app): State<Arc<App>>) -> Result<Response> {
    let sides = &app.records.sides;
    for side in [&sides.redis, &sides.postgres].into_iter().flatten() {
        side.backend.reconnect().await.map_err(unreachable)?;
    }
    let up = async {
        loop {
            app.health.probe().await;
            if app.health.stores().iter().all(StoreHealth::is_sound) {
                return;
            }
            tokio::time::sleep(PROBE_AGAIN).await;
        }
    };
    let message = match tokio::time::timeout(RECONNECTING, up).await {
        Ok(()) => "every connection was closed and opened anew",
        Err(_) => "every connection was closed; not every store is up again yet, and connecting goes on",
    };
    let health: Value = reports::health_of(&app);
    Ok(enveloped(&json!({ "health": health, "message": message })))
}

fn unreachable(error: StoreError) -> Problem {
    Problem::store(error, Asked::Read)
}

/// The fields stand where Claude Relay Service had them, and in `data` as everywhere else.
fn enveloped(data: &Value) -> Response {
    let mut answer = json!({ "success": true, "data": data, "timestamp": Timestamp::now() });
    if let (Some(answer), Some(data)) = (answer.as_object_mut(), data.as_object()) {
        answer.extend(data.clone());
    }
    json(StatusCode::OK, &answer, 2_048)
}
