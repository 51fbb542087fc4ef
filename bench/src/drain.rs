//! How fast the drain clears a backlog, and how long a write takes into the other store.

use std::sync::Arc;
use std::time::{Duration, Instant};

use switchyard::engine::Needs;
use switchyard::recovery::conflicts::Conflicts;
use switchyard::recovery::drain::Drain;
use switchyard::store::postgres::{Postgres, PostgresSettings};
use switchyard::store::redis::{Redis, RedisSettings};
use switchyard::store::{Backend, Clock, Expect, Key, Record, Write};
use switchyard::telemetry::Metrics;
use switchyard_tests::servers;

use crate::stage::{self, Stage};

const BACKLOG: u64 = 20_000;
const WRITES: usize = 300;
/// A drain that takes longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(60);

struct Bench {
    stage: Stage,
    redis: Arc<dyn Backend>,
    postgres: Arc<dyn Backend>,
    clock: Clock,
}

impl Bench {
    /// A marked record, as if this store alone had taken it.
    fn marked(&self, n: u64) -> Write {
        let record = Record { version: self.clock.next(), ..(*stage::api_key(n)).clone() };
        Write::new(Arc::new(record), Expect::Anything)
    }

    /// Puts a backlog into one store and drains it into the other.
    async fn backlog(&self, name: &str, from: &Arc<dyn Backend>, first: u64) -> anyhow::Result<()> {
        for chunk in (first..first + BACKLOG).collect::<Vec<_>>().chunks(64) {
            let puts = chunk.iter().map(|n| async { from.put(&self.marked(*n)).await });
            for put in futures::future::join_all(puts).await {
                put?;
            }
        }
        let began = Instant::now();
        let drain = tokio::spawn(self.drain().run(Box::new(|| Needs { redis: true, postgres: true })));
        while from.backlog().await?.records > 0 {
            anyhow::ensure!(began.elapsed() < PATIENCE, "not drained within {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        drain.abort();
        let seconds = began.elapsed().as_secs_f64();
        println!("  {name:<44} {:>9.0} records/s", BACKLOG as f64 / seconds);
        Ok(())
    }

    fn drain(&self) -> Drain {
        let metrics = Metrics::default();
        let conflicts = Arc::new(Conflicts::new(self.postgres.clone(), &metrics));
        Drain::new(self.stage.sides.clone(), jiff::tz::Offset::UTC, conflicts, &metrics)
    }

    /// How long writes take into the other store that nobody has announced: those of another node.
    async fn latency(
        &self,
        name: &str,
        from: &Arc<dyn Backend>,
        to: &Arc<dyn Backend>,
    ) -> anyhow::Result<()> {
        let drain = tokio::spawn(self.drain().run(Box::new(|| Needs { redis: true, postgres: true })));
        let mut took = Vec::new();
        for n in 0..WRITES {
            let write = self.marked(n as u64);
            from.put(&write).await?;
            took.push(arrival(to, &write.record.key, write.record.version).await?);
        }
        drain.abort();
        print(name, took);
        Ok(())
    }
}

/// Until a version is in the store.
async fn arrival(store: &Arc<dyn Backend>, key: &Key, version: u64) -> anyhow::Result<Duration> {
    let began = Instant::now();
    while store.get(key).await?.is_none_or(|held| held.version < version) {
        anyhow::ensure!(began.elapsed() < PATIENCE, "not in the other store within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(began.elapsed())
}

fn print(name: &str, mut took: Vec<Duration>) {
    took.sort_unstable();
    let (median, slow) = (took[took.len() / 2], took[took.len() * 99 / 100]);
    println!("  {name:<44} in the other store after {median:.1?} p50, {slow:.1?} p99");
}

/// Writes through `cache_first`, which this node announces.
async fn announced(urls: &[String; 2], postgres: &Arc<dyn Backend>) -> anyhow::Result<()> {
    use switchyard::store::kind::ACCOUNT;
    use switchyard::strategy::records::Change;
    let folder = tempfile::tempdir()?;
    let flags = ["--redis-url", &urls[0], "--postgres-url", &urls[1], "--strategy", "cache_first"];
    let server =
        switchyard::server::Server::start(switchyard_tests::host::config(folder.path(), &flags)).await?;
    let mut took = Vec::new();
    for n in 0..WRITES {
        let key = Key::new(&ACCOUNT, &format!("a{n}"))?;
        let change = Change { fields: stage::api_key(0).fields.clone(), deleted: false, expires_at: None };
        let written = server.records().put(&key, change, Expect::Anything).await?;
        took.push(arrival(postgres, &key, written.value).await?);
    }
    server.shutdown().await;
    print("a write of this node, cache_first", took);
    Ok(())
}

pub async fn run() -> anyhow::Result<()> {
    println!("The drain between Redis and PostgreSQL, {BACKLOG} marked records each way");
    let server = servers::Redis::start();
    let urls = [server.url(), servers::Postgres::shared().database().await];
    let redis: Arc<dyn Backend> = Arc::new(Redis::connect(RedisSettings::new(&urls[0])).await?);
    let postgres: Arc<dyn Backend> = Arc::new(Postgres::connect(PostgresSettings::new(&urls[1]))?);
    let stage = Stage::new(redis.clone(), postgres.clone()).await?;
    let bench = Bench { stage, redis, postgres, clock: Clock::default() };
    bench.backlog("a backlog from Redis into PostgreSQL", &bench.redis, 0).await?;
    bench.backlog("a backlog from PostgreSQL into Redis", &bench.postgres, BACKLOG).await?;
    bench.latency("a write of another node, from PostgreSQL", &bench.postgres, &bench.redis).await?;
    bench.latency("a write of another node, from Redis", &bench.redis, &bench.postgres).await?;
    announced(&urls, &bench.postgres).await
}
