//! A reverse proxy of the relay's own HTTP library that does nothing else: what a relay made of it could reach at most.

use std::net::SocketAddr;

use anyhow::Context;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

type Upstream = Client<HttpConnector, Incoming>;

/// Listens until this is dropped.
pub struct Bare {
    pub addr: SocketAddr,
    _serving: AbortOnDropHandle<()>,
}

impl Bare {
    pub async fn start(upstream: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("a port")?;
        let addr = listener.local_addr()?;
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, client.clone(), upstream));
            }
        });
        Ok(Self { addr, _serving: AbortOnDropHandle::new(serving) })
    }
}

async fn serve(stream: TcpStream, client: Upstream, upstream: SocketAddr) {
    let forward = service_fn(move |mut request: Request<Incoming>| {
        let client = client.clone();
        async move {
            *request.uri_mut() = to(upstream, request.uri())?;
            Ok::<_, anyhow::Error>(client.request(request).await?)
        }
    });
    // The client may go away.
    let _ = stream.set_nodelay(true);
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), forward).await;
}

fn to(upstream: SocketAddr, uri: &Uri) -> anyhow::Result<Uri> {
    let mut parts = uri.clone().into_parts();
    (parts.scheme, parts.authority) = (Some("http".parse()?), Some(upstream.to_string().parse()?));
    Ok(Uri::from_parts(parts)?)
}
