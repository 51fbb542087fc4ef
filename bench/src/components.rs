//! What a component costs: compiling, loading from the artefact cache, one call.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::Criterion;
use switchyard::engine::{Engine, Limits, Needs};
use switchyard::store::Store;
use switchyard::store::memory::Memory;
use switchyard::store::redis::{Redis, RedisSettings};
use switchyard::strategy::catalogue::BUILT_IN;
use switchyard_tests::servers;

use crate::stage::{self, Stage};
use crate::twin;

const TURNS: usize = 20;

async fn best(mut turn: impl AsyncFnMut() -> anyhow::Result<()>) -> anyhow::Result<Duration> {
    let mut best = Duration::MAX;
    for _ in 0..TURNS {
        let began = Instant::now();
        turn().await?;
        best = best.min(began.elapsed());
    }
    Ok(best)
}

/// Compile and load.
pub async fn compile() -> anyhow::Result<()> {
    println!("Making a component ready, the best of {TURNS}");
    let both = Needs { redis: true, postgres: true };
    let refused = |refusal: switchyard::engine::Refusal| anyhow::anyhow!(refusal.message);
    let folder = tempfile::tempdir()?;
    let (cold, warm) = (
        Engine::new(Limits::default(), None)?,
        Engine::new(Limits::default(), Some(folder.path().join("artefacts")))?,
    );
    for (name, bytes) in BUILT_IN {
        warm.check(bytes, both).await.map_err(refused)?;
        let compiled = best(async || cold.check(bytes, both).await.map(drop).map_err(refused)).await?;
        let loaded = best(async || warm.check(bytes, both).await.map(drop).map_err(refused)).await?;
        println!("  {name:<16} {:>6} bytes  compile {compiled:>9.1?}  load {loaded:>9.1?}", bytes.len());
    }
    Ok(())
}

/// One `get` that the near side answers: criterion's figures for side, twin and component.
pub fn one_get(runtime: &tokio::runtime::Runtime) -> anyhow::Result<()> {
    println!("One get on a hit of the near cache of Redis (criterion: low, estimate, high)");
    let server = servers::Redis::start();
    let settings = RedisSettings { near_cache_bytes: 64 << 20, ..RedisSettings::new(server.url()) };
    let redis = runtime.block_on(Redis::connect(settings))?;
    let stage = runtime.block_on(Stage::new(Arc::new(redis), Arc::new(Memory::new(1 << 28))))?;
    let side = stage.sides.redis.clone().expect("a Redis side");
    runtime.block_on(stage::fill(&*side))?;
    let stores: [(&str, Arc<dyn Store>); 3] = [
        ("side alone", side),
        ("twin", twin::cache_first(&stage.sides)),
        ("component", runtime.block_on(stage.component("cache_first"))?),
    ];
    let mut criterion = Criterion::default()
        .without_plots()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    let key = stage::name(42);
    for (name, store) in &stores {
        let get = |iterations: u64| {
            runtime.block_on(async {
                let began = Instant::now();
                for _ in 0..iterations {
                    black_box(store.get(&key).await.is_ok());
                    // Lets the connection's own task prove that the near cache is current.
                    tokio::task::consume_budget().await;
                }
                began.elapsed()
            })
        };
        criterion.bench_function(&format!("get/{name}"), |bencher| bencher.iter_custom(get));
    }
    Ok(())
}
