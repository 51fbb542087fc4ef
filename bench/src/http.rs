//! `GET` over HTTP at 64 connections: component and twin, and the server's own answer without a store.

use std::net::SocketAddr;
use std::time::Duration;

use switchyard::server::Server;
use switchyard::strategy::generation::Generation;
use switchyard_tests::host::{TOKEN, config};

use crate::connections::Connections;
use crate::load::{self, Measured, better};
use crate::stage::{self, RECORDS};
use crate::twin;

const CONNECTIONS: usize = 64;
const TIME: Duration = Duration::from_secs(3);

async fn gets(name: &str, addr: SocketAddr, record: bool) -> anyhow::Result<Measured> {
    let connections = std::sync::Arc::new(Connections::open(addr, CONNECTIONS).await?);
    let call = move |n: u64| {
        let connections = connections.clone();
        async move {
            let path = match record {
                true => format!("/store/v1/records/api_key/key-{:08}", n * 7_919 % RECORDS),
                false => "/livez".to_owned(),
            };
            let request =
                format!("GET {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {TOKEN}\r\n\r\n");
            connections.send(n, request.as_bytes()).await.unwrap_or(false)
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
