//! What was active survives a restart: durably, and in the data folder for a start without the durable store.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use tracing::{info, warn};

use super::catalogue::{ActiveState, BUILT_IN, Catalogue};
use super::events::Events;
use super::generation::{Active, Generation};
use super::switch::Switches;
use super::{Parts, Strategies};
use crate::engine::Digest;

impl Strategies {
    /// Starts with what was active last, or else with `first`, a built-in strategy.
    pub async fn start(parts: Parts, first: &str) -> anyhow::Result<Self> {
        let Parts { engine, catalogue, sides, carry, data, metrics } = parts;
        let remembered = remembered(&catalogue, &data).await;
        let state = remembered.unwrap_or_else(|| ActiveState { name: first.into(), ..Default::default() });
        let switches = Switches::new(state.clone(), data, &metrics);
        let strategies = Self {
            engine,
            active: Arc::new(Active::new(Generation::before_any(&sides))),
            events: Events::new(catalogue.clone()),
            catalogue,
            sides,
            carry,
            metrics,
            compiled: Mutex::default(),
            switches,
            changing: tokio::sync::Mutex::default(),
        };
        if let Err(error) = strategies.events.load().await {
            warn!(%error, "earlier strategy events not read");
        }
        strategies.resume(state, first).await?;
        Ok(strategies)
    }

    /// Makes active again what was active when the host stopped.
    async fn resume(&self, state: ActiveState, first: &str) -> anyhow::Result<()> {
        let digest = Digest::parse(&state.digest);
        let by = "startup";
        if let Some(digest) = digest {
            match self.switch(&state.name, &digest, by, "active before the restart").await {
                Ok(_) => return Ok(()),
                Err(error) => warn!(%error, strategy = state.name, "not resumed; starting with {first}"),
            }
        }
        let (name, bytes) = BUILT_IN
            .iter()
            .find(|(name, _)| *name == first)
            .ok_or_else(|| anyhow::anyhow!("unknown strategy {first:?}; built in are {}", names()))?;
        self.switch(name, &Digest::of(bytes), by, "configured").await?;
        Ok(())
    }

    /// Durably, and in the data folder for a start without the durable store.
    pub(super) async fn keep(&self, state: &ActiveState) {
        if let Err(error) = self.catalogue.set_active(state).await {
            warn!(%error, "the active strategy is not kept durably");
        }
        let path = self.switches.data.join("active.json");
        let json = serde_json::to_vec(state).unwrap_or_default();
        let draft = path.with_extension("json.new");
        let written = tokio::fs::write(&draft, json).await;
        if let Err(error) = match written {
            Ok(()) => tokio::fs::rename(&draft, &path).await,
            failed => failed,
        } {
            warn!(%error, path = %path.display(), "the active strategy is not kept in the data folder");
        }
    }
}

/// The later of what the durable store and the data folder remember.
async fn remembered(catalogue: &Catalogue, data: &Path) -> Option<ActiveState> {
    let local = tokio::fs::read(data.join("active.json")).await.ok();
    let local: Option<ActiveState> = local.and_then(|json| serde_json::from_slice(&json).ok());
    let durable = match catalogue.active().await {
        Ok(state) => state,
        Err(error) => {
            info!(%error, "starting without the durable store's word on the active strategy");
            None
        }
    };
    local.into_iter().chain(durable).max_by_key(|state| state.generation)
}

fn names() -> String {
    BUILT_IN.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}
