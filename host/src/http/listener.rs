//! Connections: how many, how long, and how they end.

mod activity;
mod attended;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::Method;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;
use tracing::{debug, warn};

use super::routes;
use activity::{Activity, Waiting};
use attended::Attended;

/// Connections at a time. Further ones wait to be accepted.
const MAX_CONNECTIONS: usize = 16_384;
/// How long the head of a request may take; a connection that is idle for as long ends too.
const HEAD: Duration = Duration::from_secs(5);
/// How long a connection of HTTP/2 may be idle, and an answer of HTTP/1 remain unread.
const IDLE: Duration = Duration::from_secs(60);
/// How long a connection that was asked to end may take.
const ENDING: Duration = Duration::from_secs(10);
const MAX_HEADERS: usize = 64;
/// Bytes of a request's head.
const MAX_HEAD: usize = 16 << 10;
/// Requests of one HTTP/2 connection at a time.
const MAX_STREAMS: u32 = 100;
/// How long to wait after an accept that failed, as it does when no file descriptor is left.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// Accepts connections until `ending`, then lets the requests in flight end, but not for longer than ten
/// seconds.
pub async fn serve(listener: TcpListener, router: Router, ending: CancellationToken) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let builder = Arc::new(limits());
    let connections = TaskTracker::new();
    let dropped = CancellationToken::new();
    loop {
        let accepted = async {
            // The semaphore is never closed.
            let permit = permits.clone().acquire_owned().await.ok();
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            () = ending.cancelled() => break,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = connection(builder.clone(), stream, router.clone(), ending.clone());
                let connection = dropped.clone().run_until_cancelled_owned(connection);
                connections.spawn(async move {
                    connection.await;
                    drop(permit);
                });
            }
            Err(error) => {
                warn!(%error, "no connection accepted");
                tokio::time::sleep(AFTER_FAILURE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(ENDING, connections.wait()).await.is_err() {
        warn!(connections = connections.len(), "connections dropped: their requests took too long to end");
        dropped.cancel();
        connections.wait().await;
    }
}

fn limits() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // A client that has nothing more to say still wants its answer; for relayed calls see `attended`.
        .half_close(true)
        .header_read_timeout(HEAD)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(64 << 10)
        .initial_connection_window_size(1 << 20)
        .max_header_list_size(MAX_HEAD as u32)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(ENDING);
    builder
}

async fn connection(
    builder: Arc<Builder<TokioExecutor>>,
    stream: TcpStream,
    router: Router,
    ending: CancellationToken,
) {
    // Answers are written whole: waiting for more of them would only delay.
    let _ = stream.set_nodelay(true);
    let activity = Arc::new(Activity::default());
    let service = service_fn(|request: Request<Incoming>| {
        let relayed = request.method() == Method::POST && routes::is_relayed(request.uri().path());
        let (router, waiting) = (router.clone(), Waiting::begin(&activity, relayed));
        async move { router.oneshot(request).await.map(|response| waiting.answered(response)) }
    });
    let stream = TokioIo::new(Attended::new(stream, activity.clone()));
    let mut connection = pin!(builder.serve_connection(stream, service));
    let mut looks = Looks::new(&activity);
    let mut next = pin!(sleep_until(Instant::now() + HEAD));
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    debug!(error, "connection ended");
                }
                return;
            }
            () = ending.cancelled(), if !looks.ending => {
                looks.ending = true;
                connection.as_mut().graceful_shutdown();
                next.as_mut().reset(Instant::now() + ENDING);
            }
            () = next.as_mut() => {
                let wait = match looks.look() {
                    Seen::Dead => return,
                    Seen::Busy => IDLE,
                    Seen::Idle => {
                        connection.as_mut().graceful_shutdown();
                        ENDING
                    }
                };
                next.as_mut().reset(Instant::now() + wait);
            }
        }
    }
}

/// What a look at a connection finds.
enum Seen {
    Busy,
    /// Nothing since the last look: it is asked to end.
    Idle,
    /// It never began a request, or did not end when asked to.
    Dead,
}

/// Looks at a connection from time to time.
struct Looks<'a> {
    activity: &'a Activity,
    /// How many requests had begun at the last look.
    seen: usize,
    ending: bool,
}

impl<'a> Looks<'a> {
    fn new(activity: &'a Activity) -> Self {
        Self { activity, seen: 0, ending: false }
    }

    fn look(&mut self) -> Seen {
        let (begun, waits_for_us) = self.activity.look();
        let idle = begun == std::mem::replace(&mut self.seen, begun) && !waits_for_us;
        match (begun, idle) {
            (0, _) => Seen::Dead,
            (_, true) if self.ending => Seen::Dead,
            (_, true) => {
                self.ending = true;
                Seen::Idle
            }
            (_, false) => Seen::Busy,
        }
    }
}
