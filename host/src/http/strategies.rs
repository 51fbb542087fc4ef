//! `/admin/strategies`: versions of strategies, and which one is active.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::answer::json;
use super::error::{Problem, Result};
use super::nodes::{OnNodes, settled};
use super::openapi::shapes::{StrategyEvents, StrategyList};
use super::{App, body, precondition};
use crate::engine::Digest;
use crate::strategy::activation::Wish;
use crate::strategy::{Strategies, StrategyError};

pub(super) mod upload;

/// Who acts, in the list of events.
pub(super) const BY: &str = "admin";

type Named = Result<Path<String>, PathRejection>;

/// Every strategy, what is chosen, and what is in force.
#[utoipa::path(
    get,
    path = "/admin/strategies",
    tag = "Strategies",
    responses((status = 200, description = "Every strategy with its versions, what is chosen and what is in force", body = StrategyList)),
)]
pub(super) async fn list(State(app): State<Arc<App>>) -> Result<Response> {
    let (active, chosen) = (active(&app.strategies), app.strategies.choice());
    let in_force = app.strategies.in_force();
    let watcher = app.watcher.as_ref().map(|status| status.lock().clone());
    // What is active, and the watcher, are known without the catalogue.
    let (strategies, error) = match app.strategies.list().await {
        Ok(strategies) => (Some(strategies), None),
        Err(StrategyError::Store(error)) => (None, Some(format!("the catalogue cannot be reached: {error}"))),
        Err(error) => return Err(error.into()),
    };
    let (watched, cause) = (watcher, in_force.cause);
    Ok(ok(&json!({
        "strategies": strategies,
        "chosen": chosen,
        "active": active,
        "cause": cause,
        "watcher": watched,
        "error": error,
    })))
}

/// One strategy and its versions.
#[utoipa::path(
    get,
    path = "/admin/strategies/{name}",
    tag = "Strategies",
    params(("name" = String, Path, description = "Name of the strategy")),
    responses((status = 200, description = "Its versions, newest first", body = crate::strategy::Listed)),
)]
pub(super) async fn get(State(app): State<Arc<App>>, name: Named) -> Result<Response> {
    Ok(ok(&app.strategies.get(&path(name)?).await?))
}

/// How a strategy is to be activated. No body means: the newest version, not pinned.
#[derive(Deserialize, Default, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Activation {
    digest: Option<String>,
    #[serde(default)]
    pin: bool,
    #[serde(default)]
    force: bool,
}

/// Reads the body of a switch, and its precondition.
pub(super) async fn wish(headers: &HeaderMap, body: Body) -> Result<Wish> {
    let if_match = precondition::if_match(headers)?;
    let bytes = body::read(body, body::MAX_BODY, body::WHOLE).await?;
    let Activation { digest, pin, force } = match bytes.trim_ascii() {
        b"" => Activation::default(),
        json => body::parse(json)?,
    };
    let digest = digest.map(|digest| parse_digest(&digest)).transpose()?;
    Ok(Wish { digest, if_match, pin, force })
}

/// Makes a version active: the newest, or the one the body names.
#[utoipa::path(
    post,
    path = "/admin/strategies/{name}/activate",
    tag = "Strategies",
    params(("name" = String, Path, description = "Name of the strategy"), ("if-match" = Option<String>, Header, description = "The generation that is to be replaced")),
    request_body(content = inline(Option<Activation>)),
    responses((status = 200, description = "The switch, and how far each node is", body = OnNodes<crate::strategy::switch::Switched>)),
)]
pub(super) async fn activate(
    State(app): State<Arc<App>>,
    name: Named,
    headers: HeaderMap,
    body: Body,
) -> Result<Response> {
    let (name, wish) = (path(name)?, wish(&headers, body).await?);
    let strategies = app.strategies.clone();
    let report = undisturbed(async move { strategies.activate(&name, wish, BY, "asked for").await }).await?;
    let nodes = settled(&app, &report.chosen).await?;
    Ok(ok(&OnNodes { report, nodes }))
}

/// Activates what was active before.
#[utoipa::path(
    post,
    path = "/admin/strategies/rollback",
    tag = "Strategies",
    responses((status = 200, description = "The switch, and how far each node is", body = OnNodes<crate::strategy::switch::Switched>)),
)]
pub(super) async fn rollback(State(app): State<Arc<App>>) -> Result<Response> {
    let strategies = app.strategies.clone();
    let report = undisturbed(async move { strategies.rollback(BY).await }).await?;
    let nodes = settled(&app, &report.chosen).await?;
    Ok(ok(&OnNodes { report, nodes }))
}

/// Removes a version that is not in use.
#[utoipa::path(
    delete,
    path = "/admin/strategies/{name}/versions/{digest}",
    tag = "Strategies",
    params(("name" = String, Path, description = "Name of the strategy"), ("digest" = String, Path, description = "SHA-256 of the component, in hex")),
    responses((status = 204, description = "It is gone")),
)]
pub(super) async fn delete(
    State(app): State<Arc<App>>,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<StatusCode> {
    let Path((name, digest)) = path.map_err(|_| not_utf8())?;
    let digest = parse_digest(&digest)?;
    let strategies = app.strategies.clone();
    undisturbed(async move { strategies.delete(&name, &digest, BY).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Latest {
    limit: Option<usize>,
}

/// What happened on all nodes, newest first.
#[utoipa::path(
    get,
    path = "/admin/strategies/events",
    tag = "Strategies",
    params(Latest),
    responses((status = 200, description = "The events, each with its node and the number that it has among those of its node", body = StrategyEvents)),
)]
pub(super) async fn events(
    State(app): State<Arc<App>>,
    query: Result<Query<Latest>, QueryRejection>,
) -> Result<Response> {
    let Query(Latest { limit }) = query.map_err(|error| Problem::bad("invalid-query", error.body_text()))?;
    let mut events = app.strategies.events.list().await;
    events.truncate(limit.unwrap_or(usize::MAX));
    Ok(ok(&json!({ "events": events })))
}

/// The active generation, as answers name it.
pub(super) fn active(strategies: &Strategies) -> serde_json::Value {
    let active = strategies.active.enter();
    json!({ "name": active.name, "digest": active.digest, "generation": active.number })
}

/// Runs to its end even when the client goes away: half a switch is none.
pub(super) async fn undisturbed<T: Send + 'static>(
    change: impl Future<Output = Result<T, StrategyError>> + Send + 'static,
) -> Result<T> {
    match tokio::spawn(change).await {
        Ok(done) => Ok(done?),
        Err(error) => {
            tracing::error!(%error, "a change of strategies ended unexpectedly");
            let detail = "the change ended unexpectedly; GET /admin/strategies shows what is active";
            Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail))
        }
    }
}

fn ok(answer: &impl Serialize) -> Response {
    json(StatusCode::OK, answer, 1_024)
}

fn path(name: Named) -> Result<String> {
    name.map(|Path(name)| name).map_err(|_| not_utf8())
}

fn not_utf8() -> Problem {
    Problem::bad("invalid-name", "a name is UTF-8, percent-encoded")
}

fn parse_digest(text: &str) -> Result<Digest> {
    let hexadecimal = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let digest = Digest::parse(text).filter(|_| hexadecimal);
    digest.ok_or_else(|| Problem::bad("invalid-digest", "a digest has 64 hexadecimal digits in lower case"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_hexadecimal() {
        assert!(parse_digest(&"a0".repeat(32)).is_ok());
        for wrong in ["", "a0", &"A0".repeat(32), &"é".repeat(32), &"a0".repeat(33)] {
            assert!(parse_digest(wrong).is_err(), "{wrong}");
        }
    }
}
