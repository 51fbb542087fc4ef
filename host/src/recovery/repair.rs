//! Compares a store that lost data with the other one, and makes both whole again before it is read.
//!
//! Each gets what the other has, by compare-and-set: newest versions win, deletes included. Of two stores that both
//! lost something the union of what is left is taken. One node does it at a time, by a right that Redis gives.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::Offset;
use tokio::sync::{Notify, oneshot, watch};
use tracing::{info, warn};

use super::complete::{self, Copying};
use super::copy::{Pace, Progress, named};
use super::forgotten;
use super::recount;
use super::trust::{Judged, Need, Trust};
use crate::store::identity::{Identity, Loss, Seen, Standing};
use crate::store::kind::{Kind, USAGE};
use crate::store::side::{Side, Sides};
use crate::store::{Result, StoreError};
use crate::strategy::Strategies;
use crate::strategy::events::Event;
use crate::strategy::records::CarryOver;

/// How long to wait before something that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How long until the stores are asked again whether they are complete.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Until every node has noticed the loss, so that none takes an older receipt of the store for a newer one.
const NOTICED: Duration = Duration::from_secs(1);

/// Keeps the stores of a node whole and complete.
pub struct Repair {
    pub sides: Sides,
    pub trust: Arc<Trust>,
    pub copying: Copying,
    pub offset: Offset,
    pub carry: Arc<dyn CarryOver>,
    pub strategies: Arc<Strategies>,
    /// PostgreSQL has lost what it had counted.
    uncounted: Arc<Notify>,
    state: State,
}

/// What goes on from one attempt to the next.
#[derive(Default)]
struct State {
    /// Names this node to the others.
    holder: String,
    pace: Pace,
    begun: Option<Begun>,
}

/// A comparison that was begun.
struct Begun {
    /// The runs of the stores, and which of them lost data.
    runs: [String; 2],
    lost: [Option<Loss>; 2],
    /// By kind, and whether it goes to Redis.
    copies: BTreeMap<(&'static str, bool), Progress>,
}

impl Repair {
    pub fn new(
        sides: Sides,
        trust: Arc<Trust>,
        copying: Copying,
        offset: Offset,
        carry: Arc<dyn CarryOver>,
        strategies: Arc<Strategies>,
    ) -> Self {
        let state = State { holder: uuid::Uuid::now_v7().to_string(), ..State::default() };
        Self { sides, trust, copying, offset, carry, strategies, uncounted: Arc::default(), state }
    }

    /// Tells when PostgreSQL has lost counters that Redis still has: a sync takes them over.
    pub fn uncounted(&self) -> Arc<Notify> {
        self.uncounted.clone()
    }

    /// Works for as long as the task lives. Tells when all is complete for the first time.
    pub async fn run(mut self, first: oneshot::Sender<()>) {
        let (mut first, mut failing, mut needs) = (Some(first), None, self.trust.need());
        loop {
            let need = needs.borrow_and_update().clone();
            let pause = tokio::select! {
                () = superseded(&mut needs, &need) => continue,
                done = self.serve(&need) => match done {
                    Ok(()) => {
                        failing = None;
                        if need.compare == [false; 2] && let Some(first) = first.take() {
                            // Nobody waits any more when this fails.
                            let _ = first.send(());
                        }
                        LOOK_AGAIN
                    }
                    Err(error) => {
                        if failing.replace(error.clone()).as_ref() != Some(&error) {
                            warn!(%error, "the stores are not known to be whole; trying every second");
                        }
                        RETRY
                    }
                },
            };
            // Only a change of what is needed ends the pause early.
            let _ = tokio::time::timeout(pause, needs.wait_for(|now| *now != need)).await;
        }
    }

