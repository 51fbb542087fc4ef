//! Which store has the last word, agreed on by all nodes through the epoch.
//!
//! PostgreSQL has it, except while a node has lost PostgreSQL or the chosen strategy uses Redis alone. Losing Redis
//! is a node's own matter. One node that has lost PostgreSQL is enough to move all: in a full split, where one
//! node sees only Redis and another only PostgreSQL, both go on, and the greater version wins after the heal.

mod memo;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use memo::Memo;
use parking_lot::Mutex;
use tracing::{info, warn};

use super::rescue::OTHERS;
use crate::engine::Needs;
use crate::store::epoch::{Authority, Ballot, Control, Epoch, Proposal};
use crate::store::side::{Sides, Which};
use crate::store::{Backend, Result, StoreError};
use crate::strategy::Prepare;

/// How often a move is proposed when other nodes' moves come in between.
const ATTEMPTS: usize = 3;
/// How long PostgreSQL is still read when Redis has got the last word, as long as Redis is well: what was in force
/// before ends meanwhile.
const MOVING: Duration = Duration::from_secs(1);

/// What one node does about the authority.
pub struct Authorities {
    sides: Sides,
    epoch: Arc<Epoch>,
    /// Name of this node among the others.
    node: String,
    /// What it says about itself, as [`BALLOTS`] has it.
    ballot: AtomicU8,
    last_word: Mutex<LastWord>,
    memo: Memo,
}

/// What this node knows of the last word.
#[derive(Default)]
struct LastWord {
    epoch: u64,
    /// A node had lost PostgreSQL when this was asked.
    lost: bool,
    /// Redis has it, and PostgreSQL has all that Redis had: a switch has carried it over.
    carried_over: bool,
}

const BALLOTS: [Ballot; 3] = [Ballot::None, Ballot::Lost, Ballot::Holds];

impl Authorities {
    /// `data`: where the node remembers that Redis had the last word when it ended. PostgreSQL is not read then
    /// before Redis was asked.
    pub fn new(sides: Sides, epoch: Arc<Epoch>, node: String, data: &Path) -> Self {
        let memo = Memo::open(data);
        if let (Some(_), Some(postgres), true) = (&sides.redis, &sides.postgres, memo.says_redis()) {
            warn!("Redis had the last word when this node ended: PostgreSQL is read once Redis was asked");
            postgres.set_preceded(Some(Instant::now()));
        }
        Self { sides, epoch, node, ballot: AtomicU8::new(0), last_word: Mutex::default(), memo }
    }

    pub fn epoch(&self) -> &Arc<Epoch> {
        &self.epoch
    }

    /// What this node says about itself from now on, whenever it asks what was agreed on.
    pub fn say(&self, ballot: Ballot) {
        let said = BALLOTS.iter().position(|known| *known == ballot).unwrap_or_default();
        self.ballot.store(said as u8, Ordering::Release);
    }

    /// Asks what the nodes have agreed on, and makes Redis sync as that demands. None where no store keeps it.
    ///
    /// # Errors
    /// Those of Redis.
    pub async fn ask(&self) -> Result<Option<Control>> {
        let Some(redis) = &self.sides.redis else { return Ok(None) };
        let Some(mut control) = self.step(&*redis.backend, None).await? else { return Ok(None) };
        let own = self.epoch.get();
        if control.epoch < own {
            // Redis has lost what it knew, or another store was ahead of it.
            let Control { authority, ref cause, .. } = control;
            let known = Proposal { under: control.epoch, epoch: own, authority, cause: cause.clone() };
            info!(stored = control.epoch, own, "Redis knows an earlier epoch than this node; telling it");
            control = self.step(&*redis.backend, Some(&known)).await?.unwrap_or(control);
        }
        self.note(&control);
        self.memo.keep(self.is_preceded()).await;
        match control.authority {
            Authority::Redis => redis.backend.sync_all(true).await?,
            Authority::Postgres if control.syncs_all || redis.backend.durability() == "redis" => {
                redis.backend.sync_all(false).await?;
            }
            Authority::Postgres => {}
        }
        Ok(Some(control))
    }

    /// While Redis has the last word, PostgreSQL's reads do not count: other nodes may have acknowledged in Redis
    /// what it lacks.
    fn note(&self, control: &Control) {
        let mut known = self.last_word.lock();
        if control.epoch < known.epoch {
            // A move has overtaken this answer.
            return;
        }
        if control.epoch > known.epoch || control.lost > 0 {
            known.carried_over = false;
        }
        (known.epoch, known.lost) = (control.epoch, control.lost > 0);
        if let Some(postgres) = &self.sides.postgres {
            let is = control.authority == Authority::Redis && !known.carried_over;
            postgres.set_preceded(is.then(|| Instant::now() + MOVING));
        }
    }

    /// Whether PostgreSQL is not read because Redis has what it lacks.
    pub(super) fn is_preceded(&self) -> bool {
        self.sides.postgres.as_ref().is_some_and(|postgres| postgres.is_preceded())
    }

