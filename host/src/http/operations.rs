//! For those who keep it running. Open to all, and says nothing about what is stored.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::App;
use super::answer::json;
use super::strategies::active;
use crate::recovery::health::StoreHealth;

const WELCOME: &str = concat!(
    "Switchyard ",
    env!("CARGO_PKG_VERSION"),
    "\n\n",
    "  /store/v1/records/{kind}/{id}   records, with the admin token\n",
    "  /store/v1/usage                 usage, with the admin token\n",
    "  /admin/strategies               strategies, with the admin token\n",
    "  /readyz /healthz /metrics       how it is\n",
    "  /docs                           every path, to read and to try\n\n",
    "The README has commands to paste.\n",
);

/// What there is.
#[utoipa::path(
    method(get, head),
    path = "/",
    tag = "Health",
    responses((status = 200, description = "Text", body = String, content_type = "text/plain")),
)]
pub(super) async fn welcome() -> &'static str {
    WELCOME
}

/// The process answers.
#[utoipa::path(
    get,
    path = "/livez",
    tag = "Health",
    responses((status = 200, description = "Text", body = String, content_type = "text/plain")),
)]
pub(super) async fn live() -> &'static str {
    "ok\n"
}

/// Whether the active strategy can serve, and the stores it needs.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "Health",
    responses((status = 200, description = "It can; 503 when it cannot", body = super::openapi::shapes::Ready)),
)]
pub(super) async fn ready(State(app): State<Arc<App>>) -> Response {
    let active = app.strategies.active.enter();
    let needed = |store: &StoreHealth| match store.store {
        "redis" => active.needs.redis,
        _ => active.needs.postgres,
    };
    let stores: Vec<_> = app.health.stores().into_iter().filter(needed).collect();
    let ready = is_ready(&app);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let ending = app.ending.is_cancelled();
    let strategy = active.label();
    json(status, &json!({ "ready": ready, "ending": ending, "strategy": strategy, "stores": stores }), 512)
}

pub(super) fn is_ready(app: &App) -> bool {
    !app.ending.is_cancelled() && app.health.can_serve(app.strategies.active.enter().needs)
}

/// `unhealthy` when the active strategy cannot serve, `degraded` when a store is down or not believed yet.
pub(super) fn status(app: &App, stores: &[StoreHealth]) -> &'static str {
    match is_ready(app) {
        false => "unhealthy",
        true if stores.iter().all(StoreHealth::is_sound) && app.cluster.clock().is_none() => "healthy",
        true => "degraded",
    }
}

/// How this node is, in detail. Also at `/health`.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "Health",
    responses((status = 200, description = "healthy, degraded or unhealthy", body = super::openapi::shapes::Health)),
)]
pub(super) async fn health(State(app): State<Arc<App>>) -> Response {
    let stores = app.health.stores();
    let status = status(&app, &stores);
    let answer = json!({
        "status": status,
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": app.began.elapsed().as_secs(),
        "node": app.node,
        "clock": app.cluster.clock(),
        "strategy": active(&app.strategies),
        "stores": stores,
    });
    json(StatusCode::OK, &answer, 1_024)
}

/// Figures for Prometheus.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "Health",
    responses((status = 200, description = "OpenMetrics", body = String, content_type = "application/openmetrics-text")),
)]
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let text = app.metrics.render();
    ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
}
