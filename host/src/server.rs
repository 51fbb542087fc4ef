//! The server: stores, strategies and surfaces put together, and their end.

mod backends;
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
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::cluster::identity::Identity;
use crate::cluster::{self, Cluster};
use crate::config::Config;
use crate::engine::{Engine, Limits};
use crate::http;
use crate::recovery::authority::Authorities;
use crate::recovery::complete::Copying;
use crate::recovery::conflicts::Conflicts;
use crate::recovery::degrade::{Look, Modes, Seen, Supervised, Supervisor};
use crate::recovery::drain::Drain;
use crate::recovery::health::Health;
use crate::recovery::operations::{self, Operations};
use crate::recovery::refresh;
use crate::recovery::repair::Repair;
use crate::recovery::spool::{self, Spool};
use crate::recovery::trust::Trust;
use crate::store::Clock;
use crate::strategy::catalogue::Catalogue;
use crate::strategy::records::Records;
use crate::strategy::watcher::{Watcher, WatcherStatus};
use crate::strategy::{IsUp, Parts, Strategies};
use crate::telemetry::Metrics;
use backends::Backends;
use token::AdminToken;

/// How long a start waits for the stores: long enough for those that are there, and no reason to wait for
/// those that are not.
const PATIENCE: Duration = Duration::from_secs(2);

