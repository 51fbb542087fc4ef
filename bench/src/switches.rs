//! A thousand switches between two different components under load: what they cost those who do not switch.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use switchyard::server::Server;
use switchyard::store::{Expect, Key, kind};
use switchyard::strategy::records::{Change, Records};
use switchyard_tests::host::config;
use switchyard_tests::servers;

use crate::load::{self, Measured, resident_mib};
use crate::stage;

const SWITCHES: usize = 1_000;
const IN_FLIGHT: usize = 64;
const QUIET: Duration = Duration::from_secs(5);

/// Nine reads and a write; each must succeed, and a write must read back at least as new.
async fn call(records: Arc<Records>, n: u64) -> bool {
    let key = Key::new(&kind::ACCOUNT, &format!("a{}", n % 1_000)).expect("a valid id");
    if !n.is_multiple_of(10) {
        return records.get(&key).await.is_ok_and(|read| read.value.is_some());
    }
    let change = Change { fields: stage::api_key(n).fields.clone(), deleted: false, expires_at: None };
    let Ok(written) = records.put(&key, change, Expect::Anything).await else { return false };
    let read = records.get(&key).await;
    read.is_ok_and(|read| read.value.is_some_and(|record| record.version >= written.value))
}

async fn load_for(name: &str, time: Duration, records: &Arc<Records>) -> Measured {
    let records = records.clone();
    load::run(name, IN_FLIGHT, time, move |n| call(records.clone(), n)).await
}

async fn switching(server: &Server, name: &str) -> anyhow::Result<()> {
    let records = server.records().clone();
    for n in 0..1_000 {
        call(records.clone(), n * 10).await;
    }
    let quiet = load_for(&format!("{name}, quiet"), QUIET, &records).await;
    let before = resident_mib();
    let done = Arc::new(AtomicBool::new(false));
    let loads = tokio::spawn({
        let (records, done) = (records.clone(), done.clone());
        async move {
            let mut turns = Vec::new();
            while !done.load(Ordering::Acquire) {
                turns.push(load_for("", Duration::from_secs(1), &records).await);
            }
            turns
        }
    });
    let (mut took, mut undrained) = (Vec::new(), 0);
    for n in 0..SWITCHES {
        let strategy = if n % 2 == 0 { "cache_first" } else { "dual_write" };
        let began = Instant::now();
        let switched = server.strategies().activate(strategy, None, None, "bench", "bench").await?;
        took.push(began.elapsed());
        undrained += usize::from(!switched.drain.drained);
    }
    done.store(true, Ordering::Release);
    let turns = loads.await?;
    let during = Measured::together(&format!("{name}, {SWITCHES} switches"), turns);
    took.sort_unstable();
    quiet.print(None);
    during.print(Some(&quiet));
    println!(
        "  a switch takes {:.1?} p50, {:.1?} p99; {undrained} not drained; p99 of calls {:.2} of quiet; memory {:+.1} MiB",
        took[SWITCHES / 2],
        took[SWITCHES * 99 / 100],
        during.quantile(0.99) / quiet.quantile(0.99),
        resident_mib() - before
    );
    Ok(())
}

pub async fn run() -> anyhow::Result<()> {
    println!("Switches between dual_write and cache_first, {IN_FLIGHT} in flight, one call in ten a write");
    let folder = tempfile::tempdir()?;
    let server = Server::start(config(folder.path(), &[])).await?;
    switching(&server, "embedded").await?;
    server.shutdown().await;
    let (folder, redis) = (tempfile::tempdir()?, servers::Redis::start());
    let (redis_url, postgres_url) = (redis.url(), servers::Postgres::shared().database().await);
    let flags = ["--redis-url", &redis_url, "--postgres-url", &postgres_url];
    let server = Server::start(config(folder.path(), &flags)).await?;
    switching(&server, "Redis and PostgreSQL").await?;
    server.shutdown().await;
    Ok(())
}
