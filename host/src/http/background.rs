//! Long work of an admin: sync, check, repair; how it goes, and how it is ended.
//!
//! # Layout
//! - `told`: an operation as a route of Claude Relay Service answers it

mod told;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::{Stream, stream};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;

use super::answer::{Enveloped, json};
use super::error::{Asked, Problem, Result};
use super::openapi::shapes::Details;
use super::{App, body};
use crate::recovery::operations::{Operation, Refused, State as Stands, Task};
use crate::store::StoreError;
use crate::store::side::Which;

/// How long a request waits for the work it asked for.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two events of a stream.
const EVENT_EVERY: Duration = Duration::from_millis(250);
/// How many streams of events there may be at once.
pub(super) const STREAMS: usize = 64;

#[derive(Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Depth {
    deep: Option<bool>,
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Repair {
    dry_run: Option<bool>,
    deep: Option<bool>,
}

/// Copies everything from one store into the other, by version.
#[utoipa::path(
    post,
    path = "/admin/database/sync/{pair}",
    tag = "Database",
    params(("pair" = String, Path, description = "redis-to-postgres or postgres-to-redis")),
    responses((status = 200, description = "The operation, which has ended", body = Enveloped<Details>), (status = 202, description = "It goes on; its place is in the location header", body = Enveloped<Details>)),
)]
pub(super) async fn sync(
    State(app): State<Arc<App>>,
    pair: Result<Path<String>, PathRejection>,
) -> Result<Response> {
    let pair = pair.map(|Path(pair)| pair).unwrap_or_default();
    let (source, target) = match pair.as_str() {
        "redis-to-postgres" => (Which::Redis, Which::Postgres),
        "postgres-to-redis" => (Which::Postgres, Which::Redis),
        "redis-to-redis" | "postgres-to-postgres" => {
            let detail =
                "a store is not copied into itself; there are redis-to-postgres and postgres-to-redis";
            return Err(Problem::bad("same-store", detail));
        }
        _ => {
            let detail = "a sync is redis-to-postgres or postgres-to-redis";
            return Err(Problem::bad("unknown-pair", detail));
        }
    };
    begin(app, Task::Sync { source, target }).await
}

/// Compares what both stores hold.
#[utoipa::path(
    get,
    path = "/admin/database/consistency-check",
    tag = "Database",
    params(Depth),
    responses((status = 200, description = "The operation, which has ended", body = Enveloped<Details>), (status = 202, description = "It goes on; its place is in the location header", body = Enveloped<Details>)),
)]
pub(super) async fn check(
    State(app): State<Arc<App>>,
    depth: Result<Query<Depth>, QueryRejection>,
) -> Result<Response> {
    let malformed = |_| Problem::bad("invalid-query", "the only parameter here is deep=true or deep=false");
    let Query(depth) = depth.map_err(malformed)?;
    begin(app, Task::Check { deep: depth.deep.unwrap_or(false) }).await
}

/// A dry run unless the body says otherwise.
#[utoipa::path(
    post,
    path = "/admin/database/consistency-fix",
    tag = "Database",
    request_body(content = inline(Option<Repair>)),
    responses((status = 200, description = "The operation, which has ended", body = Enveloped<Details>), (status = 202, description = "It goes on; its place is in the location header", body = Enveloped<Details>)),
)]
pub(super) async fn repair(State(app): State<Arc<App>>, body: Body) -> Result<Response> {
    let bytes = body::read(body, body::MAX_BODY, body::WHOLE).await?;
    let asked = match bytes.is_empty() {
        true => Repair { dry_run: None, deep: None },
        false => body::parse(&bytes)?,
    };
    let (deep, dry_run) = (asked.deep.unwrap_or(false), asked.dry_run.unwrap_or(true));
    begin(app, Task::Fix { deep, dry_run }).await
}

/// Begins an operation; answers it when it ends soon, and where to follow it otherwise.
async fn begin(app: Arc<App>, task: Task) -> Result<Response> {
    let operations = app.operations.clone();
    // Half a beginning would hold the lease: it ends even when the client goes away.
    let begun = tokio::spawn(async move { operations.start(task).await }).await;
    let interrupted = |_| Problem::passing("busy", "the server is ending");
    let operation = begun.map_err(interrupted)?.map_err(refusal)?;
    let operation = app.operations.wait(&operation.id, PATIENCE).await.unwrap_or(operation);
    told::told(&operation)
}

