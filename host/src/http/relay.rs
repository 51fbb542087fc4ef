//! What Claude clients ask: extract, one call of the relay, map.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, Request, State};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_LENGTH;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::error::Problem;
use super::openapi::shapes::{Hello, KeyInfo, Me, Message, Model, Models, OwnUsage, Taken, TokenCount};
use super::{App, body};
use crate::keys::ApiKey;
use crate::relay::{Head, MAX_BODY, Refusal, Wants};

/// How long the body of a request may take altogether.
const WHOLE: std::time::Duration = std::time::Duration::from_secs(120);

const TOO_LARGE: &str = "This request is larger than 32 MiB, which is the most that this relay takes. Make the \
     conversation shorter (in Claude Code: /compact), or send fewer or smaller images and files.";
const NOT_FOUND: &str = "There is nothing at this address of the relay. Check ANTHROPIC_BASE_URL: it ends before /v1, \
     as in https://relay.example.com or https://relay.example.com/api.";
const METHOD: &str = "This address of the relay is not asked with that method: messages are sent with POST, lists are \
     read with GET.";
const ENCODED: &str =
    "This relay does not read compressed requests. Send the body as it is, without Content-Encoding.";
const SLOW: &str = "The request took too long to arrive. Check the connection, and send it again.";
const BROKEN: &str = "The request broke off before its end. Check the connection, and send it again.";

/// Under which id a request is known here.
#[derive(Clone)]
pub(super) struct RequestId(pub(super) HeaderValue);

/// Leaves the refusal for [`super::edge`], which writes the answer.
#[derive(Debug, Clone)]
pub(super) struct Refused(pub(super) Refusal);

type Result<T, E = Refused> = std::result::Result<T, E>;

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self(refusal)
    }
}

/// A problem of the edge or of a body, as the person in front of the client is told it.
impl From<&Problem> for Refusal {
    fn from(problem: &Problem) -> Self {
        let message = match problem.code {
            "too-large" => TOO_LARGE,
            "not-found" => NOT_FOUND,
            "method-not-allowed" => METHOD,
            "unsupported-encoding" => ENCODED,
            "body-timeout" => SLOW,
            "broken-body" => BROKEN,
            _ => problem.detail(),
        };
        let refusal = Self::new(problem.status.as_u16(), problem.code, message);
        match problem.retry_after() {
            Some(seconds) => refusal.after(seconds.into()),
            None => refusal,
        }
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self::from(&problem)
    }
}

fn head<'a>(parts: &'a Parts, id: &'a RequestId) -> Head<'a> {
    let request_id = id.0.to_str().unwrap_or_default();
    Head { headers: &parts.headers, query: parts.uri.query(), request_id }
}

/// A message of Claude, plain or as a stream of events.
#[utoipa::path(
    post,
    path = "/v1/messages",
    tag = "Relay",
    request_body(content = Value, description = "As the Anthropic API has it; unknown fields are passed on", example = json!({"model": "claude-sonnet-4-5", "max_tokens": 64, "messages": [{"role": "user", "content": "Say hi."}]})),
    responses((status = 200, description = "A message, or its events when `stream` is true, byte for byte as the upstream sends it", content((Message = "application/json"), (String = "text/event-stream")))),
)]
pub(super) async fn messages(
    State(app): State<Arc<App>>,
    Extension(id): Extension<RequestId>,
    request: Request,
) -> Result<Response> {
    relay(&app, &id, Wants::Message, request).await
}

/// How many tokens a message would have.
#[utoipa::path(
    post,
    path = "/v1/messages/count_tokens",
    tag = "Relay",
    request_body(content = Value, description = "As the Anthropic API has it", example = json!({"model": "claude-sonnet-4-5", "messages": [{"role": "user", "content": "Say hi."}]})),
    responses((status = 200, description = "The count, as the upstream says it", body = TokenCount)),
)]
pub(super) async fn count_tokens(
    State(app): State<Arc<App>>,
    Extension(id): Extension<RequestId>,
    request: Request,
) -> Result<Response> {
    relay(&app, &id, Wants::Count, request).await
}

