//! What the supervisor does about it: transitions, and the authority's return.

use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, info};

use super::latch::Watched;
use super::{APART, Mode, RETRY, SETTLED, Supervisor};
use crate::engine::{Digest, Needs};
use crate::recovery::authority::Authorities;
use crate::store::epoch::{Authority, Control};
use crate::strategy::Strategies;
use crate::strategy::catalogue::ActiveState;
use crate::strategy::records::CarryOver;

/// Something under way: a transition, or else the authority's return alone.
pub(super) struct Attempt {
    pub(super) transition: Option<Goal>,
    task: AbortOnDropHandle<Result<(), String>>,
}

/// A transition.
#[derive(Clone)]
pub(super) struct Goal {
    pub(super) name: String,
    pub(super) digest: Digest,
    pub(super) from: String,
    pub(super) cause: String,
}

impl Supervisor {
    /// Puts a stand-in in force at once.
    pub(super) fn stand_in(&mut self, goal: Goal) {
        self.note_lag(true);
        let (strategies, to) = (self.strategies.clone(), goal.clone());
        self.begin(Some(goal), async move { bring(&strategies, &to).await });
    }

    /// Goes back to what was chosen: first everything that one store alone has is carried over.
    pub(super) fn restore(&mut self, chosen: &ActiveState, from: String) {
        let Some(digest) = Digest::parse(&chosen.digest) else { return };
        self.note_lag(false);
        let cause = self.cause(Mode::Normal);
        let goal = Goal { name: chosen.name.clone(), digest, from, cause };
        let (strategies, to, both) = (self.strategies.clone(), goal.clone(), self.both_are_up());
        let (carry, authorities) = (self.carry.clone(), self.authorities.clone());
        self.begin(Some(goal), async move {
            if both {
                hand_back(&*carry, &authorities, &to.cause).await?;
            }
            bring(&strategies, &to).await
        });
    }

    /// The chosen strategy is in force. If it uses both stores, PostgreSQL gets the last word back.
    pub(super) fn settle(&mut self, needs: Needs) {
        let is_over = |control: &Control| {
            control.authority == Authority::Redis
                && control.lost + control.holds == 0
                && control.age >= SETTLED
        };
        if needs.postgres
            && self.both_are_up()
            && self.agreed.as_ref().is_some_and(|(control, _)| is_over(control))
        {
            let (carry, authorities) = (self.carry.clone(), self.authorities.clone());
            self.begin(None, async move {
                hand_back(&*carry, &authorities, "the chosen strategy uses PostgreSQL").await
            });
        }
    }

    fn both_are_up(&self) -> bool {
        let fine = |watched: &Watched| watched.up() && !watched.lost;
        fine(&self.redis) && fine(&self.postgres)
    }

    fn begin(
        &mut self,
        transition: Option<Goal>,
        task: impl Future<Output = Result<(), String>> + Send + 'static,
    ) {
        let task = AbortOnDropHandle::new(tokio::spawn(task));
        self.attempt = Some(Attempt { transition, task });
    }

    /// Notes a transition that has come into force, or an attempt that has failed.
    pub(super) fn end_attempt(&mut self, now: Instant) {
        let Some(attempt) = &mut self.attempt else { return };
        let active = self.strategies.active.enter();
        if let Some(Goal { name, digest, from, cause }) = &attempt.transition
            && active.name == *name
            && active.digest == *digest
        {
            info!(from, to = active.label(), cause, "what is in force has changed");
            self.modes.changed(from.clone(), active.label(), cause.clone());
            (self.attempt, self.not_before) = (None, now + APART);
            return;
        }
        if let Some(ended) = (&mut attempt.task).now_or_never() {
            if let Ok(Err(reason)) = ended {
                debug!(reason, "what is in force could not be changed; trying again");
            }
            (self.attempt, self.not_before) = (None, now + RETRY);
        }
    }
}

async fn bring(strategies: &Arc<Strategies>, goal: &Goal) -> Result<(), String> {
    let enforced = strategies.enforce(&goal.name, &goal.digest, &goal.cause).await;
    enforced.map(drop).map_err(|error| error.to_string())
}

/// Carries over what one store alone has, and then gives PostgreSQL the last word.
async fn hand_back(carry: &dyn CarryOver, authorities: &Authorities, cause: &str) -> Result<(), String> {
    if !authorities.are_trusted() {
        return Err("the stores have not been compared yet".into());
    }
    if let Some(reason) = carry.catch_up().await.incomplete {
        return Err(reason);
    }
    authorities.give_back(cause).await.map_err(|error| error.to_string())
}
