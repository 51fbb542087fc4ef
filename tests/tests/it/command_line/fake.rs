//! A server that answers what a test tells it to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};
use switchyard_tests::host::TOKEN;

/// What one request is answered.
#[derive(Clone)]
pub(super) enum Reply {
    /// The envelope of `/admin/database`, with this in it.
    Data(Value),
    /// This JSON, with this status.
    Plain(u16, Value),
    /// 202, and where to look.
    Begun(&'static str, Value),
    /// A problem of this status and code.
    Problem(u16, &'static str),
    /// A page, as a proxy would answer.
    Page(u16),
    /// Server-sent events by name; then the connection breaks off, or stays open and silent.
    Events { events: Vec<(&'static str, Value)>, breaks_off: bool },
    /// Nothing, for longer than anyone waits.
    Silence,
}

/// One request as it came in.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// Such as `POST /admin/strategies/rollback`.
    pub(super) line: String,
    pub(super) body: Bytes,
    pub(super) headers: HeaderMap,
}

/// A server on a free port; ends with the runtime of the test.
pub(super) struct Fake {
    pub(super) url: String,
    state: Arc<Script>,
}

#[derive(Default)]
struct Script {
    /// The last reply to a line is repeated.
    replies: Mutex<BTreeMap<&'static str, Vec<Reply>>>,
    asked: Mutex<Vec<Asked>>,
}

impl Fake {
    pub(super) async fn start(replies: &[(&'static str, Reply)]) -> Self {
        let state = Arc::new(Script::default());
        for (line, reply) in replies {
            state.replies.lock().unwrap().entry(*line).or_default().push(reply.clone());
        }
        let router = Router::new().fallback(answer).with_state(state.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, state }
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.state.asked.lock().unwrap().clone()
    }

    /// The requests so far, without their bodies.
    pub(super) fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.line).collect()
    }

    /// Waits until this was asked.
    pub(super) async fn until_asked(&self, line: &str) {
        for _ in 0..3_000 {
            if self.lines().iter().any(|asked| asked == line) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("nobody asked for {line}: {:?}", self.lines());
    }
}

async fn answer(State(script): State<Arc<Script>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let line = format!("{} {}", parts.method, parts.uri);
    let body = axum::body::to_bytes(body, 64 << 20).await.expect("a body");
    let authorized =
        parts.headers.get(header::AUTHORIZATION).is_some_and(|it| *it == format!("Bearer {TOKEN}"));
    script.asked.lock().unwrap().push(Asked { line: line.clone(), body, headers: parts.headers });
    if !authorized {
        return problem(401, "unauthorized");
    }
    let reply = {
        let mut replies = script.replies.lock().unwrap();
        match replies.get_mut(line.as_str()) {
            Some(replies) if replies.len() > 1 => Some(replies.remove(0)),
            Some(replies) => replies.first().cloned(),
            None => None,
        }
    };
    match reply {
        None => problem(404, "not-found"),
        Some(reply) => reply.respond().await,
    }
}

impl Reply {
    async fn respond(self) -> Response {
        match self {
            Self::Data(data) => plain(200, &envelope(&data)),
            Self::Plain(status, body) => plain(status, &body),
            Self::Begun(location, data) => {
                let mut response = plain(202, &envelope(&data));
                response.headers_mut().insert(header::LOCATION, location.parse().expect("a header"));
                response
            }
            Self::Problem(status, code) => problem(status, code),
            Self::Page(status) => {
                let page = "<html><body>Bad gateway</body></html>";
                (code(status), [(header::CONTENT_TYPE, "text/html")], page).into_response()
            }
            Self::Events { events, breaks_off } => {
                let shown = |(name, data)| Ok(format!("event: {name}\ndata: {data}\n\n"));
                let events = stream::iter(events.into_iter().map(shown));
                let broken = stream::iter([Err(std::io::Error::other("the connection is lost"))]);
                let body = match breaks_off {
                    true => Body::from_stream(events.chain(broken)),
                    false => Body::from_stream(events.chain(stream::pending())),
                };
                ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
            }
            Self::Silence => std::future::pending().await,
        }
    }
}

fn envelope(data: &Value) -> Value {
    json!({ "success": true, "data": data, "timestamp": "2026-11-23T20:00:00Z" })
}

fn plain(status: u16, body: &Value) -> Response {
    (code(status), [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

fn problem(status: u16, problem: &str) -> Response {
    let detail = format!("the detail of {problem}");
    plain(status, &json!({ "code": problem, "detail": detail, "status": status, "title": "No" }))
}

fn code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).expect("a status")
}
