//! Everything behind the surfaces, and what goes on in the background.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::backends::Backends;
use super::limits;
use crate::accounts::Accounts;
use crate::cluster::identity::Identity;
use crate::cluster::{self, Cluster};
use crate::config::Config;
use crate::engine::{self, Engine, Needs};
use crate::keys::Keys;
use crate::limits::Limits;
use crate::recovery::authority::Authorities;
use crate::recovery::complete::Copying;
use crate::recovery::conflicts::Conflicts;
use crate::recovery::degrade::{Look, Modes, Seen, Supervised, Supervisor};
use crate::recovery::drain::{Drain, Needed};
use crate::recovery::health::Health;
use crate::recovery::operations::{self, Operations};
use crate::recovery::refresh;
use crate::recovery::repair::Repair;
use crate::recovery::rescue::Rescue;
use crate::recovery::spool::{self, Spool};
use crate::recovery::trust::Trust;
use crate::store::side::Sides;
use crate::store::{Backend, Clock, Epoch};
use crate::strategy::catalogue::Catalogue;
use crate::strategy::records::Records;
use crate::strategy::{IsUp, Parts, Strategies};
use crate::telemetry::Metrics;
use crate::usage::{Prices, Recorder};

/// How long a start waits for the stores: long enough for those that are there, and no reason to wait for
/// those that are not.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long other nodes may take to follow a switch while a store fails.
const OTHERS_FOLLOW: Duration = Duration::from_secs(30);

/// Everything behind the surfaces.
pub(super) struct Core {
    pub(super) records: Arc<Records>,
    pub(super) keys: Arc<Keys>,
    pub(super) strategies: Arc<Strategies>,
    pub(super) health: Arc<Health>,
    pub(super) modes: Arc<Modes>,
    pub(super) conflicts: Arc<Conflicts>,
    pub(super) drain: Drain,
    pub(super) spool: Arc<Spool>,
    pub(super) cluster: Arc<Cluster>,
    pub(super) operations: Arc<Operations>,
    pub(super) usage: Arc<Recorder>,
    pub(super) accounts: Arc<Accounts>,
    pub(super) limits: Limits,
}

/// What is there before any strategy is.
struct Base<'a> {
    config: &'a Config,
    metrics: &'a Metrics,
    sides: Sides,
    durable: Arc<dyn Backend>,
    epoch: Arc<Epoch>,
    clock: Arc<Clock>,
    identity: Identity,
    health: Arc<Health>,
    trust: Arc<Trust>,
    conflicts: Arc<Conflicts>,
    drain: Drain,
    authorities: Arc<Authorities>,
}

impl Core {
    pub(super) async fn start(
        config: &Config,
        backends: Backends,
        metrics: &Metrics,
        tasks: &mut JoinSet<()>,
    ) -> Result<Self> {
        let (base, old_copies) = Base::start(config, backends, metrics, tasks).await?;
        let strategies = base.strategies().await?;
        let (completed, uncounted) = base.repair(&strategies, tasks);
        let modes = Arc::new(Modes::new(metrics));
        let carry = Arc::new(base.drain.clone());
        let supervised: Supervised = (strategies.clone(), base.authorities.clone(), carry, modes.clone());
        tasks.spawn(base.health.clone().run());
        tasks.spawn(Supervisor::new(supervised, look(&base.health)).run());
        tasks.spawn(refresh::run(base.sides.clone(), base.conflicts.clone(), old_copies));
        tasks.spawn(base.drain.clone().run(needed(&strategies)));
        if base.health.stores().iter().all(|store| store.up) {
            // Misses are answered "unknown" until then.
            let _ = timeout(PATIENCE, completed).await;
        }
        let (records, spool) = base.records(&strategies, tasks)?;
        let secrets = config.secret.load(&config.data)?;
        let keys = Arc::new(Keys::new(records.clone(), &secrets, &config.keys.api_key_prefix));
        if secrets.relay_service().is_none() {
            tasks.spawn(keys.clone().warn_of_theirs());
        }
        let operations = base.operations(tasks);
        tasks.spawn(operations.clone().sync_when(uncounted));
        let usage = base.usage(&records, tasks)?;
        let accounts = Arc::new(Accounts::new(records.clone(), &secrets));
        let Base { sides, clock, identity, health, conflicts, drain, .. } = base;
        let cluster = Cluster::new(identity, &sides, strategies.clone(), modes.clone(), clock);
        let cluster = follow(cluster, tasks).await;
        let limits = limits::start(config, &sides, &records, &cluster, metrics, tasks);
        Ok(Self {
            records,
            keys,
            strategies,
            health,
            modes,
            conflicts,
            drain,
            spool,
            cluster,
            operations,
            accounts,
            usage,
            limits,
        })
    }
}

type OldCopies = tokio::sync::mpsc::Receiver<crate::store::Key>;

impl<'a> Base<'a> {
    async fn start(
        config: &'a Config,
        backends: Backends,
        metrics: &'a Metrics,
        tasks: &mut JoinSet<()>,
    ) -> Result<(Self, OldCopies)> {
        let Backends { sides, names, durable, epoch, old_copies } = backends;
        let trust = Arc::new(Trust::new(sides.clone()));
        tasks.spawn(trust.clone().run());
        let health = Arc::new(Health::new(&sides, names, metrics));
        // A store that does not answer in time is found again by the probes in the background.
        let _ = timeout(PATIENCE, health.probe()).await;
        let clock = Arc::new(Clock::default());
        let identity = Identity::load(config.node_id.as_deref(), &config.data)?;
        cluster::enter(&identity, &sides, &clock).await?;
        let conflicts = Arc::new(Conflicts::new(durable.clone(), metrics));
        let drain = Drain::new(sides.clone(), config.offset(), conflicts.clone(), metrics);
        let authorities = Authorities::new(sides.clone(), epoch.clone(), identity.node.clone(), &config.data);
        let authorities = Arc::new(authorities);
        let base = Self {
            config,
            metrics,
            sides,
            durable,
            epoch,
            clock,
            identity,
            health,
            trust,
            conflicts,
            drain,
            authorities,
        };
        Ok((base, old_copies))
    }

