//! The connections to upstreams: one pool for those that are reached directly, one for each proxy.

mod line;
mod trust;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::http::Extensions;
use hyper::{Request, Response, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::legacy::connect::{HttpConnector, capture_connection};
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use tracing::warn;

pub use self::trust::Trust;

use self::line::{Fate, Lines};
use crate::accounts::{Proxy, ProxyKind};
use crate::telemetry::Seldom;

type Secured = HttpsConnector<HttpConnector>;
type Sent = Full<Bytes>;

/// How long a connection that nothing goes over is kept. Upstreams close theirs later (Node and uvicorn after 5 s),
/// so that a request is hardly ever sent into a connection that is about to end.
const IDLE: Duration = Duration::from_secs(4);
/// How often it is asked whether an HTTP/2 connection is still there while requests are under way on it, and how long
/// the answer may take. TCP itself notices only after minutes that the other side is gone.
const PING: Duration = Duration::from_secs(10);
const PONG: Duration = Duration::from_secs(5);
/// Idle connections to one upstream.
const MAX_IDLE: usize = 256;
/// The head of an answer, and what is read of a body at a time, in bytes.
const MAX_BUFFER: usize = 64 << 10;
/// Proxies that are known at a time.
const MAX_PROXIES: usize = 256;

/// A way to upstreams.
#[derive(Clone)]
enum Way {
    Direct(Client<Lines<Secured>, Sent>),
    Tunnel(Client<Lines<HttpsConnector<Tunnel<Secured>>>, Sent>),
    Socks(Client<Lines<HttpsConnector<SocksV5<HttpConnector>>>, Sent>),
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// Nothing was sent.
    Unreachable,
    /// Nothing was sent: its certificate is not one to trust.
    Untrusted,
    /// It was sent over a connection that was closing, and read by nobody.
    Unread,
    /// It may have been taken: the connection ended, or what came is no HTTP.
    Broken,
    /// Nothing has come for as long as there may be nothing.
    Silent,
}

/// Sends requests to upstreams.
pub(super) struct Upstreams {
    direct: Way,
    proxied: Mutex<HashMap<Proxy, Way>>,
    connect: Duration,
    trust: Trust,
}

impl Upstreams {
    /// `connect`: how long a connection may take to come about, from its name to its TLS.
    pub(super) fn new(connect: Duration, trust: Trust) -> Self {
        let direct = Way::Direct(client(secured(connect, &trust), connect));
        Self { direct, proxied: Mutex::default(), connect, trust }
    }

    /// The head of the answer, if it comes within the deadline. A connection on which none came is not used again.
    pub(super) async fn send(
        &self,
        proxy: Option<&Proxy>,
        mut request: Request<Sent>,
        deadline: Duration,
    ) -> Result<Response<Incoming>, NoAnswer> {
        let way = self.way(proxy).ok_or(NoAnswer::Unreachable)?;
        let connection = capture_connection(&mut request);
        let answer = match way {
            Way::Direct(client) => tokio::time::timeout(deadline, client.request(request)).await,
            Way::Tunnel(client) => tokio::time::timeout(deadline, client.request(request)).await,
            Way::Socks(client) => tokio::time::timeout(deadline, client.request(request)).await,
        };
        let Ok(answer) = answer else {
            if let Some(silent) = connection.connection_metadata().as_ref() {
                silent.poison();
            }
            return Err(NoAnswer::Silent);
        };
        answer.map_err(|error| why(&error))
    }

    /// None when the proxy's address is none.
    fn way(&self, proxy: Option<&Proxy>) -> Option<Way> {
        let Some(proxy) = proxy else { return Some(self.direct.clone()) };
        let mut proxied = self.proxied.lock();
        if let Some(way) = proxied.get(proxy) {
            return Some(way.clone());
        }
        if proxied.len() >= MAX_PROXIES {
            proxied.clear();
        }
        let way = through(proxy, self.connect, &self.trust)?;
        proxied.insert(proxy.clone(), way.clone());
        Some(way)
    }
}

fn why(error: &Error) -> NoAnswer {
    static SELDOM: Seldom = Seldom::new();
    if let Some(distrust) = trust::distrust(error) {
        if SELDOM.is_due() {
            warn!(%distrust, "an upstream is not trusted; --upstream-ca names authorities of your own");
        }
        return NoAnswer::Untrusted;
    }
    let mut known = Extensions::new();
    if let Some(connection) = error.connect_info() {
        connection.get_extras(&mut known);
    }
    match known.get::<Arc<Fate>>() {
        _ if error.is_connect() => NoAnswer::Unreachable,
        Some(fate) if fate.is_unread() => NoAnswer::Unread,
        _ => NoAnswer::Broken,
    }
}

fn client<C>(connector: C, connect: Duration) -> Client<Lines<C>, Sent>
where
    C: Clone,
    Lines<C>: hyper_util::client::legacy::connect::Connect,
{
    Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(MAX_IDLE)
        .http1_max_buf_size(MAX_BUFFER)
        .http2_keep_alive_interval(PING)
        .http2_keep_alive_timeout(PONG)
        .build(Lines { connector, within: connect })
}

fn plain(connect: Duration) -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(connect));
    connector.set_keepalive(Some(Duration::from_secs(30)));
    connector
}

/// TLS where the address asks for it.
fn over<C>(connector: C, trust: &Trust) -> HttpsConnector<C> {
    let builder = HttpsConnectorBuilder::new().with_tls_config(trust.config()).https_or_http();
    builder.enable_all_versions().wrap_connector(connector)
}

fn secured(connect: Duration, trust: &Trust) -> Secured {
    over(plain(connect), trust)
}

fn through(proxy: &Proxy, connect: Duration, trust: &Trust) -> Option<Way> {
    let scheme = match proxy.kind {
        ProxyKind::Http => "http",
        ProxyKind::Https => "https",
        ProxyKind::Socks5 => "socks5",
    };
    let host = if proxy.host.contains(':') { format!("[{}]", proxy.host) } else { proxy.host.clone() };
    let address: Uri = format!("{scheme}://{host}:{}", proxy.port).parse().ok()?;
    let password = || proxy.password.as_ref().map(|password| password.as_str()).unwrap_or_default();
    Some(match (proxy.kind, &proxy.username) {
        (ProxyKind::Socks5, username) => {
            let socks = SocksV5::new(address, plain(connect));
            let socks = match username {
                Some(username) => socks.with_auth(username.clone(), password().to_owned()),
                None => socks,
            };
            Way::Socks(client(over(socks, trust), connect))
        }
        (_, username) => {
            let tunnel = Tunnel::new(address, secured(connect, trust));
            let tunnel = match username {
                Some(username) => tunnel.with_auth(basic(username, password())?),
                None => tunnel,
            };
            Way::Tunnel(client(over(tunnel, trust), connect))
        }
    })
}

fn basic(username: &str, password: &str) -> Option<HeaderValue> {
    let value = format!("Basic {}", BASE64_STANDARD.encode(format!("{username}:{password}")));
    HeaderValue::try_from(value).ok()
}