    /// A switch away from Redis has carried over what Redis alone had. What other nodes write there until they
    /// follow is carried over by the drain.
    fn note_carried_over(&self) {
        let mut known = self.last_word.lock();
        if let (Some(postgres), false) = (&self.sides.postgres, known.lost) {
            known.carried_over = true;
            postgres.set_preceded(None);
        }
    }

    /// What the other store alone takes now is not in this one.
    pub(super) fn lags(&self, which: Which) {
        if let (Some(redis), Some(postgres)) = (&self.sides.redis, &self.sides.postgres) {
            let side = if which == Which::Redis { redis } else { postgres };
            side.lags_as_a_whole();
        }
    }

    /// Redis comes to stand in for a PostgreSQL in which the nodes acknowledged alone a moment ago: they have it in memory.
    pub(super) fn wait_for_others(&self) {
        self.sides.redis.iter().for_each(|redis| redis.waits_for_others(OTHERS));
    }

    /// Whether no store has to be compared with the other before it is read.
    pub(super) fn are_trusted(&self) -> bool {
        [&self.sides.redis, &self.sides.postgres].into_iter().flatten().all(|side| side.is_trusted())
    }

    /// Redis gets the last word if a strategy with these needs uses it alone.
    pub(super) async fn see_to(&self, needs: Needs, cause: &str) {
        if needs.redis
            && !needs.postgres
            && let Err(error) = self.take(cause).await
        {
            // The supervisor goes on trying; until then acknowledgements say that Redis may lose them.
            warn!(%error, "Redis has not got the last word yet");
        }
    }

    async fn step(&self, store: &dyn Backend, proposal: Option<&Proposal>) -> Result<Option<Control>> {
        let said = usize::from(self.ballot.load(Ordering::Acquire));
        store.control(&self.node, BALLOTS[said], proposal).await
    }

    /// Gives Redis the last word, if it has not got it. Afterwards Redis syncs each write before it answers, where
    /// it lets us.
    async fn take(&self, cause: &str) -> Result<()> {
        let Some(redis) = &self.sides.redis else { return Ok(()) };
        // Before anything is acknowledged under it.
        self.memo.keep(self.sides.postgres.is_some()).await;
        for _ in 0..ATTEMPTS {
            let Some(control) = self.step(&*redis.backend, None).await? else { return Ok(()) };
            let own = self.epoch.get();
            if control.authority == Authority::Redis && control.epoch >= own {
                self.note(&control);
                self.epoch.raise(control.epoch);
                return redis.backend.sync_all(true).await;
            }
            let epoch = control.epoch.max(own) + 1;
            let (authority, cause) = (Authority::Redis, cause.to_owned());
            let proposal = Proposal { under: control.epoch, epoch, authority, cause };
            // Accepted or not, the next look tells.
            self.step(&*redis.backend, Some(&proposal)).await?;
        }
        Err(StoreError::Unavailable("other nodes' moves came in between".into()))
    }

    /// Gives PostgreSQL the last word again, if Redis has it and no node needs it there. To be called when all that
    /// Redis alone has was carried over. May be interrupted and repeated anywhere.
    ///
    /// # Errors
    /// When a store cannot be reached, or another node needs Redis to have it.
    pub async fn give_back(&self, cause: &str) -> Result<()> {
        let (Some(redis), Some(postgres)) = (&self.sides.redis, &self.sides.postgres) else { return Ok(()) };
        let Some(control) = self.step(&*redis.backend, None).await? else { return Ok(()) };
        if control.authority == Authority::Postgres {
            return Ok(());
        }
        let (epoch, authority) = (control.epoch.max(self.epoch.get()) + 1, Authority::Postgres);
        let proposal = Proposal { under: control.epoch, epoch, authority, cause: cause.into() };
        // PostgreSQL first: what it then refuses cannot be acknowledged under the rules of before.
        let raised = self.step(&*postgres.backend, Some(&proposal)).await?;
        let epoch = raised.map_or(epoch, |held| held.epoch.max(epoch));
        let moved = self.step(&*redis.backend, Some(&Proposal { epoch, ..proposal })).await?;
        let Some(moved) = moved.filter(|control| control.authority == Authority::Postgres) else {
            return Err(StoreError::Unavailable("another node needs Redis to have the last word".into()));
        };
        self.note(&moved);
        // From the move on no other node's write counts until it knows of it: the syncing may end.
        redis.backend.sync_all(false).await?;
        self.epoch.raise(epoch);
        Ok(())
    }
}

#[async_trait]
impl Prepare for Authorities {
    async fn before(&self, needs: Needs, cause: &str, carried_over: bool) {
        if needs.postgres && carried_over {
            self.note_carried_over();
        }
        if needs.redis && !needs.postgres {
            self.last_word.lock().carried_over = false;
        }
        self.see_to(needs, cause).await;
    }
}