    async fn serve(&mut self, need: &Need) -> Result<()> {
        if !need.known {
            return std::future::pending().await;
        }
        if need.compare != [false; 2] {
            return self.compare().await;
        }
        self.state.begun = None;
        complete::once(&self.sides, self.copying, &*self.carry, &mut self.state.pace).await?;
        let (Some(redis), Some(postgres)) = (&self.sides.redis, &self.sides.postgres) else { return Ok(()) };
        if redis.backend.identity().await?.is_none() {
            return complete::first_usage(redis, postgres).await;
        }
        if recount::is_needed(redis, postgres).await? {
            let State { holder, pace, .. } = &mut self.state;
            let counted = recount::recount(redis, postgres, holder, self.offset, &*self.carry, pace).await?;
            info!(counted, "Redis has counted its usage anew");
        }
        Ok(())
    }

    /// Compares the stores, and goes on where an earlier attempt in the same runs has stopped.
    async fn compare(&mut self) -> Result<()> {
        let sides = self.sides.clone();
        let (Some(redis), Some(postgres)) = (&sides.redis, &sides.postgres) else { return Ok(()) };
        self.claim(redis, self.state.begun.is_some()).await?;
        // Another node may have done it until now.
        let [Some(a), Some(b)] = self.trust.judge().await else {
            return Err(StoreError::Unavailable("not both stores can be asked".into()));
        };
        if a.standing == Standing::Fresh {
            return self.introduce(redis, postgres, &a).await;
        }
        if [a.standing, b.standing] == [Standing::Same; 2] {
            return self.vouch(redis, &run(&a)).await;
        }
        let runs = [run(&a), run(&b)];
        if self.state.begun.as_ref().is_none_or(|begun| begun.runs != runs) {
            let lost = [&a, &b].map(|judged| match judged.standing {
                Standing::Lost(loss) => Some(loss),
                Standing::Same | Standing::Fresh => None,
            });
            self.begin(redis, postgres, &a, lost).await?;
            self.state.begun = Some(Begun { runs, lost, copies: BTreeMap::new() });
        }
        let copied = self.merge(redis, postgres).await?;
        self.conclude(redis, postgres, &a, &b).await?;
        let skipped = self.state.begun.iter().flat_map(|begun| begun.copies.values());
        let skipped: Vec<_> = skipped.flat_map(|copy| copy.skipped.iter().cloned()).collect();
        let left_out = if skipped.is_empty() { "" } else { "; refused, and not answered for: " };
        let detail = format!("{copied} records compared{left_out}{}", named(&skipped));
        self.report("store-whole", detail).await;
        self.state.begun = None;
        Ok(())
    }

    /// Two stores that have never met.
    async fn introduce(&self, redis: &Side, postgres: &Side, judged: &Judged) -> Result<()> {
        name(redis, postgres, judged).await?;
        complete::first_usage(redis, postgres).await?;
        self.vouch(redis, &run(judged)).await
    }

    async fn begin(
        &self,
        redis: &Side,
        postgres: &Side,
        judged: &Judged,
        lost: [Option<Loss>; 2],
    ) -> Result<()> {
        for (side, loss) in [redis, postgres].into_iter().zip(lost) {
            let Some(loss) = loss else { continue };
            let what = match loss {
                Loss::Restarted => "is compared with the other store",
                Loss::Emptied | Loss::Replaced | Loss::Older => "lost its data",
            };
            self.report("store-lost", format!("{} {what}: {}", side.which.name(), loss.reason())).await;
        }
        if lost[0].is_some() {
            name(redis, postgres, judged).await?;
        }
        if lost[1].is_some() {
            postgres.backend.doubt("").await?;
        }
        tokio::time::sleep(NOTICED).await;
        Ok(())
    }

    /// Gives each store that lost data what the other has.
    async fn merge(&mut self, redis: &Side, postgres: &Side) -> Result<u64> {
        let lost = self.state.begun.as_ref().map_or([None; 2], |begun| begun.lost);
        if lost[1].is_some() {
            self.copy(redis, postgres).await?;
        }
        if lost[0].is_none() {
            let deleted = forgotten::delete(redis, postgres, &*self.carry, &mut self.state.pace).await?;
            if !deleted.is_empty() {
                let (count, named) = (deleted.len(), deleted[..deleted.len().min(100)].join(", "));
                self.report("store-repaired", format!("deleted again in postgres, {count}: {named}")).await;
            }
        }
        if lost[0].is_some() {
            self.copy(postgres, redis).await?;
        }
        let copies = self.state.begun.iter().flat_map(|begun| begun.copies.values());
        Ok(copies.map(|copy| copy.count).sum())
    }

