//! Every route, in one place: a path that is not in a list needs the token.

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{any, delete, get, post};

use super::error::Problem;
use super::{
    App, accounts, admin_usage, background, conflicts, database, edge, keys, nodes, openapi, operations,
    records, relay, strategies, usage,
};

/// What paths of the store API begin with.
pub(super) const STORE: &str = "/store/";
/// What paths begin with whose answers have the envelope of Claude Relay Service.
const ENVELOPED: [&str; 4] = ["/admin/database/", "/admin/api-keys", "/admin/account", "/admin/usage"];

/// Open to all: they tell nothing about what is stored.
pub(super) const OPEN: [&str; 8] =
    ["/", "/livez", "/readyz", "/healthz", "/health", "/metrics", "/openapi.json", "/docs"];

/// Each path as it is and below the two that clients of Claude Relay Service are set to.
macro_rules! mounted {
    ($($path:literal),* $(,)?) => {
        [$($path, concat!("/api", $path), concat!("/claude", $path)),*]
    };
}

/// What Claude clients ask, with a key of their own where one is needed.
pub(super) const RELAY: [&str; 27] = mounted![
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/models",
    "/v1/models/{model}",
    "/v1/me",
    "/v1/key-info",
    "/v1/usage",
    "/api/hello",
    "/api/event_logging/batch",
];
/// Further names that they have for it, and the addresses that they are set to.
pub(super) const ALIASES: [&str; 8] = [
    "/api/claude/v1/messages",
    "/claude/claude/v1/messages",
    "/api",
    "/api/",
    "/claude",
    "/claude/",
    "/api/health",
    "/claude/health",
];
/// What paths of the relay begin with.
const RELAYED: [&str; 3] = ["/v1/", "/api", "/claude"];

/// Whether a path belongs to Claude clients, whose errors have a form of their own.
pub(super) fn is_relayed(path: &str) -> bool {
    RELAYED.iter().any(|begin| path.starts_with(begin))
}

/// What needs the token.
const CLOSED: [&str; 41] = [
    "/store/v1/records/{kind}",
    "/store/v1/records/{kind}/",
    "/store/v1/records/{kind}/{id}",
    "/store/v1/usage",
    "/store/v1/usage/{key_id}",
    "/admin/strategies",
    "/admin/strategies/events",
    "/admin/strategies/rollback",
    "/admin/strategies/{name}",
    "/admin/strategies/{name}/activate",
    "/admin/strategies/{name}/versions/{digest}",
    "/admin/nodes",
    "/admin/api-keys",
    "/admin/api-keys/{id}",
    "/admin/api-keys/{id}/regenerate",
    "/admin/api-keys/{id}/disable",
    "/admin/api-keys/{id}/enable",
    "/admin/api-keys/{id}/restore",
    "/admin/usage",
    "/admin/usage/summary",
    "/admin/usage/prices",
    "/admin/database/strategy/{name}",
    "/admin/database/pin",
    "/admin/database/status",
    "/admin/database/health",
    "/admin/database/metrics",
    "/admin/database/conflicts",
    "/admin/database/sync/{pair}",
    "/admin/database/consistency-check",
    "/admin/database/consistency-fix",
    "/admin/database/cache/clear",
    "/admin/database/reconnect",
    "/admin/operations",
    "/admin/operations/{id}",
    "/admin/operations/{id}/events",
    "/admin/accounts",
    "/admin/accounts/rewrap",
    "/admin/accounts/{id}",
    "/admin/accounts/{id}/reset-status",
    "/admin/account-groups",
    "/admin/account-groups/{id}",
];

/// Whether errors of this route have the envelope of Claude Relay Service.
pub(super) fn is_enveloped(route: &str) -> bool {
    ENVELOPED.iter().any(|beginning| route.starts_with(beginning))
}

/// Every pattern there is.
pub(super) fn all() -> impl Iterator<Item = &'static str> {
    OPEN.into_iter().chain(RELAY).chain(ALIASES).chain(CLOSED)
}

/// Whether a pattern is for those who have the token.
pub(super) fn needs_token(route: &str) -> bool {
    CLOSED.contains(&route)
}

/// The route of this pattern, as a label.
pub(super) fn known(pattern: &str) -> Option<&'static str> {
    all().find(|known| *known == pattern)
}

pub(super) fn router(app: Arc<App>) -> Router {
    Router::new()
        .merge(open())
        .merge(relayed())
        .merge(store())
        .merge(admin())
        .merge(api_keys())
        .fallback(async || {
            Problem::new(
                StatusCode::NOT_FOUND,
                "not-found",
                "there is nothing here; GET / names what there is",
            )
        })
        .method_not_allowed_fallback(async || {
            let detail = "this path does not have that method; the allow header has those it has";
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail)
        })
        .layer(axum::middleware::from_fn_with_state(app.clone(), edge::around))
        .with_state(app)
}

