//! A thousand switches between two different components under load: what they cost those who do not switch.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use switchyard::server::Server;
use switchyard::store::{Expect, Key, kind};
use switchyard::strategy::activation::Wish;
use switchyard::strategy::records::{Change, Records};
use switchyard_tests::host::config;
use switchyard_tests::servers;

use crate::load::{self, Measured, resident_mib};
use crate::stage;

const RECORDS: u64 = 1_000;
const IN_FLIGHT: usize = 64;
const QUIET: Duration = Duration::from_secs(5);

/// Nine reads and a write; each must succeed, and a write must read back at least as new.
async fn call(records: Arc<Records>, n: u64) -> bool {
    let key = Key::new(&kind::ACCOUNT, &format!("a{}", n % RECORDS)).expect("a valid id");
    if !n.is_multiple_of(10) {
        return records.get(&key).await.is_ok_and(|read| read.value.is_some());
    }
    write(records, key, n).await
}

async fn write(records: Arc<Records>, key: Key, n: u64) -> bool {
    let change = Change { fields: stage::api_key(n).fields.clone(), deleted: false, expires_at: None };
    let Ok(written) = records.put(&key, change, Expect::Anything).await else { return false };
    let read = records.get(&key).await;
    read.is_ok_and(|read| read.value.is_some_and(|record| record.version >= written.value))
}

async fn load_for(name: &str, time: Duration, records: &Arc<Records>) -> Measured {
    let records = records.clone();
    load::run(name, IN_FLIGHT, time, move |n| call(records.clone(), n)).await
}

/// So many switches, one after the other, while the load goes on.
async fn switch(server: &Server, between: [&str; 2], switches: usize) -> anyhow::Result<()> {
    let (mut took, mut undrained) = (Vec::new(), 0);
    for n in 0..switches {
        let began = Instant::now();
        let switched =
            server.strategies().activate(between[n % 2], Wish::default(), "bench", "bench").await?;
        took.push(began.elapsed());
        undrained += usize::from(!switched.drain.drained);
    }
    took.sort_unstable();
    let (median, slow) = (took[switches / 2], took[switches * 99 / 100]);
    println!("  a switch takes {median:.1?} p50, {slow:.1?} p99; {undrained} not drained");
    Ok(())
}

async fn switching(server: &Server, between: [&str; 2], switches: usize) -> anyhow::Result<()> {
    let records = server.records().clone();
    for n in 0..RECORDS {
        let key = Key::new(&kind::ACCOUNT, &format!("a{n}"))?;
        anyhow::ensure!(write(records.clone(), key, n).await, "the records are written");
    }
    let quiet = load_for("quiet", QUIET, &records).await;
    let before = resident_mib();
    let done = Arc::new(AtomicBool::new(false));
    let load = tokio::spawn({
        let (records, done) = (records.clone(), done.clone());
        async move {
            let mut turns = Vec::new();
            while !done.load(Ordering::Acquire) {
                turns.push(load_for("", Duration::from_secs(1), &records).await);
            }
            turns
        }
    });
    switch(server, between, switches).await?;
    done.store(true, Ordering::Release);
    let during =
        Measured::together(&format!("{switches} switches, {} and {}", between[0], between[1]), load.await?);
    quiet.print(None);
    during.print(Some(&quiet));
    let ratio = during.quantile(0.99) / quiet.quantile(0.99);
    println!("  p99 of calls {ratio:.2} of quiet; memory {:+.1} MiB", resident_mib() - before);
    Ok(())
}

/// The second pair has something to carry over at each switch: PostgreSQL follows Redis in `cache_first`.
async fn pairs(server: &Server) -> anyhow::Result<()> {
    switching(server, ["database_first", "dual_write"], 1_000).await?;
    switching(server, ["cache_first", "dual_write"], 200).await
}

pub async fn run() -> anyhow::Result<()> {
    println!("Switches, {IN_FLIGHT} calls in flight, one in ten a write that is read back");
    println!(" embedded");
    let folder = tempfile::tempdir()?;
    let server = Server::start(config(folder.path(), &[])).await?;
    pairs(&server).await?;
    server.shutdown().await;
    println!(" Redis and PostgreSQL");
    let (folder, redis) = (tempfile::tempdir()?, servers::Redis::start());
    let (redis_url, postgres_url) = (redis.url(), servers::Postgres::shared().database().await);
    let flags = ["--redis-url", &redis_url, "--postgres-url", &postgres_url];
    let server = Server::start(config(folder.path(), &flags)).await?;
    pairs(&server).await?;
    server.shutdown().await;
    Ok(())
}
