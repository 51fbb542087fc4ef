//! `GET` over HTTP at 64 connections: component and twin, and the server's own answer without a store.

use std::net::SocketAddr;
use std::time::Duration;

use switchyard::server::Server;
use switchyard::strategy::generation::Generation;
use switchyard_tests::host::{TOKEN, config};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use crate::load::{self, Measured, better};
use crate::stage::{self, RECORDS};
use crate::twin;

const CONNECTIONS: usize = 64;
const TIME: Duration = Duration::from_secs(3);

/// A pool of kept connections that speak just enough HTTP/1.1.
struct Connections(Vec<Mutex<TcpStream>>);

impl Connections {
    async fn open(addr: SocketAddr) -> anyhow::Result<Self> {
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            let stream = TcpStream::connect(addr).await?;
            stream.set_nodelay(true)?;
            connections.push(Mutex::new(stream));
        }
        Ok(Self(connections))
    }

    /// One request on a connection that nobody else uses; true for a 200.
    async fn get(&self, n: u64, path: &str) -> std::io::Result<bool> {
        let mut stream = loop {
            let free = self.0.iter().cycle().skip(n as usize % CONNECTIONS).take(CONNECTIONS);
            match free.map(Mutex::try_lock).find_map(Result::ok) {
                Some(stream) => break stream,
                None => tokio::task::yield_now().await,
            }
        };
        let request = format!("GET {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {TOKEN}\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let (mut buffer, mut have) = ([0; 8_192], 0);
        loop {
            have += stream.read(&mut buffer[have..]).await?;
            let text = std::str::from_utf8(&buffer[..have]).unwrap_or_default();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() == length.and_then(|n| n.parse().ok()).unwrap_or(0) {
                return Ok(head.starts_with("HTTP/1.1 200"));
            }
        }
    }
}

async fn gets(name: &str, addr: SocketAddr, record: bool) -> anyhow::Result<Measured> {
    let connections = std::sync::Arc::new(Connections::open(addr).await?);
    let call = move |n: u64| {
        let connections = connections.clone();
        async move {
            let path = match record {
                true => format!("/store/v1/records/api_key/key-{:08}", n * 7_919 % RECORDS),
                false => "/livez".to_owned(),
            };
            connections.get(n, &path).await.unwrap_or(false)
        }
    };
    Ok(load::run(name, CONNECTIONS, TIME, call).await)
}

pub async fn run() -> anyhow::Result<()> {
    println!(
        "HTTP GET of a record, {CONNECTIONS} connections, client in the same process, best of two turns"
    );
    let folder = tempfile::tempdir()?;
    let server = Server::start(config(folder.path(), &[])).await?;
    stage::fill(&**server.records().sides.redis.as_ref().expect("a Redis side")).await?;
    let active = &server.records().active;
    let component = active.enter();
    let (digest, needs) = (component.digest.clone(), component.needs);
    let as_generation = |number, store| Generation::new(number, "dual_write", digest.clone(), needs, store);
    let mut best: Vec<Measured> = Vec::new();
    for turn in 0..2 {
        active.replace(as_generation(1, twin::dual_write(&server.records().sides)), TIME).await;
        let native = gets("twin", server.addr(), true).await?;
        active.replace(as_generation(2, component.store.clone()), TIME).await;
        let measured = [
            native,
            gets("component", server.addr(), true).await?,
            gets("/livez", server.addr(), false).await?,
        ];
        best = match turn {
            0 => measured.into(),
            _ => best.into_iter().zip(measured).map(|(a, b)| better(a, b)).collect(),
        };
    }
    best.iter().for_each(|line| line.print(best.first()));
    println!("  p99 of the component: {:.2} of the twin's", best[1].quantile(0.99) / best[0].quantile(0.99));
    drop(component);
    server.shutdown().await;
    Ok(())
}
