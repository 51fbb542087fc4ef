//! What every request goes through: its id, its token, its metrics, its log line, and its errors' form.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::body::Body as _;
use tracing::{Instrument, debug, debug_span, warn};

use super::error::{Problem, Result};
use super::request_id::REQUEST_ID;
use super::{App, body, routes};
use crate::strategy::generation::Generation;

const STRATEGY: HeaderName = HeaderName::from_static("x-switchyard-strategy");

/// Wraps the router.
pub(super) async fn around(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let method = method(request.method());
    let route = request.extensions().get::<MatchedPath>().and_then(|path| routes::known(path.as_str()));
    let id = app.ids.of(request.headers());
    let name = route.unwrap_or("other");
    let span = debug_span!("request", method, route = name, request_id = id.to_str().unwrap_or_default());
    let mut response = answer(&app, route, request, next).instrument(span.clone()).await;
    let _entered = span.enter();
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        response = explain(&app, &problem, &id, name, response);
    }
    if name.starts_with(routes::STORE) && !response.headers().contains_key(STRATEGY) {
        label(&mut response, &app.records.active.enter());
    }
    response.headers_mut().insert(REQUEST_ID, id);
    let (status, took) = (response.status().as_u16(), began.elapsed());
    app.requests.record(method, name, status, took);
    debug!(status, took = ?took, "answered");
    response
}

async fn answer(app: &App, route: Option<&str>, request: Request, next: Next) -> Response {
    match admit(app, route, &request) {
        Ok(()) => next.run(request).await,
        Err(problem) => {
            body::discard(request.into_body());
            problem.into_response()
        }
    }
}

/// Whatever is not open to all needs the token.
fn admit(app: &App, route: Option<&str>, request: &Request) -> Result<()> {
    if route.is_some_and(|route| !routes::OPEN.contains(&route)) {
        app.token.check(request.headers())?;
    }
    match request.body().is_end_stream() {
        true => Ok(()),
        false => body::check_encoding(request.headers()),
    }
}

/// Writes a problem out, keeping the headers that its answer has already.
fn explain(app: &App, problem: &Problem, id: &HeaderValue, route: &str, refused: Response) -> Response {
    if problem.status.is_server_error() {
        let (status, code) = (problem.status.as_u16(), problem.code);
        match status {
            // Expected while a store is away, and as frequent as requests are.
            503 => debug!(status, code, "refused"),
            _ => warn!(status, code, route, request_id = ?id, node = app.node, "failed"),
        }
    }
    let mut response = problem.answer(id.to_str().unwrap_or_default(), routes::is_enveloped(route));
    for (name, value) in refused.headers() {
        if !response.headers().contains_key(name) && name != "content-length" {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}

/// Says which strategy, and which activation of it, has answered.
pub(super) fn label(response: &mut Response, generation: &Generation) {
    // Names of strategies are ASCII.
    if let Ok(value) = HeaderValue::try_from(generation.label()) {
        response.headers_mut().insert(STRATEGY, value);
    }
}

fn method(method: &Method) -> &'static str {
    let known = ["GET", "PUT", "POST", "DELETE", "HEAD", "OPTIONS", "PATCH"];
    known.into_iter().find(|known| *known == method.as_str()).unwrap_or("other")
}
