//! Upstreams that are reached through a proxy.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::{Relay, new_account};

/// A proxy, and how many connections it has made.
struct Proxy {
    addr: SocketAddr,
    used: Arc<AtomicUsize>,
    _serving: JoinSet<()>,
}

impl Proxy {
    async fn start(kind: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (addr, used) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let (count, mut serving) = (used.clone(), JoinSet::new());
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                let count = count.clone();
                connections.spawn(async move {
                    let target = match kind {
                        "http" => connect(&mut client).await,
                        _ => socks(&mut client).await,
                    };
                    let Some(target) = target else { return };
                    let mut upstream = TcpStream::connect(target).await.unwrap();
                    count.fetch_add(1, Ordering::Relaxed);
                    let _ = copy_bidirectional(&mut client, &mut upstream).await;
                });
            }
        });
        Self { addr, used, _serving: serving }
    }
}

/// HTTP CONNECT by Ada with the password `secret`.
async fn connect(client: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    if !head.to_lowercase().contains("proxy-authorization: basic ") || !head.contains("QWRhOnNlY3JldA==") {
        client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await.ok()?;
        return None;
    }
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok()?;
    head.strip_prefix("CONNECT ")?.split(' ').next().map(str::to_owned)
}

/// SOCKS 5 with a user's name and password.
async fn socks(client: &mut TcpStream) -> Option<String> {
    let mut start = [0; 2];
    client.read_exact(&mut start).await.ok()?;
    let mut methods = vec![0; start[1].into()];
    client.read_exact(&mut methods).await.ok()?;
    if !methods.contains(&2) {
        client.write_all(&[5, 0xff]).await.ok()?;
        return None;
    }
    client.write_all(&[5, 2]).await.ok()?;
    client.read_u8().await.ok()?;
    let mut said = Vec::new();
    for _ in 0..2 {
        let mut part = vec![0; client.read_u8().await.ok()?.into()];
        client.read_exact(&mut part).await.ok()?;
        said.push(part);
    }
    let right = said == [b"Ada".to_vec(), b"secret".to_vec()];
    client.write_all(&[1, u8::from(!right)]).await.ok()?;
    let mut asked = [0; 4];
    client.read_exact(&mut asked).await.ok()?;
    let host = match asked[3] {
        1 => {
            let mut ip = [0; 4];
            client.read_exact(&mut ip).await.ok()?;
            std::net::Ipv4Addr::from(ip).to_string()
        }
        _ => {
            let mut name = vec![0; client.read_u8().await.ok()?.into()];
            client.read_exact(&mut name).await.ok()?;
            String::from_utf8(name).ok()?
        }
    };
    let port = client.read_u16().await.ok()?;
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.ok()?;
    right.then(|| format!("{host}:{port}"))
}

#[tokio::test]
async fn an_account_may_have_a_proxy_of_either_kind_and_connections_are_kept() {
    for kind in ["http", "socks5"] {
        let (relay, proxy) = (Relay::start(&[]).await, Proxy::start(kind).await);
        let setting = |password: &str| {
            let (host, port) = (proxy.addr.ip().to_string(), proxy.addr.port());
            json!({ "type": kind, "host": host, "port": port, "username": "Ada", "password": password })
        };
        new_account(&relay.host, "proxied", &relay.demo.url(), json!({ "proxy": setting("secret") })).await;
        for stream in [false, true, false] {
            let response = relay.ask(stream).await;
            assert_eq!(response.status(), 200, "{kind}");
            response.bytes().await.unwrap();
        }
        assert_eq!(relay.demo.messages(), 3);
        assert_eq!(proxy.used.load(Ordering::Relaxed), 1, "{kind}");
        relay.host.stop().await;
    }
}

#[tokio::test]
async fn a_proxy_that_refuses_is_an_upstream_that_cannot_be_reached() {
    let (relay, proxy) = (Relay::start(&[]).await, Proxy::start("http").await);
    let (host, port) = (proxy.addr.ip().to_string(), proxy.addr.port());
    let setting =
        json!({ "type": "http", "host": host, "port": port, "username": "Ada", "password": "wrong" });
    new_account(&relay.host, "proxied", &relay.demo.url(), json!({ "proxy": setting })).await;
    let response = relay.ask(false).await;
    assert_eq!(response.status(), 502);
    assert!(!response.text().await.unwrap().contains("wrong"));
    assert_eq!(relay.demo.messages(), 0);
    relay.host.stop().await;
}
