//! What an admin chose, and what is in force instead of it while a store is lost.
//!
//! The choice is one for all nodes and survives restarts. What is in force is the active generation, a node's
//! own. Both change by the same switch; only an admin changes the choice, here or on another node.

use std::sync::Arc;

use serde::Serialize;

use super::catalogue::{ActiveState, BUILT_IN};
use super::events::Event;
use super::generation::Generation;
use super::switch::{Order, Switched};
use super::{Result, Strategies, StrategyError};
use crate::engine::{Digest, Needs};

/// Who switches when a store is lost or back, in the list of events.
pub const HEALTH: &str = "health";

/// What was chosen, as answers carry it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Choice {
    pub name: String,
    pub digest: String,
    pub pinned: bool,
}

/// What is in force, as answers carry it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct InForce {
    pub name: String,
    #[schema(value_type = String)]
    pub digest: Digest,
    pub generation: u64,
    /// Why it is not what was chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
}

/// What becomes of the choice when a strategy comes into force.
#[derive(Debug, Clone)]
pub(super) enum Choosing {
    /// An admin has chosen it, here.
    Here { pinned: bool },
    /// An admin has chosen it, on another node.
    Elsewhere(ActiveState),
    /// Nobody has: it is what was chosen before, or a stand-in with this cause.
    Kept(Option<String>),
}

impl Strategies {
    /// What an admin chose last.
    pub fn chosen(&self) -> ActiveState {
        self.switches.chosen.lock().clone()
    }

    /// What was chosen, as answers carry it.
    pub fn choice(&self) -> Choice {
        let ActiveState { name, digest, pinned, .. } = self.chosen();
        Choice { name, digest, pinned }
    }

    /// The stores that the chosen strategy uses; both when that is not known.
    pub fn chosen_needs(&self) -> Needs {
        let (active, chosen) = (self.active.enter(), self.chosen());
        if chosen.is(&active.name, &active.digest) {
            return active.needs;
        }
        let digest = Digest::parse(&chosen.digest);
        let compiled = self.compiled.lock();
        let known = digest.and_then(|digest| compiled.get(&digest)).map(|compiled| compiled.needs);
        known.unwrap_or(Needs { redis: true, postgres: true })
    }

    /// What is in force, and why that is not what was chosen.
    pub fn in_force(&self) -> InForce {
        let active = self.active.enter();
        let cause = self.switches.instead.lock().clone();
        let (name, digest) = (active.name.clone(), active.digest.clone());
        InForce { name, digest, generation: active.number, cause }
    }

    /// Adopts what an admin chose on another node, if that is later than what is chosen here; answers the
    /// switch, or none if there was nothing to do. It is in force when this returns, unless another stands in.
    ///
    /// # Errors
    /// When the version cannot be loaded, and `Busy`; nothing has changed then, so repeat it.
    pub async fn follow(
        self: &Arc<Self>,
        state: ActiveState,
        by: &'static str,
        why: &'static str,
    ) -> Result<Option<Switched>> {
        if !state.is_after(&self.chosen()) {
            return Ok(None);
        }
        let this = self.clone();
        let follow = tokio::spawn(async move { this.follow_here(state, by, why).await });
        follow.await.unwrap_or(Err(StrategyError::Busy)).map(Some)
    }

    async fn follow_here(&self, state: ActiveState, by: &str, why: &str) -> Result<Switched> {
        let unknown = || StrategyError::UnknownVersion(state.name.clone(), state.digest.clone());
        let digest = Digest::parse(&state.digest).ok_or_else(unknown)?;
        let needs = self.prepare(&state.name, &digest).await?.needs;
        let (name, at_once) = (state.name.clone(), state.pinned || self.may_take_over(needs));
        let choosing = Choosing::Elsewhere(state);
        let order = Order { name: &name, digest: &digest, if_match: None, by, why, choosing };
        if at_once { self.switch(order).await } else { self.choose_only(order).await }
    }