    async fn copy(&mut self, from: &Side, to: &Side) -> Result<()> {
        for kind in Kind::public() {
            loop {
                self.claim(if to.is_redis() { to } else { from }, true).await?;
                let State { begun: Some(begun), pace, .. } = &mut self.state else { return Ok(()) };
                let copy = begun.copies.entry((kind.name, to.is_redis())).or_default();
                if copy.is_done() {
                    break;
                }
                copy.step(from, to, kind, &*self.carry, pace).await?;
            }
            to.backend.set_complete(kind).await?;
        }
        Ok(())
    }

    /// Lets both stores remember each other as they are now, and be read again.
    async fn conclude(&self, redis: &Side, postgres: &Side, a: &Judged, b: &Judged) -> Result<()> {
        let lost = self.state.begun.as_ref().map_or([None; 2], |begun| begun.lost);
        if let (Some(_), Some(own)) = (lost[1], &b.identity) {
            let known = a.identity.as_ref().and_then(|redis| redis.counterpart.as_ref());
            let above = known.map_or(0, |seen| seen.mark).max(self.trust.postgres_mark());
            if !postgres.backend.vouch(None, &own.run, above).await? {
                return Err(StoreError::Unavailable("PostgreSQL has restarted meanwhile".into()));
            }
            if let Some(Identity { incarnation: Some(incarnation), mark, .. }) =
                postgres.backend.identity().await?
            {
                redis.backend.remember(&Seen { incarnation, mark }).await?;
            }
            if redis.backend.complete(&USAGE).await? && !postgres.backend.complete(&USAGE).await? {
                self.uncounted.notify_one();
            }
        }
        self.trust.forget();
        self.vouch(redis, &run(a)).await
    }

    /// Ends with the right to repair.
    async fn vouch(&self, redis: &Side, run: &str) -> Result<()> {
        match redis.backend.vouch(Some(&self.state.holder), run, 0).await? {
            true => Ok(()),
            false => Err(StoreError::Unavailable("Redis has restarted, or was emptied, meanwhile".into())),
        }
    }

    async fn claim(&mut self, redis: &Side, renew: bool) -> Result<()> {
        if redis.backend.claim(&self.state.holder, renew).await? {
            return Ok(());
        }
        // What was copied may be gone: from the beginning, once the right is free.
        self.state.begun = None;
        Err(StoreError::Unavailable("another node compares the stores, or Redis was emptied".into()))
    }

    async fn report(&self, action: &str, detail: String) {
        let strategy = self.strategies.active.enter().name.clone();
        self.strategies.events.add(Event::new(action, &strategy, "recovery", detail)).await;
    }
}

/// Waits until it is known what is needed, and then until something else is, not only because it was done.
async fn superseded(needs: &mut watch::Receiver<Need>, need: &Need) {
    let differs = |now: &Need| now != need && (!need.known || !now.known || now.compare != [false; 2]);
    if needs.wait_for(differs).await.is_err() {
        // The watch over the stores has ended, and with it this process.
        std::future::pending().await
    }
}

fn run(judged: &Judged) -> String {
    judged.identity.as_ref().map(|own| own.run.clone()).unwrap_or_default()
}

/// Gives Redis's data a name if it has none, which PostgreSQL knows before, and voids what it was complete for.
async fn name(redis: &Side, postgres: &Side, judged: &Judged) -> Result<()> {
    let held = judged.identity.as_ref().and_then(|own| own.incarnation.clone());
    let incarnation = held.unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
    postgres.backend.remember(&Seen { incarnation: incarnation.clone(), mark: 0 }).await?;
    redis.backend.doubt(&incarnation).await
}