fn open() -> Router<Arc<App>> {
    Router::new()
        .route("/", get(operations::welcome))
        .route("/livez", get(operations::live))
        .route("/readyz", get(operations::ready))
        .route("/healthz", get(operations::health))
        .route("/health", get(operations::health))
        .route("/metrics", get(operations::metrics))
        .route("/openapi.json", get(openapi::document))
        .route("/docs", get(openapi::page))
}

fn relayed() -> Router<Arc<App>> {
    let mut router = Router::new();
    for mount in ["", "/api", "/claude"] {
        router = router
            .route(&format!("{mount}/v1/messages"), post(relay::messages))
            .route(&format!("{mount}/v1/messages/count_tokens"), post(relay::count_tokens))
            .route(&format!("{mount}/v1/models"), get(relay::models))
            .route(&format!("{mount}/v1/models/{{model}}"), get(relay::model))
            .route(&format!("{mount}/v1/me"), get(relay::me))
            .route(&format!("{mount}/v1/key-info"), get(relay::key_info))
            .route(&format!("{mount}/v1/usage"), get(relay::usage))
            .route(&format!("{mount}/api/hello"), get(relay::hello))
            .route(&format!("{mount}/api/event_logging/batch"), post(relay::event_logging));
    }
    for mount in ["/api", "/claude"] {
        router = router
            .route(mount, get(relay::hello))
            .route(&format!("{mount}/"), get(relay::hello))
            .route(&format!("{mount}/health"), get(operations::health))
            .route(&format!("{mount}/claude/v1/messages"), post(relay::messages));
    }
    router
}

fn store() -> Router<Arc<App>> {
    let record = get(records::get).put(records::put).delete(records::delete);
    Router::new()
        .route("/store/v1/records/{kind}/{id}", record)
        .route("/store/v1/records/{kind}", get(records::find_or_scan))
        .route("/store/v1/records/{kind}/", any(records::without_id))
        .route("/store/v1/usage", post(usage::add))
        .route("/store/v1/usage/{key_id}", get(usage::get))
}

fn admin() -> Router<Arc<App>> {
    Router::new()
        .route("/admin/strategies", get(strategies::list))
        .route("/admin/strategies/events", get(strategies::events))
        .route("/admin/strategies/rollback", post(strategies::rollback))
        .route("/admin/strategies/{name}", get(strategies::get).put(strategies::upload::upload))
        .route("/admin/strategies/{name}/activate", post(strategies::activate))
        .route("/admin/strategies/{name}/versions/{digest}", delete(strategies::delete))
        .route("/admin/nodes", get(nodes::list))
        .route("/admin/usage", get(admin_usage::list))
        .route("/admin/usage/summary", get(admin_usage::summary))
        .route("/admin/usage/prices", get(admin_usage::prices))
        .route("/admin/database/strategy/{name}", post(database::switch))
        .route("/admin/database/pin", delete(database::unpin))
        .route("/admin/database/status", get(database::reports::status))
        .route("/admin/database/health", get(database::reports::health))
        .route("/admin/database/metrics", get(database::reports::metrics))
        .route("/admin/database/conflicts", get(conflicts::list))
        .merge(background())
        .merge(upstreams())
}

fn api_keys() -> Router<Arc<App>> {
    let key = get(keys::get).put(keys::update).patch(keys::update).delete(keys::delete);
    Router::new()
        .route("/admin/api-keys", get(keys::list).post(keys::create))
        .route("/admin/api-keys/{id}", key)
        .route("/admin/api-keys/{id}/regenerate", post(keys::regenerate))
        .route("/admin/api-keys/{id}/disable", post(keys::disable))
        .route("/admin/api-keys/{id}/enable", post(keys::enable))
        .route("/admin/api-keys/{id}/restore", post(keys::restore))
}

fn background() -> Router<Arc<App>> {
    Router::new()
        .route("/admin/database/sync/{pair}", post(background::sync))
        .route("/admin/database/consistency-check", get(background::check))
        .route("/admin/database/consistency-fix", post(background::repair))
        .route("/admin/database/cache/clear", post(database::upkeep::clear_cache))
        .route("/admin/database/reconnect", post(database::upkeep::reconnect))
        .route("/admin/operations", get(background::list))
        .route("/admin/operations/{id}", get(background::get).delete(background::cancel))
        .route("/admin/operations/{id}/events", get(background::events))
}

fn upstreams() -> Router<Arc<App>> {
    let account = get(accounts::get).put(accounts::update).patch(accounts::update).delete(accounts::delete);
    let group = get(accounts::group).put(accounts::update_group).delete(accounts::delete_group);
    Router::new()
        .route("/admin/accounts", get(accounts::list).post(accounts::create))
        .route("/admin/accounts/rewrap", post(accounts::rewrap))
        .route("/admin/accounts/{id}", account)
        .route("/admin/accounts/{id}/reset-status", post(accounts::reset_status))
        .route("/admin/account-groups", get(accounts::groups).post(accounts::create_group))
        .route("/admin/account-groups/{id}", group.patch(accounts::update_group))
}
