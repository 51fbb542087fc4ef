//! What an admin asks for: another strategy, the one before, a pin.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::catalogue::{ActiveState, BUILT_IN};
use super::choice::Choosing;
use super::events::Event;
use super::switch::{DRAIN_DEADLINE, Order, Switched};
use super::{Result, Strategies, StrategyError};
use crate::engine::{Digest, Needs};
use crate::store::side::Which;

/// Why a switch was made that undoes the one before.
pub(super) const ROLLBACK: &str = "rollback";

/// How soon to try again while a switch that nobody asked for is under way.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// How an admin wants a strategy activated.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// The version; the newest one without it.
    pub digest: Option<Digest>,
    /// Only if this generation is active.
    pub if_match: Option<u64>,
    /// In force at once, and nothing but an admin changes that.
    pub pin: bool,
    /// As `pin`, and even if a store that the strategy cannot do without is down.
    pub force: bool,
}

impl Strategies {
    /// Chooses a version. It is in force when this returns, unless another stands in for it while a store is
    /// lost. Goes on to its end even if the caller stops waiting.
    ///
    /// # Errors
    /// `StoreDown` when every store that the strategy could use is down and it is not forced.
    pub async fn activate(
        self: &Arc<Self>,
        name: &str,
        wish: Wish,
        by: &'static str,
        why: &'static str,
    ) -> Result<Switched> {
        let (this, name) = (self.clone(), name.to_owned());
        let switch = tokio::spawn(async move { this.activate_here(&name, wish, by, why).await });
        switch.await.unwrap_or(Err(StrategyError::Busy))
    }

    async fn activate_here(&self, name: &str, wish: Wish, by: &str, why: &str) -> Result<Switched> {
        let active = self.active.enter().number;
        if wish.if_match.is_some_and(|expected| expected != active) {
            return Err(StrategyError::Raced(active));
        }
        let digest = self.pick(name, wish.digest.as_ref()).await?;
        let mut switched = self.put_in_force(name, &digest, &wish, by, why).await;
        let began = Instant::now();
        while matches!(switched, Err(StrategyError::Busy))
            && self.switches.automatic.load(Ordering::Acquire)
            && began.elapsed() < DRAIN_DEADLINE
        {
            // A stand-in that is in force already, and drains what it replaced.
            tokio::time::sleep(LOOK_AGAIN).await;
            switched = self.put_in_force(name, &digest, &wish, by, why).await;
        }
        if let Err(error) = &switched {
            self.events.add(Event::new("refused", name, by, error.to_string())).await;
        }
        switched
    }

    async fn put_in_force(
        &self,
        name: &str,
        digest: &Digest,
        wish: &Wish,
        by: &str,
        why: &str,
    ) -> Result<Switched> {
        let needs = self.prepare(name, digest).await?.needs;
        if !wish.force && self.chosen().name != name {
            self.check_stores(name, needs)?;
        }
        let pinned = wish.pin || wish.force;
        let order =
            Order { name, digest, if_match: wish.if_match, by, why, choosing: Choosing::Here { pinned } };
        match pinned || self.may_take_over(needs) {
            true => self.switch(order).await,
            false => self.choose_only(order).await,
        }
    }

    /// Makes active again what was chosen before the last choice.
    pub async fn rollback(self: &Arc<Self>, by: &'static str) -> Result<Switched> {
        let (name, digest) = self.chosen().previous.ok_or(StrategyError::NothingBefore)?;
        let digest = Digest::parse(&digest).ok_or(StrategyError::NothingBefore)?;
        self.activate(&name, Wish { digest: Some(digest), ..Wish::default() }, by, ROLLBACK).await
    }

    /// Lets what is in force change by itself again. Changes nothing when nothing is pinned.
    pub async fn unpin(&self, by: &str) -> Result<ActiveState> {
        if !self.chosen().pinned {
            return Ok(self.chosen());
        }
        let _switching = self.active.begin_switch().ok_or(StrategyError::Busy)?;
        let chosen = self.chosen();
        let chosen = ActiveState { pinned: false, generation: self.next_number(), ..chosen };
        self.set_chosen(chosen.clone());
        self.keep(&chosen).await;
        self.events.add(Event::new("unpinned", &chosen.name, by, "")).await;
        Ok(chosen)
    }

    fn check_stores(&self, name: &str, needs: Needs) -> Result<()> {
        let used = [(Which::Redis, needs.redis), (Which::Postgres, needs.postgres)];
        let used: Vec<_> = used.into_iter().filter(|(_, used)| *used).map(|(which, _)| which).collect();
        if used.iter().any(|which| (self.is_up)(*which)) {
            return Ok(());
        }
        let down = match used[..] {
            [Which::Redis] => "Redis",
            [Which::Postgres] => "PostgreSQL",
            _ => "a store",
        };
        Err(StrategyError::StoreDown(name.into(), down))
    }

    /// The version that is meant.
    async fn pick(&self, name: &str, digest: Option<&Digest>) -> Result<Digest> {
        if digest.is_none()
            && let Some((_, bytes)) = BUILT_IN.iter().find(|(built_in, _)| *built_in == name)
            && let Err(StrategyError::Store(_)) = self.get(name).await
        {
            // The catalogue cannot be reached; a built-in strategy needs none.
            return Ok(Digest::of(bytes));
        }
        let versions = self.get(name).await?.versions;
        let newest = versions.last().map(|version| version.digest.clone());
        let unknown = |digest: &Digest| StrategyError::UnknownVersion(name.into(), digest.to_string());
        match digest {
            Some(digest) if versions.iter().any(|version| version.digest == *digest) => Ok(digest.clone()),
            Some(digest) => Err(unknown(digest)),
            None => newest.ok_or_else(|| StrategyError::UnknownStrategy(name.into())),
        }
    }
}
