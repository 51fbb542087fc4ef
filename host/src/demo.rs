//! An upstream that makes its answers up, so that the relay can be tried without an account.
//!
//! It speaks as much of the Anthropic API as a client asks for, counts tokens plausibly, and fails on command:
//! by what was scripted for a credential ([`Demo::script`]), or by a word such as `[demo:529]` in the last thing
//! the user says.
//!
//! # Layout
//! - `act`: what it does with a request
//! - `asked`: what it reads of a request
//! - `answer`: messages, plain and as events
//! - `play`: bodies that pause, break off or stay silent

mod act;
mod answer;
mod asked;
mod play;

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HeaderMap};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

pub use act::Act;
use asked::Asked;
use play::{Played, Reply};

/// The largest body that it takes, in bytes.
const MAX_BODY: usize = 32 << 20;
/// Connections at a time; further ones wait.
const MAX_CONNECTIONS: usize = 16_384;
/// How long a body may take to arrive.
const READING: Duration = Duration::from_secs(60);
/// How long it waits after a connection that could not be accepted.
const AFTER_FAILURE: Duration = Duration::from_millis(50);
/// Acts that wait for one credential.
const MAX_SCRIPT: usize = 65_536;

/// How it behaves when nothing is scripted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// How long it thinks before the first byte.
    pub first: Duration,
    /// How long it waits before each further event.
    pub between: Duration,
    /// How many of the last requests it keeps for [`Demo::requests`].
    pub keep: usize,
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// A running demo upstream; dropping it ends it and its connections.
pub struct Demo {
    addr: SocketAddr,
    state: Arc<State>,
    _serving: JoinSet<()>,
}

struct State {
    options: Options,
    scripts: Mutex<HashMap<String, VecDeque<Act>>>,
    seen: Mutex<VecDeque<Seen>>,
    /// Messages that were asked for.
    messages: AtomicU64,
}

impl Demo {
    /// Serves on this address; port 0 takes a free one.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn start(listen: SocketAddr, options: Options) -> std::io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let addr = listener.local_addr()?;
        let state = Arc::new(State {
            options,
            scripts: Mutex::default(),
            seen: Mutex::default(),
            messages: AtomicU64::new(0),
        });
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, state.clone()));
        Ok(Self { addr, state, _serving: serving })
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What an account names as its `apiUrl`.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// What it does with the next requests for messages that come with this credential, in this order.
    pub fn script(&self, credential: &str, acts: impl IntoIterator<Item = Act>) {
        let mut scripts = self.state.scripts.lock();
        let script = scripts.entry(credential.to_owned()).or_default();
        let room = MAX_SCRIPT - script.len();
        script.extend(acts.into_iter().take(room));
    }

    /// The last requests, as many as [`Options::keep`] says, oldest first.
    pub fn requests(&self) -> Vec<Seen> {
        self.state.seen.lock().iter().cloned().collect()
    }

    /// How many requests for messages have come.
    pub fn messages(&self) -> u64 {
        self.state.messages.load(Ordering::Relaxed)
    }
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        // The semaphore is never closed.
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(AFTER_FAILURE).await;
            continue;
        };
        let state = state.clone();
        connections.spawn(async move {
            let _permit = permit;
            connection(stream, state).await;
        });
    }
}

async fn connection(stream: TcpStream, state: Arc<State>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let state = state.clone();
        async move { state.answer(request).await }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).half_close(true);
    // A client that breaks off is no event here.
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

impl State {
    /// An error closes the connection without an answer.
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Played>, play::Broken> {
        let (head, body) = request.into_parts();
        let collected = tokio::time::timeout(READING, Limited::new(body, MAX_BODY).collect()).await;
        let Ok(Ok(body)) = collected else {
            let why = "the body is too large, too slow or broken off";
            return Ok(answer::error(StatusCode::PAYLOAD_TOO_LARGE, why, None).whole());
        };
        let body = body.to_bytes();
        let seen = Seen { method: head.method, uri: head.uri, headers: head.headers, body };
        let reply = self.reply(&seen);
        self.keep(seen);
        match reply {
            Some(reply) => reply.play().await,
            None => Err(play::Broken),
        }
    }

    fn keep(&self, request: Seen) {
        if self.options.keep == 0 {
            return;
        }
        let mut seen = self.seen.lock();
        if seen.len() == self.options.keep {
            seen.pop_front();
        }
        seen.push_back(request);
    }

    /// None when the connection is to be closed instead.
    fn reply(&self, request: &Seen) -> Option<Reply> {
        let path = request.uri.path();
        if !path.starts_with("/v1/") {
            return Some(Reply::json(StatusCode::OK, &serde_json::json!({ "success": true })));
        }
        let Some(credential) = credential(&request.headers) else {
            return Some(answer::error(StatusCode::UNAUTHORIZED, "x-api-key header is required", None));
        };
        if path == "/v1/models" {
            return Some(answer::models());
        }
        let Some(asked) = Asked::read(&request.body) else {
            return Some(answer::error(StatusCode::BAD_REQUEST, "messages: Field required", None));
        };
        match path {
            "/v1/messages/count_tokens" => Some(answer::count(&asked)),
            "/v1/messages" => {
                self.messages.fetch_add(1, Ordering::Relaxed);
                let act = self.scripted(credential).or_else(|| asked.act()).unwrap_or(Act::Answer);
                answer::message(&asked, act, credential, self.options)
            }
            _ => Some(answer::error(StatusCode::NOT_FOUND, "Not found", None)),
        }
    }

    fn scripted(&self, credential: &str) -> Option<Act> {
        self.scripts.lock().get_mut(credential)?.pop_front()
    }
}

/// What the request was signed with.
fn credential(headers: &HeaderMap) -> Option<&str> {
    let bearer = || headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ");
    let key = headers.get("x-api-key").and_then(|key| key.to_str().ok());
    key.or_else(bearer).filter(|credential| !credential.is_empty())
}

/// So that a body which never fails fits where one may.
impl From<Infallible> for play::Broken {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}
