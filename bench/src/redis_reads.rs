//! Reads from Redis: component and twin of `cache_first`, with and without the near cache, and the bare driver.

use std::sync::Arc;
use std::time::Duration;

use switchyard::store::memory::Memory;
use switchyard::store::redis::{Redis, RedisSettings};
use switchyard_tests::servers;

use crate::load::{self, Measured, better};
use crate::stage::{self, RECORDS, Stage};
use crate::twin;

const TIME: Duration = Duration::from_secs(2);

async fn stage(url: &str, near_cache_bytes: u64) -> anyhow::Result<Stage> {
    let settings = RedisSettings { near_cache_bytes, ..RedisSettings::new(url) };
    let redis = Redis::connect(settings).await?;
    Stage::new(Arc::new(redis), Arc::new(Memory::new(1 << 28))).await
}

type Reads = Arc<dyn switchyard::store::Store>;

async fn read(name: &str, in_flight: usize, store: &Reads) -> Measured {
    let store = store.clone();
    load::run(name, in_flight, TIME, move |n| {
        let store = store.clone();
        async move { store.get(&stage::name(n * 7_919 % RECORDS)).await.is_ok_and(|found| found.is_some()) }
    })
    .await
}

async fn driver(in_flight: usize, connection: &redis::aio::MultiplexedConnection) -> Measured {
    let connection = connection.clone();
    load::run("redis crate, HGETALL", in_flight, TIME, move |n| {
        let mut connection = connection.clone();
        async move {
            let key = format!("apikey:key-{:08}", n * 7_919 % RECORDS);
            let reply = redis::cmd("HGETALL").arg(key).query_async::<redis::Value>(&mut connection).await;
            reply.is_ok()
        }
    })
    .await
}

pub async fn run() -> anyhow::Result<()> {
    println!("Redis reads, {RECORDS} records of ten fields, the better of two turns of {TIME:?}");
    let server = servers::Redis::start();
    let (far, near) = (stage(&server.url(), 0).await?, stage(&server.url(), 64 << 20).await?);
    stage::fill(&**far.sides.redis.as_ref().expect("a Redis side")).await?;
    let client = redis::Client::open(server.url())?;
    let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(5)));
    let connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    let stores = [
        ("twin, no near cache", twin::cache_first(&far.sides)),
        ("component, no near cache", far.component("cache_first").await?),
        ("twin, near cache", twin::cache_first(&near.sides)),
        ("component, near cache", near.component("cache_first").await?),
    ];
    for in_flight in [64, 256] {
        println!(" {in_flight} in flight");
        let mut turns = Vec::new();
        for _ in 0..2 {
            let mut turn = vec![driver(in_flight, &connection).await];
            for (name, store) in &stores {
                turn.push(read(name, in_flight, store).await);
            }
            turns.push(turn);
        }
        let (second, first) = (turns.pop().unwrap_or_default(), turns.pop().unwrap_or_default());
        let measured: Vec<_> = first.into_iter().zip(second).map(|(a, b)| better(a, b)).collect();
        measured.iter().for_each(|line| line.print(measured.first()));
    }
    Ok(())
}
