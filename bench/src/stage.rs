//! A strategy over two backends, without the server around it.

use std::sync::Arc;

use switchyard::engine::{Engine, Limits, Needs};
use switchyard::store::side::{Side, Sides, Which};
use switchyard::store::{Backend, Fields, Key, Kind, Record, Store, Write, kind};
use switchyard::strategy::catalogue::BUILT_IN;
use switchyard::telemetry::Metrics;

/// How many records the reads are spread over.
pub const RECORDS: u64 = 10_000;

pub struct Stage {
    pub sides: Sides,
    pub engine: Engine,
    metrics: Metrics,
}

impl Stage {
    /// Over two backends, which are marked complete for every kind.
    pub async fn new(redis: Arc<dyn Backend>, postgres: Arc<dyn Backend>) -> anyhow::Result<Self> {
        let metrics = Metrics::default();
        for backend in [&redis, &postgres] {
            for kind in Kind::public().chain([&kind::USAGE]) {
                backend.set_complete(kind).await?;
            }
        }
        let side = |which: Which, backend| {
            Some(Arc::new(Side::new(which, backend, metrics.store(which.name()), None)))
        };
        let sides = Sides { redis: side(Which::Redis, redis), postgres: side(Which::Postgres, postgres) };
        let engine = Engine::new(Limits::default(), None)?;
        Ok(Self { sides, engine, metrics })
    }

    /// A built-in strategy as a component.
    pub async fn component(&self, name: &str) -> anyhow::Result<Arc<dyn Store>> {
        let (_, bytes) =
            BUILT_IN.iter().find(|(built_in, _)| *built_in == name).expect("a built-in strategy");
        let configured = Needs { redis: true, postgres: true };
        let compiled = self.engine.check(bytes, configured).await.map_err(|r| anyhow::anyhow!(r.message))?;
        Ok(Arc::new(self.engine.load(&compiled, self.sides.clone(), name, 1, &self.metrics)))
    }
}

/// The n-th API key of a benchmark: ten fields, about 400 bytes.
pub fn api_key(n: u64) -> Arc<Record> {
    let mut fields: Fields =
        (0..8).map(|field| (format!("field{field}"), format!("value {field} of record {n:08}"))).collect();
    fields.insert("name".into(), format!("key {n}"));
    fields.insert("apiKey".into(), format!("{n:064x}"));
    let key = name(n);
    Arc::new(Record { key, version: 1_000 + n, deleted: false, fields, expires_at: None, cached_at: None })
}

pub fn name(n: u64) -> Key {
    Key::new(&kind::API_KEY, &format!("key-{n:08}")).expect("a valid id")
}

/// Puts all records into a store.
pub async fn fill(store: &dyn Store) -> anyhow::Result<()> {
    for chunk in (0..RECORDS).collect::<Vec<_>>().chunks(64) {
        let puts = chunk.iter().map(|n| async { store.put(&Write::copy(api_key(*n))).await });
        for put in futures::future::join_all(puts).await {
            put?;
        }
    }
    Ok(())
}
