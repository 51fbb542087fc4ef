//! Usage of the store API.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::answer::json;
use super::error::{Asked, Problem, Result};
use super::openapi::shapes::KeyUsage;
use super::{App, body, edge};
use crate::store::kind::{API_KEY, USAGE};
use crate::store::usage::COUNTERS;
use crate::store::{Expect, Key, Window};

mod event;

/// How many events a batch may have.
const MAX_EVENTS: usize = 1_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch {
    events: Vec<Value>,
}

/// What came of a batch.
#[derive(Serialize, utoipa::ToSchema)]
struct Counted {
    recorded: u64,
    duplicates: u64,
    durability: &'static str,
}

/// Counts events, each once however often it is sent.
#[utoipa::path(
    post,
    path = "/store/v1/usage",
    tag = "Store",
    request_body(content = serde_json::Value, description = "Up to 1,000 events", example = json!({"events": [{"id": "e1", "key_id": "k1", "model": "claude", "at": "2026-01-31T12:00:00Z", "input_tokens": 7}]})),
    responses((status = 200, description = "How many were new, how many duplicates, and what the acknowledgement is worth", body = Counted)),
)]
pub(super) async fn add(State(app): State<Arc<App>>, batch: Body) -> Result<Response> {
    let Batch { events } = body::json(batch).await?;
    if events.is_empty() || events.len() > MAX_EVENTS {
        let detail = format!("a batch has 1 to {MAX_EVENTS} events; this one has {}", events.len());
        return Err(Problem::bad("invalid-batch", detail));
    }
    let parsed: Result<Vec<_>> =
        events.into_iter().enumerate().map(|(index, event)| event::parse(index, event)).collect();
    let written = app.records.add(parsed?).await;
    let written = written.map_err(|error| Problem::store(error, Asked::Write(Expect::Anything)))?;
    let (value, durability) = (written.value, written.durability);
    let counted = Counted { recorded: value.recorded, duplicates: value.duplicates, durability };
    let mut response = json(StatusCode::OK, &counted, 80);
    edge::label(&mut response, &written.generation);
    Ok(response)
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Asking {
    window: Option<String>,
}

/// What a key has used in a window; zeros when nothing.
#[utoipa::path(
    get,
    path = "/store/v1/usage/{key_id}",
    tag = "Store",
    params(("key_id" = String, Path, description = "Id of the API key"), Asking),
    responses((status = 200, description = "The counters", body = KeyUsage)),
)]
pub(super) async fn get(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    asking: Result<Query<Asking>, QueryRejection>,
) -> Result<Response> {
    let Path(key_id) = path.map_err(|_| Problem::bad("invalid-id", "an id is UTF-8, percent-encoded"))?;
    let Query(asking) = asking.map_err(|error| Problem::bad("invalid-query", error.body_text()))?;
    let window = asking.window.as_deref().unwrap_or("total");
    let window = Window::parse(window).ok_or_else(|| {
        let detail =
            "a window is total, monthly:YYYY-MM, weekly:YYYY-Www, daily:YYYY-MM-DD or hourly:YYYY-MM-DDTHH";
        Problem::bad("invalid-window", detail)
    })?;
    Key::new(&API_KEY, &key_id)?;
    let key = Key::new(&USAGE, &format!("{key_id}:{window}"))?;
    let read = app.records.get(&key).await.map_err(|error| Problem::store(error, Asked::Read))?;
    let count = |name: &str| -> u64 {
        let field = read.value.as_ref().and_then(|record| record.fields.get(name));
        field.and_then(|count| count.parse().ok()).unwrap_or(0)
    };
    let mut totals = Map::new();
    totals.insert("key_id".into(), key_id.into());
    totals.insert("window".into(), window.to_string().into());
    totals.extend(COUNTERS.iter().map(|name| ((*name).to_owned(), count(name).into())));
    let mut response = json(StatusCode::OK, &totals, 320);
    edge::label_read(&mut response, &read);
    Ok(response)
}
