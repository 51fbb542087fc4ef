//! Everything behind the surfaces, and what goes on in the background.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::backends::Backends;
use super::limits;
use super::signs::{is_up, look, needed};
use crate::accounts::Accounts;
use crate::cluster::identity::Identity;
use crate::cluster::{self, Cluster};
use crate::config::Config;
use crate::engine::{self, Engine};
use crate::keys::Keys;
use crate::limits::Limits;
use crate::recovery::authority::Authorities;
use crate::recovery::complete::Copying;
use crate::recovery::conflicts::Conflicts;
use crate::recovery::degrade::{Modes, Supervised, Supervisor};
use crate::recovery::drain::Drain;
use crate::recovery::health::Health;
use crate::recovery::operations::{self, Operations};
use crate::recovery::refresh;
use crate::recovery::repair::Repair;
use crate::recovery::rescue::Rescue;
use crate::recovery::spool::{self, Spool};
use crate::recovery::trust::Trust;
use crate::secrets::Secrets;
use crate::store::side::Sides;
use crate::store::{Backend, Clock, Epoch};
use crate::strategy::catalogue::Catalogue;
use crate::strategy::records::Records;
use crate::strategy::{Parts, Strategies};
use crate::telemetry::Metrics;
use crate::usage::{Prices, Recorder};

/// How long a start waits for the stores: long enough for those that are there, and no reason to wait for
/// those that are not.
const PATIENCE: Duration = Duration::from_secs(2);

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
        let secrets = config.secret.load(&config.data)?;
        let (base, old_copies) = Base::start(config, &secrets, backends, metrics, tasks).await?;
        let strategies = base.strategies().await?;
        let (completed, uncounted) = base.repair(&strategies, tasks);
        let modes = Arc::new(Modes::new(metrics));
        base.supervise(&strategies, &modes, old_copies, tasks);
        if base.health.stores().iter().all(|store| store.up) {
            // Misses are answered "unknown" until then.
            let _ = timeout(PATIENCE, completed).await;
        }
        let (records, spool) = base.records(&strategies, tasks)?;
        let keys = Arc::new(Keys::new(records.clone(), &secrets, &config.keys.api_key_prefix));
        tasks.spawn(keys.clone().warn_of_theirs(secrets.relay_service().is_some()));
        let operations = base.operations(uncounted, tasks);
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
        secrets: &Secrets,
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
        let mut identity = Identity::load(config.node_id.as_deref(), &config.data)?;
        identity.fingerprints = secrets.fingerprints();
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

    /// Follows how the stores are, and carries over what one has and the other has not.
    fn supervise(
        &self,
        strategies: &Arc<Strategies>,
        modes: &Arc<Modes>,
        old_copies: OldCopies,
        tasks: &mut JoinSet<()>,
    ) {
        let (carry, authorities) = (Arc::new(self.drain.clone()), self.authorities.clone());
        let supervised: Supervised = (strategies.clone(), authorities, carry, modes.clone());
        tasks.spawn(self.health.clone().run());
        tasks.spawn(Supervisor::new(supervised, look(&self.health)).run());
        tasks.spawn(refresh::run(self.sides.clone(), self.conflicts.clone(), old_copies));
        tasks.spawn(self.drain.clone().run(needed(strategies)));
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

    fn operations(&self, uncounted: Arc<Notify>, tasks: &mut JoinSet<()>) -> Arc<Operations> {
        let operations = Arc::new(Operations::new(operations::Parts {
            durable: self.durable.clone(),
            sides: self.sides.clone(),
            carry: Arc::new(self.drain.clone()),
            clock: self.clock.clone(),
            offset: self.config.offset(),
            node: self.identity.node.clone(),
        }));
        tasks.spawn(operations.clone().run());
        tasks.spawn(operations.clone().sync_when(uncounted));
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

fn engine_limits(config: &Config) -> engine::Limits {
    engine::Limits {
        component_bytes: usize::from(config.component_mib) << 20,
        in_flight: config.in_flight.into(),
        ..engine::Limits::default()
    }
}
