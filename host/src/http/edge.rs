//! What every request goes through: its id, its token, its metrics, its log line, and its errors' form.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::CONNECTION;
use axum::http::{HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::body::Body as _;
use tracing::{Instrument, debug, debug_span, warn};

use super::error::{Problem, Result};
use super::relay::{Refused, RequestId};
use super::request_id::{REQUEST_ID, X_REQUEST_ID};
use super::{App, body, routes};
use crate::relay::Refusal;
use crate::strategy::generation::Generation;
use crate::strategy::records::Read;

const STRATEGY: HeaderName = HeaderName::from_static("x-switchyard-strategy");
const STALE: HeaderName = HeaderName::from_static("x-switchyard-stale");

/// Wraps the router.
pub(super) async fn around(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let began = Instant::now();
    let method = method(request.method());
    let route = request.extensions().get::<MatchedPath>().and_then(|path| routes::known(path.as_str()));
    let id = app.ids.of(request.headers());
    let (name, relayed) = (route.unwrap_or("other"), routes::is_relayed(request.uri().path()));
    if relayed {
        request.extensions_mut().insert(RequestId(id.clone()));
    }
    let span = debug_span!("request", method, route = name, request_id = id.to_str().unwrap_or_default());
    let mut response = answer(&app, route, request, next).instrument(span.clone()).await;
    let _entered = span.enter();
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        response = match relayed {
            true => refuse(&Refusal::from(&problem), &id, response),
            false => explain(&app, &problem, &id, name, response),
        };
        if problem.closes() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }
    if let Some(Refused(refusal)) = response.extensions_mut().remove::<Refused>() {
        response = refuse(&refusal, &id, response);
    }
    if name.starts_with(routes::STORE) && !response.headers().contains_key(STRATEGY) {
        label(&mut response, &app.records.active.enter());
    }
    sign(&mut response, id, relayed);
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

/// Under which id the request is known here. A relayed answer has its upstream's beside it.
fn sign(response: &mut Response, id: HeaderValue, relayed: bool) {
    let headers = response.headers_mut();
    if relayed {
        headers.entry(REQUEST_ID).or_insert(id.clone());
        headers.insert(X_REQUEST_ID, id);
    } else {
        headers.insert(REQUEST_ID, id);
    }
}

/// Writes a refusal out for a Claude client.
fn refuse(refusal: &Refusal, id: &HeaderValue, refused: Response) -> Response {
    let (status, code) = (refusal.status, refusal.code);
    debug!(status, code, "refused");
    let mut response = refusal.answer(id.to_str().unwrap_or_default()).map(axum::body::Body::new);
    keep_headers(&mut response, &refused);
    response
}

/// Whatever is neither open to all nor asked with a client's key needs the token.
fn admit(app: &App, route: Option<&str>, request: &Request) -> Result<()> {
    if route.is_some_and(routes::needs_token) {
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
    keep_headers(&mut response, &refused);
    response
}

/// Such as `allow`.
fn keep_headers(response: &mut Response, refused: &Response) {
    for (name, value) in refused.headers() {
        if !response.headers().contains_key(name) && name != "content-length" {
            response.headers_mut().insert(name, value.clone());
        }
    }
}

/// Says which strategy, and which activation of it, has answered.
pub(super) fn label(response: &mut Response, generation: &Generation) {
    // Names of strategies are ASCII.
    if let Ok(value) = HeaderValue::try_from(generation.label()) {
        response.headers_mut().insert(STRATEGY, value);
    }
}

/// Says also when the answer to a read may be old.
pub(super) fn label_read<T>(response: &mut Response, read: &Read<T>) {
    label(response, &read.generation);
    if read.stale {
        response.headers_mut().insert(STALE, HeaderValue::from_static("true"));
    }
}

fn method(method: &Method) -> &'static str {
    let known = ["GET", "PUT", "POST", "DELETE", "HEAD", "OPTIONS", "PATCH"];
    known.into_iter().find(|known| *known == method.as_str()).unwrap_or("other")
}