    async fn strategies(&self) -> Result<Arc<Strategies>> {
        let Self { config, metrics, .. } = self;
        let components = config.data.join("components");
        let parts = Parts {
            engine: Engine::new(engine_limits(config), Some(config.data.join("artefacts")))?,
            catalogue: Arc::new(Catalogue::new(self.durable.clone(), self.clock.clone(), components)),
            node: self.identity.node.clone(),
            sides: self.sides.clone(),
            carry: Arc::new(self.drain.clone()),
            data: config.data.clone(),
            is_up: is_up(&self.health),
            prepare: self.authorities.clone(),
            metrics: (*metrics).clone(),
        };
        Ok(Arc::new(Strategies::start(parts, config.first_strategy()?).await?))
    }

    /// Keeps the stores whole and complete in the background. Tells when they are, and when PostgreSQL has lost counters.
    fn repair(
        &self,
        strategies: &Arc<Strategies>,
        tasks: &mut JoinSet<()>,
    ) -> (oneshot::Receiver<()>, Arc<Notify>) {
        let copying =
            if self.config.seed.database_sync_on_startup { Copying::Allowed } else { Copying::Unwanted };
        let (sides, trust, carry) = (self.sides.clone(), self.trust.clone(), Arc::new(self.drain.clone()));
        let repair = Repair::new(sides, trust, copying, self.config.offset(), carry, strategies.clone());
        let ((done, completed), uncounted) = (oneshot::channel(), repair.uncounted());
        tasks.spawn(repair.run(done));
        tasks.spawn(Rescue::new(self.sides.clone(), self.conflicts.clone(), self.metrics).run());
        (completed, uncounted)
    }

    fn records(
        &self,
        strategies: &Arc<Strategies>,
        tasks: &mut JoinSet<()>,
    ) -> Result<(Arc<Records>, Arc<Spool>)> {
        let folder = self.config.data.join("spool");
        let opening = || format!("--data (SWITCHYARD_DATA): opening {}", folder.display());
        let spool = Spool::open(&folder, spool::CAPACITY, self.metrics).with_context(opening)?;
        spool.tell(&self.sides);
        let spool = Arc::new(spool);
        let records = Arc::new(Records {
            active: strategies.active.clone(),
            sides: self.sides.clone(),
            clock: self.clock.clone(),
            carry: Arc::new(self.drain.clone()),
            epoch: self.epoch.clone(),
            spool: spool.clone(),
            offset: self.config.offset(),
        });
        tasks.spawn(spool.clone().run(records.clone()));
        Ok((records, spool))
    }

    fn usage(&self, records: &Arc<Records>, tasks: &mut JoinSet<()>) -> Result<Arc<Recorder>> {
        let prices = Arc::new(Prices::load(self.config.pricing.prices.as_deref(), self.metrics)?);
        let folder = self.config.data.join("attempts");
        let opening = || format!("--data (SWITCHYARD_DATA): opening {}", folder.display());
        let recorder = Recorder::start(&folder, prices.clone(), self.metrics).with_context(opening)?;
        tasks.spawn(prices.run());
        tasks.spawn(recorder.clone().run(records.clone()));
        Ok(recorder)
    }

    fn operations(&self, tasks: &mut JoinSet<()>) -> Arc<Operations> {
        let operations = Arc::new(Operations::new(operations::Parts {
            durable: self.durable.clone(),
            sides: self.sides.clone(),
            carry: Arc::new(self.drain.clone()),
            clock: self.clock.clone(),
            offset: self.config.offset(),
            node: self.identity.node.clone(),
        }));
        tasks.spawn(operations.clone().run());
        operations
    }
}

/// Takes in what the other nodes say, once before anything is served, and then in the background.
async fn follow(cluster: Cluster, tasks: &mut JoinSet<()>) -> Arc<Cluster> {
    let cluster = Arc::new(cluster);
    let _ = timeout(PATIENCE, cluster.look()).await;
    cluster.run(tasks);
    cluster
}

/// What is in force or chosen needs, or did a moment ago: other nodes may be about to follow.
fn needed(strategies: &Arc<Strategies>) -> Needed {
    let (strategies, last) = (strategies.clone(), Mutex::new([None::<Instant>; 2]));
    Box::new(move || {
        // Not held: a generation that is held is not drained.
        let (active, chosen) = (strategies.active.enter().needs, strategies.chosen_needs());
        let now = [active.redis || chosen.redis, active.postgres || chosen.postgres];
        let mut last = last.lock();
        for (last, _) in last.iter_mut().zip(now).filter(|(_, needed)| *needed) {
            *last = Some(Instant::now());
        }
        let [redis, postgres] = last.map(|at| at.is_some_and(|at| at.elapsed() < OTHERS_FOLLOW));
        Needs { redis, postgres }
    })
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

fn engine_limits(config: &Config) -> engine::Limits {
    engine::Limits {
        component_bytes: usize::from(config.component_mib) << 20,
        in_flight: config.in_flight.into(),
        ..engine::Limits::default()
    }
}
