//! An operation in the envelope of Claude Relay Service, with the fields that its routes had beside our own.

use axum::http::header::LOCATION;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::answer::json;
use super::super::error::{Problem, Result};
use crate::recovery::operations::{Operation, State, Task};
use crate::store::side::Which;

/// What a check that found something advises.
const ADVICE: [&str; 2] = [
    "POST /admin/database/consistency-fix says what a repair would do; with {\"dry_run\": false} it repairs by version",
    "counters of usage are not repaired: a sync takes over what the other store has counted",
];

/// 200 and a success when it is done; 202 and none yet, and where to follow it, while it runs.
///
/// # Errors
/// It has failed, or was cancelled.
pub(super) fn told(operation: &Operation) -> Result<Response> {
    let id = &operation.id;
    let (status, success) = match operation.state {
        State::Done => (StatusCode::OK, true),
        State::Running => (StatusCode::ACCEPTED, false),
        State::Failed => {
            let why = operation.error.as_deref().unwrap_or("for no known reason");
            let detail = format!("operation {id} failed: {why}");
            return Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "operation-failed", detail));
        }
        State::Cancelled => {
            let detail = format!("operation {id} was cancelled after {} records", operation.done);
            return Err(Problem::new(StatusCode::CONFLICT, "cancelled", detail));
        }
    };
    let data = data(operation);
    let answer = json!({ "success": success, "message": data["message"], "data": data, "timestamp": Timestamp::now() });
    let mut response = json(status, &answer, 2_048);
    if let (false, Ok(place)) = (success, HeaderValue::try_from(format!("/admin/operations/{id}"))) {
        response.headers_mut().insert(LOCATION, place);
    }
    Ok(response)
}

/// The operation, and what a script of that program looks for.
fn data(operation: &Operation) -> Value {
    let mut data = json!(operation);
    let older = match operation.task {
        Task::Sync { source, target } => synced(operation, source, target),
        Task::Check { .. } => checked(operation),
        Task::Fix { dry_run, .. } => repaired(operation, dry_run),
    };
    if let (Some(data), Value::Object(older)) = (data.as_object_mut(), older) {
        data.extend(older);
    }
    if operation.state == State::Running {
        let place = format!("it goes on; GET /admin/operations/{} says how far it is", operation.id);
        data["message"] = place.into();
    }
    data
}

/// A number of the report; 0 while there is none.
fn count(operation: &Operation, name: &str) -> u64 {
    operation.result[name].as_u64().unwrap_or(0)
}

fn synced(operation: &Operation, source: Which, target: Which) -> Value {
    let title = |which| if which == Which::Redis { "Redis" } else { "PostgreSQL" };
    let (synced, total) = (count(operation, "synced"), operation.total.unwrap_or(operation.done));
    let (from, to) = (title(source), title(target));
    json!({
        "synced": synced,
        "errors": count(operation, "skipped_total"),
        "message": format!("Synced {synced}/{total} records from {from} to {to}"),
    })
}

fn checked(operation: &Operation) -> Value {
    let consistent = &operation.result["consistent"];
    let (status, message, advice) = match operation.state == State::Done {
        false => ("running", String::new(), &ADVICE[..0]),
        true if *consistent == true => ("consistent", "Both stores hold the same".to_owned(), &ADVICE[..0]),
        true => {
            let differences = count(operation, "differences_total");
            let usage = operation.result["usage"]["differing_total"].as_u64().unwrap_or(0);
            let message = format!("{differences} records and {usage} counters differ");
            let advice = if usage > 0 { &ADVICE[..] } else { &ADVICE[..1] };
            ("inconsistent", message, advice)
        }
    };
    json!({
        "consistent": consistent,
        "counts": operation.result["counts"],
        "status": status,
        "recommendations": advice,
        "message": message,
    })
}

fn repaired(operation: &Operation, dry_run: bool) -> Value {
    let repaired = count(operation, "repaired_total");
    let left = operation.result["needs_person"].as_array().map_or(0, Vec::len);
    let (action, verb) = match (dry_run, repaired) {
        (_, 0) => ("none", "repaired"),
        (true, _) => ("dry-run", "would be repaired; {\"dry_run\": false} repairs them"),
        (false, _) => ("repaired", "repaired"),
    };
    json!({
        "consistent": operation.result["consistent"],
        "counts": operation.result["counts"],
        "action": action,
        "message": format!("{left} differences need a person; {repaired} {verb}"),
    })
}
