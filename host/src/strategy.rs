//! Strategies: the catalogue of versions, the active generation, and the live switch between them.
//!
//! # Layout
//! - [`generation`]: the atomic pointer and the counted drain
//! - [`records`]: reads and writes through what is active
//! - [`catalogue`], [`events`]: what there is and what happened, in the durable store
//! - [`activation`]: what an admin asks for
//! - [`choice`]: what an admin chose, and what is in force instead while a store is lost
//! - `resume`: what was chosen survives a restart
//! - `shared`: what other nodes need of this one's
//! - [`switch`]: how one generation takes over from another
//! - [`watcher`]: a folder whose components go live by themselves

pub mod activation;
pub mod catalogue;
pub mod choice;
pub mod events;
pub mod generation;
pub mod records;
mod resume;
mod shared;
pub mod switch;
pub mod watcher;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use serde::Serialize;

use crate::engine::{Compiled, Digest, Engine, Needs, Refusal};
use crate::store::side::{Sides, Which};
use crate::store::{StoreError, clock::now_ms};
use crate::telemetry::Metrics;
use catalogue::{Catalogue, MAX_VERSIONS, StrategyVersion};
use events::{Event, Events};
use generation::{Active, Generation};
use records::CarryOver;

/// Why something about strategies was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StrategyError {
    #[error("a strategy's name has 1 to 64 characters of a-z 0-9 _ and begins with a letter; not {0:?}")]
    InvalidName(String),
    #[error("there is no strategy {0:?}; GET /admin/strategies lists them")]
    UnknownStrategy(String),
    #[error("strategy {0:?} has no version {1}; GET /admin/strategies/{0} lists them")]
    UnknownVersion(String, String),
    #[error("{}", .0.message)]
    Refused(Refusal),
    #[error("generation {0} is active, not the one named in If-Match; look again and repeat")]
    Raced(u64),
    #[error("another switch is under way; repeat in a moment")]
    Busy,
    #[error("{0} cannot do without {1}, which is down; repeat when it is back, or with \"force\": true")]
    StoreDown(String, &'static str),
    #[error("{0} is pinned; only an admin changes what is in force")]
    Pinned(String),
    #[error("version {0} is active, draining or the one to roll back to")]
    InUse(Digest),
    #[error("version {0} comes with the host and stays")]
    BuiltIn(Digest),
    #[error("there is no previous generation to roll back to")]
    NothingBefore,
    #[error("the catalogue holds {MAX_VERSIONS} versions; delete one first")]
    Full,
    #[error("the catalogue cannot be reached: {0}")]
    Store(StoreError),
}

impl From<StoreError> for StrategyError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

pub type Result<T, E = StrategyError> = std::result::Result<T, E>;

/// The report on an uploaded component.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Uploaded {
    pub name: String,
    #[schema(value_type = String)]
    pub digest: Digest,
    pub size: usize,
    pub needs: Needs,
    /// False when this very version was there already.
    pub created: bool,
}

/// A strategy and its versions.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[schema(as = Strategy)]
pub struct Listed {
    pub name: String,
    /// In force on this node.
    pub active: bool,
    /// What an admin chose.
    pub chosen: bool,
    pub versions: Vec<StrategyVersion>,
}

/// Everything about strategies, for the admin API and the watcher.
pub struct Strategies {
    pub engine: Engine,
    pub active: Arc<Active>,
    pub events: Events,
    catalogue: Arc<Catalogue>,
    sides: Sides,
    carry: Arc<dyn CarryOver>,
    is_up: IsUp,
    prepare: Arc<dyn Prepare>,
    metrics: Metrics,
    /// What was compiled and may be needed again soon.
    compiled: Mutex<BTreeMap<Digest, Compiled>>,
    switches: switch::Switches,
    /// Held between a look into the catalogue and the change that follows from it.
    changing: tokio::sync::Mutex<()>,
}

/// How many compiled versions are kept in memory: each takes about four times its size.
const KEPT_COMPILED: usize = 32;

/// Whether a store takes writes.
pub type IsUp = Box<dyn Fn(Which) -> bool + Send + Sync>;

/// What has to be done before a strategy comes into force. Implemented by recovery.
#[async_trait]
pub trait Prepare: Send + Sync {
    /// Makes the stores ready for a strategy with these needs, as far as that can be done within a second or
    /// so: what is then acknowledged is worth what the acknowledgement says, in any case. `carried_over`: each store
    /// has what the other one had.
    async fn before(&self, needs: Needs, cause: &str, carried_over: bool);
}

/// What [`Strategies`] is made of.
pub struct Parts {
    pub engine: Engine,
    pub catalogue: Arc<Catalogue>,
    /// The id of this node.
    pub node: String,
    pub sides: Sides,
    pub carry: Arc<dyn CarryOver>,
    /// Holds the last choice and its component, for a start without the durable store.
    pub data: PathBuf,
    pub is_up: IsUp,
    pub prepare: Arc<dyn Prepare>,
    pub metrics: Metrics,
}