/// A running server. Dropping it ends its tasks at once; [`Server::shutdown`] ends it in order.
pub struct Server {
    addr: SocketAddr,
    token: AdminToken,
    records: Arc<Records>,
    strategies: Arc<Strategies>,
    metrics: Metrics,
    cluster: Arc<Cluster>,
    ending: CancellationToken,
    listener: JoinHandle<()>,
    /// What goes on in the background; ends with this.
    tasks: JoinSet<()>,
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
        let metrics = Metrics::default();
        let folder = backends::hold_folder(&config).await?;
        let backends = Backends::open(&config, &metrics).await?;
        let mut tasks = JoinSet::new();
        let core = Core::start(&config, backends, &metrics, &mut tasks).await?;
        let watcher = watch(&config, &core.strategies, &metrics, &mut tasks);
        let ending = CancellationToken::new();
        let router = http::router(surfaces(&core, &config, watcher, &metrics, &token, &ending))?;
        let node = config.node_id.clone().unwrap_or_else(host_name);
        let core = Core::start(&config, &node, backends, &metrics, &mut tasks).await?;
        let watcher = config.watch.as_deref().map(|folder| {
            let watcher = Watcher::new(folder, core.strategies.clone(), &metrics);
            let status = watcher.status();
            tasks.spawn(watcher.run());
            status
        });
        let ending = CancellationToken::new();
        let (records, strategies) = (core.records.clone(), core.strategies.clone());
        let router = http::router(http::Parts {
            records: core.records,
            strategies: core.strategies,
            health: core.health,
            operations: core.operations,
            watcher,
            metrics: metrics.clone(),
            token: token.token.clone(),
            node,
            sync_enabled: config.seed.database_sync_enabled,
            ending: ending.clone(),
        })?;
        let listener = TcpListener::bind(config.listen).await;
        let listener = listener.with_context(|| format!("--listen {}", config.listen))?;
        let addr = listener.local_addr()?;
        let listener = tokio::spawn(http::listener::serve(listener, router, ending.clone()));
        let Core { records, strategies, cluster, .. } = core;
        info!(%addr, strategy = strategies.active.enter().label(), "serving");
        Ok(Self {
            addr,
            token,
            records,
            strategies,
            metrics,
            cluster,
            ending,
            listener,
            tasks,
            _folder: folder,
        })
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
        &self.records
    }

    pub fn strategies(&self) -> &Arc<Strategies> {
        &self.strategies
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
        self.tasks.shutdown().await;
        self.cluster.leave().await;
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
    watcher: Option<Arc<Mutex<WatcherStatus>>>,
    metrics: &Metrics,
    token: &AdminToken,
    ending: &CancellationToken,
) -> http::Parts {
    http::Parts {
        records: core.records.clone(),
        strategies: core.strategies.clone(),
        health: core.health.clone(),
        modes: core.modes.clone(),
        conflicts: core.conflicts.clone(),
        drain: core.drain.clone(),
        spool: core.spool.clone(),
        cluster: core.cluster.clone(),
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

/// Everything behind the surfaces.
struct Core {
    records: Arc<Records>,
    strategies: Arc<Strategies>,
    health: Arc<Health>,
    modes: Arc<Modes>,
    conflicts: Arc<Conflicts>,
    drain: Drain,
    spool: Arc<Spool>,
    cluster: Arc<Cluster>,
    operations: Arc<Operations>,
}

impl Core {
    async fn start(
        config: &Config,
        node: &str,
        backends: Backends,
        metrics: &Metrics,
        tasks: &mut JoinSet<()>,
    ) -> Result<Self> {
        let Backends { sides, names, durable, epoch, old_copies } = backends;
        let trust = Arc::new(Trust::new(sides.clone()));
        tasks.spawn(trust.clone().run());
        let health = Arc::new(Health::new(&sides, names, metrics));
        // A store that does not answer in time is found again by the probes in the background.
        let _ = timeout(PATIENCE, health.probe()).await;
        let clock = Arc::new(Clock::default());
        let conflicts = Arc::new(Conflicts::new(durable.clone(), metrics));
        let identity = Identity::load(config.node_id.as_deref(), &config.data)?;
        cluster::enter(&identity, &sides, &clock).await?;
        let catalogue = Catalogue::new(durable, clock.clone(), config.data.join("components"));
        let drain = Drain::new(sides.clone(), config.offset(), conflicts.clone(), metrics);
        let catalogue = Catalogue::new(durable.clone(), clock.clone(), config.data.join("components"));
        let drain = Drain::new(sides.clone(), config.offset(), metrics);
        let carry = Arc::new(drain.clone());
        let authorities = Authorities::new(sides.clone(), epoch.clone(), identity.node.clone());
        let authorities = Arc::new(authorities);
        let parts = Parts {
            engine: Engine::new(limits(config), Some(config.data.join("artefacts")))?,
            catalogue: Arc::new(catalogue),
            sides: sides.clone(),
            carry: carry.clone(),
            data: config.data.clone(),
            is_up: is_up(&health),
            prepare: authorities.clone(),
            metrics: metrics.clone(),
        };
        let strategies = Arc::new(Strategies::start(parts, config.first_strategy()?).await?);
        let (done, completed) = tokio::sync::oneshot::channel();
        let (sides_of_repair, offset) = (sides.clone(), config.offset());
        let repair =
            Repair::new(sides_of_repair, trust, copying(config), offset, carry.clone(), strategies.clone());
        tasks.spawn(repair.run(done));
        tasks.spawn(health.clone().run());
        let modes = Arc::new(Modes::new(metrics));
        let supervised: Supervised = (strategies.clone(), authorities, carry.clone(), modes.clone());
        tasks.spawn(Supervisor::new(supervised, look(&health)).run());
        tasks.spawn(refresh::run(sides.clone(), old_copies));
        tasks.spawn(drain.clone().run(strategies.active.clone()));
        tasks.spawn(drain.run(strategies.active.clone(), look_every(config)));
        if health.stores().iter().all(|store| store.up) {
            // Misses are answered "unknown" until then.
            let _ = timeout(PATIENCE, completed).await;
        }
        let cluster = Cluster::new(identity, &sides, strategies.clone(), modes.clone(), clock.clone());
        let cluster = follow(cluster, tasks).await;
        let active = strategies.active.clone();
        let spool = open_spool(config, metrics)?;
        let (spooled, offset) = (spool.clone(), config.offset());
        let records = Records { active, sides, clock, carry, epoch, spool: spooled, offset };
        let records = Arc::new(records);
        tasks.spawn(spool.clone().run(records.clone()));
        Ok(Self { records, strategies, health, modes, conflicts, drain, spool, cluster })
        let operations = Arc::new(Operations::new(operations::Parts {
            durable,
            sides: sides.clone(),
            carry: carry.clone(),
            clock: clock.clone(),
            offset: config.offset(),
            node: node.into(),
        }));
        tasks.spawn(operations.clone().run());
        let active = strategies.active.clone();
        let records = Records { active, sides, clock, carry, offset: config.offset() };
        Ok(Self { records: Arc::new(records), strategies, health, operations })
    }
}

/// How often the drain looks for marks that nobody has announced.
fn look_every(config: &Config) -> Duration {
    match config.seed.database_sync_enabled {
        true => Duration::from_millis(config.seed.database_sync_interval),
        false => NEVER,
    }
}

/// Takes in what the other nodes say, once before anything is served, and then in the background.
async fn follow(cluster: Cluster, tasks: &mut JoinSet<()>) -> Arc<Cluster> {
    let cluster = Arc::new(cluster);
    let _ = timeout(PATIENCE, cluster.look()).await;
    cluster.run(tasks);
    cluster
}

/// Whether a store takes writes. One that is switched off does not.
fn is_up(health: &Arc<Health>) -> IsUp {
    let health = health.clone();
    Box::new(move |which| health.stores().iter().any(|store| store.store == which.name() && store.up))
}

/// How a store is. One that is switched off is not missed.
fn look(health: &Arc<Health>) -> Look {
    let health = health.clone();
    Box::new(move |which| {
        let stores = health.stores();
        match stores.into_iter().find(|store| store.store == which.name()) {
            Some(store) => Seen { up: store.up, since_ms: store.since, reason: store.error },
            None => Seen { up: true, since_ms: 0, reason: None },
        }
    })
}

/// Where usage events wait while no store takes them.
fn open_spool(config: &Config, metrics: &Metrics) -> Result<Arc<Spool>> {
    let folder = config.data.join("spool");
    let opening = || format!("--data (SWITCHYARD_DATA): opening {}", folder.display());
    Ok(Arc::new(Spool::open(&folder, spool::CAPACITY, metrics).with_context(opening)?))
}

fn copying(config: &Config) -> Copying {
    if config.seed.database_sync_on_startup { Copying::Allowed } else { Copying::Unwanted }
}

fn limits(config: &Config) -> Limits {
    Limits {
        component_bytes: usize::from(config.component_mib) << 20,
        in_flight: config.in_flight.into(),
        ..Limits::default()
    }
}

/// A folder that only its owner can look into, as far as it is ours to create.
fn create_private(folder: &Path) -> Result<()> {
    let created = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    created.with_context(|| format!("--data (SWITCHYARD_DATA): creating {}", folder.display()))
}
