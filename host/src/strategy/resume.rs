//! What was chosen survives a restart: durably, and in the data folder for a start without the durable store.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::catalogue::{ActiveState, BUILT_IN, Catalogue};
use super::choice::Choosing;
use super::events::Events;
use super::generation::{Active, Generation};
use super::switch::{Order, Switches};
use super::{Parts, Strategies};
use crate::engine::Digest;

/// Who switches when a node starts.
pub(super) const STARTUP: &str = "startup";

/// What a node remembers of its last life.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Remembered {
    #[serde(flatten)]
    pub(super) chosen: ActiveState,
    /// The greatest number that a generation of this node has had.
    #[serde(default)]
    pub(super) reached: u64,
}

impl Strategies {
    /// Starts with what was chosen last, or else with `first`, a built-in strategy.
    pub async fn start(parts: Parts, first: &str) -> anyhow::Result<Self> {
        let Parts { engine, catalogue, node, sides, carry, data, is_up, prepare, metrics } = parts;
        let switches = Switches::new(remembered(&catalogue, &data).await, data, &metrics);
        let strategies = Self {
            engine,
            active: Arc::new(Active::new(Generation::before_any(&sides))),
            events: Events::new(catalogue.clone(), node),
            catalogue,
            sides,
            carry,
            is_up,
            prepare,
            metrics,
            compiled: Mutex::default(),
            switches,
            changing: tokio::sync::Mutex::default(),
        };
        if let Err(error) = strategies.events.load().await {
            warn!(%error, "earlier strategy events not read");
        }
        strategies.resume(first).await?;
        Ok(strategies)
    }

    /// Brings into force what was chosen when the host stopped.
    async fn resume(&self, first: &str) -> anyhow::Result<()> {
        let state = self.chosen();
        let mut choosing = Choosing::Here { pinned: false };
        if let Some(digest) = Digest::parse(&state.digest) {
            let kept = order(&state.name, &digest, "chosen before the restart", Choosing::Kept(None));
            let Err(error) = self.switch(kept).await else { return Ok(()) };
            warn!(%error, strategy = state.name, "not resumed; starting with {first}");
            // It is wanted still: other nodes may have it in force, and this one will when it can.
            choosing = Choosing::Kept(Some(error.to_string()));
        }
        let (name, bytes) = BUILT_IN
            .iter()
            .find(|(name, _)| *name == first)
            .ok_or_else(|| anyhow::anyhow!("unknown strategy {first:?}; built in are {}", names()))?;
        self.switch(order(name, &Digest::of(bytes), "configured", choosing)).await?;
        Ok(())
    }

    /// Durably, for all nodes, and in the data folder for a start without the durable store.
    pub(super) async fn keep(&self, chosen: &ActiveState) {
        if let Err(error) = self.catalogue.set_active(chosen).await {
            warn!(%error, "the chosen strategy is not kept durably yet");
            self.switches.unkept.store(true, Ordering::Release);
        }
        self.keep_here(chosen).await;
    }

    /// Keeps durably what could not be kept when it was chosen, unless another node has chosen meanwhile.
    pub async fn keep_owed(&self) {
        if !self.switches.unkept.load(Ordering::Acquire) {
            return;
        }
        let chosen = self.chosen();
        let kept = match self.catalogue.active().await {
            Ok(Some(durable)) if !chosen.is_after(&durable) => Ok(()),
            Ok(_) => self.catalogue.set_active(&chosen).await,
            Err(error) => Err(error),
        };
        if kept.is_ok() && self.chosen() == chosen {
            self.switches.unkept.store(false, Ordering::Release);
        }
    }

    /// In the data folder.
    pub(super) async fn keep_here(&self, chosen: &ActiveState) {
        let remembered = Remembered { chosen: chosen.clone(), reached: self.switches.reached() };
        let path = self.switches.data.join("active.json");
        let json = serde_json::to_vec(&remembered).unwrap_or_default();
        let draft = path.with_extension("json.new");
        let written = tokio::fs::write(&draft, json).await;
        if let Err(error) = match written {
            Ok(()) => tokio::fs::rename(&draft, &path).await,
            failed => failed,
        } {
            warn!(%error, path = %path.display(), "the chosen strategy is not kept in the data folder");
        }
    }
}

fn order<'a>(name: &'a str, digest: &'a Digest, why: &'a str, choosing: Choosing) -> Order<'a> {
    Order { name, digest, if_match: None, by: STARTUP, why, choosing }
}

/// The later of what the durable store and the data folder remember.
async fn remembered(catalogue: &Catalogue, data: &Path) -> Remembered {
    let local = tokio::fs::read(data.join("active.json")).await.ok();
    let local: Option<Remembered> = local.and_then(|json| serde_json::from_slice(&json).ok());
    let mut remembered = local.unwrap_or_default();
    match catalogue.active().await {
        Ok(Some(durable)) if durable.is_after(&remembered.chosen) => remembered.chosen = durable,
        Ok(_) => {}
        Err(error) => info!(%error, "starting without the durable store's word on the chosen strategy"),
    }
    remembered
}

fn names() -> String {
    BUILT_IN.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}