impl Strategies {
    /// Checks a component and keeps it as a version of `name`. Idempotent by digest. Activates nothing.
    pub async fn upload(&self, name: &str, bytes: Bytes, by: &str) -> Result<Uploaded> {
        check_name(name)?;
        let compiled = match self.examine(&bytes).await {
            Ok(compiled) => compiled,
            Err(refusal) => {
                let detail = format!("{}: {}", refusal.code, refusal.message);
                self.events.add(Event::new("refused", name, by, detail)).await;
                return Err(StrategyError::Refused(refusal));
            }
        };
        let (digest, size, needs) = (compiled.digest.clone(), bytes.len(), compiled.needs);
        let _alone = self.changing.lock().await;
        let versions = self.catalogue.versions().await?;
        let known = versions.get(name).is_some_and(|known| known.iter().any(|v| v.digest == digest));
        if !known {
            if versions.values().flatten().count() >= MAX_VERSIONS {
                return Err(StrategyError::Full);
            }
            let version = StrategyVersion {
                name: name.into(),
                digest: digest.clone(),
                size,
                uploaded_at: now_ms(),
                uploaded_by: by.into(),
            };
            self.catalogue.add(&version, &bytes).await?;
            let event = Event::new("uploaded", name, by, format!("{size} bytes"));
            self.events.add(Event { digest: Some(digest.to_string()), ..event }).await;
        }
        self.remember(compiled);
        Ok(Uploaded { name: name.into(), digest, size, needs, created: !known })
    }

    /// Every strategy with its versions.
    pub async fn list(&self) -> Result<Vec<Listed>> {
        let (active, chosen) = (self.active.enter(), self.chosen());
        let listed = |(name, versions): (String, _)| Listed {
            active: name == active.name,
            chosen: name == chosen.name,
            name,
            versions,
        };
        Ok(self.catalogue.versions().await?.into_iter().map(listed).collect())
    }

    /// One strategy with its versions.
    pub async fn get(&self, name: &str) -> Result<Listed> {
        let listed = self.list().await?.into_iter().find(|listed| listed.name == name);
        listed.ok_or_else(|| StrategyError::UnknownStrategy(name.into()))
    }

    /// Forgets a version that is not in use. Built-in versions stay.
    pub async fn delete(&self, name: &str, digest: &Digest, by: &str) -> Result<()> {
        let _alone = self.changing.lock().await;
        let versions = self.get(name).await?.versions;
        let unknown = || StrategyError::UnknownVersion(name.into(), digest.to_string());
        let version = versions.iter().find(|version| version.digest == *digest).ok_or_else(unknown)?;
        if version.uploaded_at == 0 {
            return Err(StrategyError::BuiltIn(digest.clone()));
        }
        let active = self.active.enter();
        let is_active = active.name == name && active.digest == *digest;
        if is_active || self.switches.in_use(name, digest) {
            return Err(StrategyError::InUse(digest.clone()));
        }
        self.catalogue.remove(name, digest).await?;
        let event = Event::new("deleted", name, by, "");
        self.events.add(Event { digest: Some(digest.to_string()), ..event }).await;
        Ok(())
    }

    /// All checks a version must pass before it may become active.
    async fn examine(&self, bytes: &[u8]) -> std::result::Result<Compiled, Refusal> {
        let configured = Needs { redis: self.sides.redis.is_some(), postgres: self.sides.postgres.is_some() };
        let compiled = self.engine.check(bytes, configured).await?;
        self.engine.smoke(&compiled).await?;
        Ok(compiled)
    }

    fn remember(&self, compiled: Compiled) {
        let mut kept = self.compiled.lock();
        kept.insert(compiled.digest.clone(), compiled);
        let (active, chosen) = (self.active.enter(), self.chosen());
        let in_use = |digest: &Digest| *digest == active.digest || digest.to_string() == chosen.digest;
        while kept.len() > KEPT_COMPILED
            && let Some(digest) = kept.keys().find(|digest| !in_use(digest)).cloned()
        {
            kept.remove(&digest);
        }
    }

    /// A version made ready to run, from memory or from the catalogue.
    async fn prepare(&self, name: &str, digest: &Digest) -> Result<Compiled> {
        if let Some(compiled) = self.compiled.lock().get(digest) {
            return Ok(compiled.clone());
        }
        let unknown = || StrategyError::UnknownVersion(name.into(), digest.to_string());
        let bytes = self.catalogue.component(digest).await?.ok_or_else(unknown)?;
        let compiled = self.examine(&bytes).await.map_err(StrategyError::Refused)?;
        self.remember(compiled.clone());
        Ok(compiled)
    }

    fn generation(&self, number: u64, name: &str, compiled: &Compiled) -> Generation {
        let component = self.engine.load(compiled, self.sides.clone(), name, number, &self.metrics);
        Generation::new(number, name, compiled.digest.clone(), compiled.needs, Arc::new(component))
    }
}

fn check_name(name: &str) -> Result<()> {
    let valid = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.len() <= 64
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if valid { Ok(()) } else { Err(StrategyError::InvalidName(name.chars().take(80).collect())) }
}
