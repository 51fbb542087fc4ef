//! A full consistency check of 100,000 records on real servers: how long, and what it costs live traffic.

use std::sync::Arc;
use std::time::{Duration, Instant};

use switchyard::server::Server;
use switchyard::store::{Expect, Key, kind};
use switchyard::strategy::records::{Change, Records};
use switchyard_tests::host::{Client, config};
use switchyard_tests::servers;

use crate::load::{self, Measured};
use crate::stage;

const ALL: u64 = 100_000;
/// Live traffic: few enough calls at a time that it does not use up the machine by itself.
const IN_FLIGHT: usize = 4;
const TURN: Duration = Duration::from_secs(5);

/// Nine reads and a write.
async fn call(records: Arc<Records>, n: u64) -> bool {
    // Some pace of its own: a load that takes whatever it gets measures the machine.
    tokio::time::sleep(Duration::from_millis(2)).await;
    let key = key(n * 7_919 % ALL);
    if !n.is_multiple_of(10) {
        return records.get(&key).await.is_ok_and(|read| read.value.is_some());
    }
    write(records, key, n).await
}

fn key(n: u64) -> Key {
    Key::new(&kind::ACCOUNT, &format!("a{n}")).expect("a valid id")
}

async fn write(records: Arc<Records>, key: Key, n: u64) -> bool {
    let change = Change { fields: stage::api_key(n).fields.clone(), deleted: false, expires_at: None };
    records.put(&key, change, Expect::Anything).await.is_ok()
}

async fn traffic(name: &str, records: &Arc<Records>) -> Measured {
    let records = records.clone();
    load::run(name, IN_FLIGHT, TURN, move |n| call(records.clone(), n)).await
}

async fn state(client: &Client, path: &str) -> serde_json::Value {
    client.get(path).await.body
}

pub async fn run() -> anyhow::Result<()> {
    println!("Consistency check of {ALL} records, Redis and PostgreSQL, with live traffic beside it");
    let folder = tempfile::tempdir()?;
    let redis = servers::Redis::start();
    let (redis_url, postgres_url) = (redis.url(), servers::Postgres::shared().database().await);
    let flags = ["--redis-url", &redis_url, "--postgres-url", &postgres_url];
    let server = Server::start(config(folder.path(), &flags)).await?;
    let records = server.records().clone();
    for chunk in (0..ALL).collect::<Vec<_>>().chunks(256) {
        let writes = chunk.iter().map(|n| write(records.clone(), key(*n), *n));
        anyhow::ensure!(futures::future::join_all(writes).await.into_iter().all(|ok| ok), "a write failed");
    }
    let quiet = traffic("without a check", &records).await;
    let client = Client::new(format!("http://{}", server.addr()));
    let began = Instant::now();
    let answer = client.get("/admin/database/consistency-check").await.body;
    let path = format!("/admin/operations/{}", answer["data"]["id"].as_str().unwrap_or_default());
    let (mut turns, mut ended) = (Vec::new(), None);
    while ended.is_none() {
        turns.push(traffic("turn", &records).await);
        let now = state(&client, &path).await;
        ended = (now["state"] != "running").then_some(now);
    }
    let ended = ended.unwrap_or_default();
    let took =
        ended["ended_at"].as_f64().zip(ended["started_at"].as_f64()).map_or(0.0, |(e, s)| (e - s) / 1e3);
    let busy = Measured::together("while it is checked", turns);
    quiet.print(None);
    busy.print(Some(&quiet));
    println!(
        "  checked {} records in {took:.1} s ({} s with the last turn); consistent: {}; p99 {:.2} of quiet",
        ended["result"]["compared"],
        began.elapsed().as_secs(),
        ended["result"]["consistent"],
        busy.quantile(0.99) / quiet.quantile(0.99)
    );
    server.shutdown().await;
    Ok(())
}