fn refusal(refused: Refused) -> Problem {
    let detail = refused.to_string();
    match refused {
        Refused::Running(_) => Problem::new(StatusCode::CONFLICT, "operation-running", detail),
        Refused::Off(_) => Problem::new(StatusCode::CONFLICT, "store-off", detail),
        Refused::Store(error) => Problem::store(error, Asked::Read),
    }
}

/// The long operations that are remembered.
#[utoipa::path(
    get,
    path = "/admin/operations",
    tag = "Operations of long work",
    responses((status = 200, description = "The operations, newest first", body = Details)),
)]
pub(super) async fn list(State(app): State<Arc<App>>) -> Result<Response> {
    let operations = app.operations.list().await.map_err(unreachable)?;
    Ok(json(StatusCode::OK, &json!({ "operations": operations }), 4_096))
}

/// How far an operation is.
#[utoipa::path(
    get,
    path = "/admin/operations/{id}",
    tag = "Operations of long work",
    params(("id" = String, Path, description = "Its id")),
    responses((status = 200, description = "The operation", body = Details)),
)]
pub(super) async fn get(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response> {
    let id = id.map(|Path(id)| id).unwrap_or_default();
    let operation = app.operations.get(&id).await.map_err(unreachable)?.ok_or_else(unknown)?;
    Ok(json(StatusCode::OK, &operation, 1_024))
}

/// Cancels an operation.
#[utoipa::path(
    delete,
    path = "/admin/operations/{id}",
    tag = "Operations of long work",
    params(("id" = String, Path, description = "Its id")),
    responses((status = 200, description = "The operation, which ends soon", body = Details)),
)]
pub(super) async fn cancel(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response> {
    let id = id.map(|Path(id)| id).unwrap_or_default();
    let operation = app.operations.cancel(&id).await.map_err(unreachable)?.ok_or_else(unknown)?;
    Ok(json(StatusCode::OK, &operation, 1_024))
}

/// A stream of server-sent events: `progress` at most every 250 ms when something changed, and `end` last.
#[utoipa::path(
    get,
    path = "/admin/operations/{id}/events",
    tag = "Operations of long work",
    params(("id" = String, Path, description = "Its id")),
    responses((status = 200, description = "Server-sent events", body = String, content_type = "text/event-stream")),
)]
pub(super) async fn events(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response> {
    let id = id.map(|Path(id)| id).unwrap_or_default();
    let busy =
        |_| Problem::passing("too-many-streams", "too many operations are being followed; ask again later");
    let permit = app.streams.clone().try_acquire_owned().map_err(busy)?;
    app.operations.get(&id).await.map_err(unreachable)?.ok_or_else(unknown)?;
    let follower = Follower { app, id, first: true, last: None, ended: false, _permit: permit };
    Ok(Sse::new(follow(follower)).keep_alive(KeepAlive::default()).into_response())
}

struct Follower {
    app: Arc<App>,
    id: String,
    first: bool,
    last: Option<Operation>,
    ended: bool,
    _permit: OwnedSemaphorePermit,
}

fn follow(follower: Follower) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold(follower, async |mut follower| {
        loop {
            if follower.ended || follower.app.ending.is_cancelled() {
                return None;
            }
            if !std::mem::take(&mut follower.first) {
                tokio::time::sleep(EVENT_EVERY).await;
            }
            let now = match follower.app.operations.get(&follower.id).await {
                Ok(Some(now)) if follower.last.as_ref() != Some(&now) => now,
                Ok(None) => return None,
                // A store that is silent ends nothing: the operation may go on.
                Ok(Some(_)) | Err(_) => continue,
            };
            follower.ended = now.state != Stands::Running;
            let name = if follower.ended { "end" } else { "progress" };
            let event = Event::default().event(name).data(json!(now).to_string());
            follower.last = Some(now);
            return Some((Ok(event), follower));
        }
    })
}

fn unknown() -> Problem {
    let detail = "there is no such operation, or it was one of the last hundred no longer";
    Problem::new(StatusCode::NOT_FOUND, "unknown-operation", detail)
}

fn unreachable(error: StoreError) -> Problem {
    Problem::store(error, Asked::Read)
}