    /// Puts a strategy in force without anyone having chosen it: a stand-in while a store is lost, or again
    /// what was chosen. The choice stays.
    ///
    /// # Errors
    /// `Pinned`, `Busy`, and whatever keeps the version from being loaded.
    pub async fn enforce(self: &Arc<Self>, name: &str, digest: &Digest, cause: &str) -> Result<Switched> {
        let (this, name, digest, cause) = (self.clone(), name.to_owned(), digest.clone(), cause.to_owned());
        let enforce = async move {
            let choosing = Choosing::Kept(Some(cause.clone()));
            let order =
                Order { name: &name, digest: &digest, if_match: None, by: HEALTH, why: &cause, choosing };
            this.switch(order).await
        };
        tokio::spawn(enforce).await.unwrap_or(Err(StrategyError::Busy))
    }

    /// Makes a strategy that comes with the host ready, so that nothing but the switch is left to do.
    ///
    /// # Errors
    /// When it does not pass the checks of a component, and when there is none of this name.
    pub async fn make_ready(&self, name: &str) -> Result<Digest> {
        let built_in = BUILT_IN.iter().find(|(built_in, _)| *built_in == name);
        let (_, bytes) = built_in.ok_or_else(|| StrategyError::UnknownStrategy(name.into()))?;
        Ok(self.prepare(name, &Digest::of(bytes)).await?.digest)
    }

    /// Whether a strategy with these needs may be in force now: not while another stands in because one of
    /// the stores it uses is lost.
    pub(super) fn may_take_over(&self, needs: Needs) -> bool {
        let stands_in = self.switches.instead.lock().is_some();
        let active = self.active.enter().needs;
        !stands_in || (needs.redis <= active.redis && needs.postgres <= active.postgres)
    }

    /// Changes the choice alone: another strategy stands in for it.
    pub(super) async fn choose_only(&self, order: Order<'_>) -> Result<Switched> {
        let _switching = self.active.begin_switch().ok_or(StrategyError::Busy)?;
        let active = self.active.enter();
        if order.if_match.is_some_and(|expected| expected != active.number) {
            return Err(StrategyError::Raced(active.number));
        }
        self.choose(&order, &active).await;
        Ok(self.unchanged(order.name, &active))
    }

    /// Makes the choice that goes with an order, keeps it, and says so, unless it was made before.
    pub(super) async fn choose(&self, order: &Order<'_>, active: &Generation) {
        let chosen = self.chosen();
        let state = self.choice_of(order, chosen.clone(), self.next_number());
        let differs =
            (&state.name, &state.digest, state.pinned) != (&chosen.name, &chosen.digest, chosen.pinned);
        match order.choosing {
            Choosing::Kept(_) => return self.set_chosen(state),
            Choosing::Here { .. } if !differs => return,
            _ => {}
        }
        self.set_chosen(state.clone());
        match order.choosing {
            Choosing::Here { .. } => self.keep(&state).await,
            _ => self.keep_here(&state).await,
        }
        let detail = match self.in_force().cause {
            Some(cause) => format!("{}; {} is in force: {cause}", order.why, active.label()),
            None => format!("{}; {} is in force", order.why, active.label()),
        };
        let event = Event::new("chosen", order.name, order.by, detail);
        let (digest, generation) = (Some(order.digest.to_string()), Some(state.generation));
        self.events.add(Event { digest, generation, ..event }).await;
    }

    /// The choice after an order whose generation has this number.
    pub(super) fn choice_of(&self, order: &Order<'_>, before: ActiveState, number: u64) -> ActiveState {
        match &order.choosing {
            Choosing::Kept(_) => before,
            Choosing::Elsewhere(state) => state.clone(),
            Choosing::Here { pinned } => {
                let is_new = !before.is(order.name, order.digest);
                let replaced = (!before.digest.is_empty()).then_some((before.name, before.digest));
                ActiveState {
                    generation: number,
                    name: order.name.into(),
                    digest: order.digest.to_string(),
                    previous: if is_new { replaced.or(before.previous) } else { before.previous },
                    pinned: *pinned,
                }
            }
        }
    }

    /// Another choice; what is in force is a stand-in from now on, or no longer.
    pub(super) fn set_chosen(&self, state: ActiveState) {
        let active = self.active.enter();
        if state.is(&active.name, &active.digest) {
            *self.switches.instead.lock() = None;
        }
        *self.switches.chosen.lock() = state;
    }
}