async fn relay(app: &App, id: &RequestId, wants: Wants, request: Request) -> Result<Response> {
    let (parts, body) = request.into_parts();
    let head = head(&parts, id);
    let admitted = match app.relay.admit(&head).await {
        Ok(key) => app.relay.check(&key, wants, &parts.headers).map(|()| key),
        Err(refusal) => Err(refusal),
    };
    let admitted = admitted.and_then(|key| {
        let held = app.relay.room(&key, announced(&parts))?;
        Ok((key, held))
    });
    let (key, mut held) = match admitted {
        Ok(admitted) => admitted,
        Err(refusal) => {
            body::discard(body);
            return Err(refusal.into());
        }
    };
    let body = body::read_into(body, MAX_BODY, WHOLE, |length| held.grow(length)).await?;
    let answer = app.relay.call((key, wants), &head, (body, held)).await?;
    Ok(answer.map(Body::new))
}

fn announced(parts: &Parts) -> Option<u64> {
    parts.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Whose request without a body this is.
async fn key(app: &App, id: &RequestId, request: Request) -> Result<ApiKey> {
    let (parts, _) = request.into_parts();
    Ok(app.relay.admit(&head(&parts, id)).await?)
}

/// The models that this key may use.
#[utoipa::path(
    get,
    path = "/v1/models",
    tag = "Relay",
    params(
        ("limit" = Option<u16>, Query, description = "At most so many, 1 to 1000; all of them unless it is said"),
        ("after_id" = Option<String>, Query, description = "Those after this one"),
        ("before_id" = Option<String>, Query, description = "Those before this one"),
    ),
    responses((status = 200, description = "A list that clients of either shape read", body = Models)),
)]
pub(super) async fn models(
    State(app): State<Arc<App>>,
    Extension(id): Extension<RequestId>,
    request: Request,
) -> Result<Json<Value>> {
    let query = request.uri().query().map(str::to_owned);
    let key = key(&app, &id, request).await?;
    Ok(Json(app.relay.models(&key, query.as_deref()).await?))
}

/// One of the models that this key may use.
#[utoipa::path(
    get,
    path = "/v1/models/{model}",
    tag = "Relay",
    params(("model" = String, Path, description = "Its id")),
    responses((status = 200, description = "The model", body = Model)),
)]
pub(super) async fn model(
    State(app): State<Arc<App>>,
    Extension(id): Extension<RequestId>,
    Path(model): Path<String>,
    request: Request,
) -> Result<Json<Value>> {
    let key = key(&app, &id, request).await?;
    Ok(Json(app.relay.model(&key, &model).await?))
}

/// Who this key belongs to.
#[utoipa::path(
    get,
    path = "/v1/me",
    tag = "Relay",
    responses((status = 200, description = "As Claude Relay Service answers it", body = Me)),
)]
pub(super) async fn me(
    State(app): State<Arc<App>>,
    Extension(id): Extension<RequestId>,
    request: Request,
) -> Result<Json<Value>> {
    let key = key(&app, &id, request).await?;
    Ok(Json(app.relay.me(&key)))
}

/// What this key is and has used.
#[utoipa::path(
    get,
    path = "/v1/key-info",
    tag = "Relay",
    responses((status = 200, description = "As Claude Relay Service answers it", body = KeyInfo)),
)]
pub(super) async fn key_info(
    State(app): State<Arc<App>>,
    Extension(id): Extension<RequestId>,
    request: Request,
) -> Result<Json<Value>> {
    let key = key(&app, &id, request).await?;
    Ok(Json(app.relay.key_info(&key).await?))
}

/// What this key has used, and its limits.
#[utoipa::path(
    get,
    path = "/v1/usage",
    tag = "Relay",
    responses((status = 200, description = "As Claude Relay Service answers it", body = OwnUsage)),
)]
pub(super) async fn usage(
    State(app): State<Arc<App>>,
    Extension(id): Extension<RequestId>,
    request: Request,
) -> Result<Json<Value>> {
    let key = key(&app, &id, request).await?;
    Ok(Json(app.relay.usage(&key).await?))
}

/// Says that there is a relay here, to a client that looks before it begins.
#[utoipa::path(
    method(get, head),
    path = "/api/hello",
    tag = "Relay",
    responses((status = 200, description = "It is there", body = Hello)),
)]
pub(super) async fn hello() -> Json<Value> {
    Json(json!({ "message": "hello" }))
}

/// Takes a client's telemetry and forgets it.
#[utoipa::path(
    post,
    path = "/api/event_logging/batch",
    tag = "Relay",
    responses((status = 200, description = "Nothing was kept", body = Taken)),
)]
pub(super) async fn event_logging(request: Request) -> Json<Value> {
    body::discard(request.into_body());
    Json(json!({ "success": true }))
}
