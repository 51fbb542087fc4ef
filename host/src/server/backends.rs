//! The two stores, from their settings.

use std::fs::File;
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::sync::mpsc;

use crate::config::{Config, Source};
use crate::recovery::refresh;
use crate::store::memory::Memory;
use crate::store::postgres::{Postgres, PostgresSettings};
use crate::store::redis::{Redis, RedisSettings};
use crate::store::side::{Refresh, Side, Sides, Which};
use crate::store::sqlite::{Sqlite, folder};
use crate::store::{Backend, Epoch, Key};
use crate::telemetry::Metrics;

/// The stores that are configured.
pub(super) struct Backends {
    pub(super) sides: Sides,
    /// What serves Redis and PostgreSQL, for people.
    pub(super) names: [&'static str; 2],
    /// Where the catalogue of strategies is kept: in PostgreSQL, or in a file when there is none.
    pub(super) durable: Arc<dyn Backend>,
    /// The epoch of this process.
    pub(super) epoch: Arc<Epoch>,
    /// Copies in Redis that are to be read anew.
    pub(super) old_copies: mpsc::Receiver<Key>,
}

type Opened = Option<(Arc<dyn Backend>, &'static str)>;

impl Backends {
    /// Opens the stores. A server that cannot be reached is no error.
    ///
    /// # Errors
    /// When a URL is malformed or asks for what is not possible, or the data folder cannot be used.
    pub(super) async fn open(config: &Config, metrics: &Metrics) -> Result<Self> {
        let epoch = Arc::<Epoch>::default();
        let redis = open_redis(config, &epoch, metrics).await?;
        let postgres = open_postgres(config, &epoch).await?;
        let durable = match &postgres {
            Some((backend, _)) => backend.clone(),
            None => open_file(config).await?,
        };
        let name = |opened: &Opened| opened.as_ref().map_or("off", |(_, name)| *name);
        let names = [name(&redis), name(&postgres)];
        let (queue, old_copies) = mpsc::channel(refresh::QUEUE);
        let refresh = Refresh { queue, max_age: Box::new(config.max_age()) };
        let side = |which: Which, opened: Opened, refresh| {
            let (backend, _) = opened?;
            Some(Arc::new(Side::new(which, backend, metrics.store(which.name()), refresh)))
        };
        let sides = Sides {
            redis: side(Which::Redis, redis, Some(refresh)),
            postgres: side(Which::Postgres, postgres, None),
        };
        if let (Some(redis), Some(postgres)) = (&sides.redis, &sides.postgres) {
            Side::pair(redis, postgres);
        }
        Ok(Self { sides, names, durable, epoch, old_copies })
    }
}

/// Keeps other processes out of the data folder, where the embedded database does not do so itself.
pub(super) async fn hold_folder(config: &Config) -> Result<Option<File>> {
    match config.postgres()? {
        Source::Url(_) => Ok(Some(folder::take(&config.data, config.postgres_deadline()).await?)),
        Source::Embedded | Source::Off => Ok(None),
    }
}

async fn open_redis(config: &Config, epoch: &Arc<Epoch>, metrics: &Metrics) -> Result<Opened> {
    Ok(match config.redis()? {
        Source::Off => None,
        Source::Embedded => {
            Some((Arc::new(Memory::new((config.embedded_cache_mib as usize) << 20)), "the embedded cache"))
        }
        Source::Url(url) => {
            let settings = RedisSettings {
                deadline: config.redis_deadline(),
                near_cache_bytes: u64::from(config.near_cache_mib) << 20,
                ca_file: config.redis_server.redis_ca_file.clone(),
                epoch: epoch.clone(),
                ..RedisSettings::new(url)
            };
            let redis = Redis::connect(settings).await.context("Redis (--redis-url or REDIS_HOST)")?;
            redis.register(metrics);
            Some((Arc::new(redis), "Redis"))
        }
    })
}

async fn open_postgres(config: &Config, epoch: &Arc<Epoch>) -> Result<Opened> {
    Ok(match config.postgres()? {
        Source::Off => None,
        Source::Embedded => Some((open_file(config).await?, "the embedded database")),
        Source::Url(url) => {
            let settings = PostgresSettings {
                deadline: config.postgres_deadline(),
                connections: config.postgres_connections.into(),
                epoch: epoch.clone(),
                ..PostgresSettings::new(url)
            };
            let postgres =
                Postgres::connect(settings).context("PostgreSQL (--postgres-url or POSTGRES_HOST)")?;
            Some((Arc::new(postgres), "PostgreSQL"))
        }
    })
}

async fn open_file(config: &Config) -> Result<Arc<dyn Backend>> {
    Ok(Arc::new(Sqlite::open(&config.data, config.postgres_deadline()).await?))
}
