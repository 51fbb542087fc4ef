//! The server: stores, strategies and surfaces put together, and their end.

mod backends;
mod core;
mod limits;
mod relaying;
mod signs;
mod token;

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::accounts::Accounts;
use crate::config::Config;
use crate::demo::Demo;
use crate::http;
use crate::keys::Keys;
use crate::limits::Limits;
use crate::relay::Relay;
use crate::strategy::Strategies;
use crate::strategy::records::Records;
use crate::strategy::watcher::{Watcher, WatcherStatus};
use crate::telemetry::Metrics;
use backends::Backends;
use core::Core;
use token::AdminToken;

/// How long the end waits for usage to be recorded; what is left then, the next start records.
const FLUSH: Duration = Duration::from_secs(2);
/// How long an end in order waits for what was used to be settled.
const SETTLING: Duration = Duration::from_secs(1);

/// A running server. Dropping it ends its tasks at once; [`Server::shutdown`] ends it in order.
pub struct Server {
    addr: SocketAddr,
    token: AdminToken,
    core: Core,
    metrics: Metrics,
    ending: CancellationToken,
    listener: JoinHandle<()>,
    /// What goes on in the background; ends with this.
    tasks: JoinSet<()>,
    /// Ends with this.
    _demo: Option<Demo>,
    /// Locked for this process.
    _folder: Option<File>,
}

impl Server {
    /// Starts a server, which serves when this returns. Stores that cannot be reached do not prevent it.
    ///
    /// # Errors
    /// When a setting is wrong, the address is taken, or the data folder cannot be used.
    pub async fn start(config: Config) -> Result<Self> {
        config.check()?;
        create_private(&config.data)?;
        let token = AdminToken::load(config.admin_token.as_deref(), &config.data)?;
        if config.timezone_offset.is_none() && config.secret.encryption_key.is_some() {
            warn!(
                "TIMEZONE_OFFSET is not given: days of usage begin at midnight UTC. Claude Relay Service's begin at \
                 midnight of its own TIMEZONE_OFFSET, 8 unless it was told otherwise; give the same one"
            );
        }
        let metrics = Metrics::default();
        let folder = backends::hold_folder(&config).await?;
        let backends = Backends::open(&config, &metrics).await?;
        let mut tasks = JoinSet::new();
        let core = Core::start(&config, backends, &metrics, &mut tasks).await?;
        tasks.spawn(core.accounts.clone().keep_sealed());
        let watcher = watch(&config, &core.strategies, &metrics, &mut tasks);
        let ending = CancellationToken::new();
        let (relay, demo) = relaying::start(&config, &core, &metrics).await?;
        let router = http::router(surfaces(&core, &config, relay, watcher, &metrics, &token, &ending))?;
        let listener = TcpListener::bind(config.listen).await;
        let listener = listener.with_context(|| format!("--listen {}", config.listen))?;
        let addr = listener.local_addr()?;
        let listener = tokio::spawn(http::listener::serve(listener, router, ending.clone()));
        info!(%addr, strategy = core.strategies.active.enter().label(), "serving");
        Ok(Self { addr, token, core, metrics, ending, listener, tasks, _demo: demo, _folder: folder })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn admin_token(&self) -> &str {
        &self.token.token
    }

    /// Whether this start has generated the token, so that it must be shown.
    pub fn token_is_new(&self) -> bool {
        self.token.is_new
    }

    pub fn records(&self) -> &Arc<Records> {
        &self.core.records
    }

    pub fn keys(&self) -> &Arc<Keys> {
        &self.core.keys
    }

    pub fn strategies(&self) -> &Arc<Strategies> {
        &self.core.strategies
    }

    pub fn accounts(&self) -> &Arc<Accounts> {
        &self.core.accounts
    }

    pub fn limits(&self) -> &Limits {
        &self.core.limits
    }

    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Accepts nothing more, lets requests in flight end for at most ten seconds, then ends.
    pub async fn shutdown(mut self) {
        self.ending.cancel();
        if let Err(error) = (&mut self.listener).await {
            tracing::error!(%error, "the listener ended unexpectedly");
        }
        self.core.usage.flush(&self.core.records, FLUSH).await;
        self.core.limits.close(SETTLING).await;
        self.tasks.shutdown().await;
        self.core.cluster.leave().await;
        info!("ended");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ending.cancel();
    }
}

/// What the surfaces are served from.
fn surfaces(
    core: &Core,
    config: &Config,
    relay: Arc<Relay>,
    watcher: Option<Arc<Mutex<WatcherStatus>>>,
    metrics: &Metrics,
    token: &AdminToken,
    ending: &CancellationToken,
) -> http::Parts {
    http::Parts {
        records: core.records.clone(),
        keys: core.keys.clone(),
        strategies: core.strategies.clone(),
        health: core.health.clone(),
        modes: core.modes.clone(),
        conflicts: core.conflicts.clone(),
        drain: core.drain.clone(),
        spool: core.spool.clone(),
        cluster: core.cluster.clone(),
        operations: core.operations.clone(),
        usage: core.usage.clone(),
        accounts: core.accounts.clone(),
        relay,
        watcher,
        metrics: metrics.clone(),
        token: token.token.clone(),
        node: core.cluster.node().to_owned(),
        sync_enabled: config.seed.database_sync_enabled,
        ending: ending.clone(),
    }
}

/// Watches the folder that is configured, if one is.
fn watch(
    config: &Config,
    strategies: &Arc<Strategies>,
    metrics: &Metrics,
    tasks: &mut JoinSet<()>,
) -> Option<Arc<Mutex<WatcherStatus>>> {
    let watcher = Watcher::new(config.watch.as_deref()?, strategies.clone(), metrics);
    let status = watcher.status();
    tasks.spawn(watcher.run());
    Some(status)
}

/// A folder that only its owner can look into, as far as it is ours to create.
fn create_private(folder: &Path) -> Result<()> {
    let created = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    created.with_context(|| format!("--data (SWITCHYARD_DATA): creating {}", folder.display()))
}
