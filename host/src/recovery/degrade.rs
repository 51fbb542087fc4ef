//! Decides which strategy is in force: the chosen one, or a stand-in while a store is lost.
//!
//! One supervisor per node looks ten times a second. Without Redis `postgres_only` stands in, without PostgreSQL
//! `redis_only`, if the chosen strategy uses the lost store; with both lost everything stays as it is, and so it does
//! when the chosen strategy uses Redis alone and Redis is lost: PostgreSQL lacks what was acknowledged. A stand-in
//! comes into force at once. The chosen strategy returns when both stores have been back for a while and what was
//! written meanwhile is carried over. Nothing changes while the choice is pinned.

mod attempt;
mod latch;
mod modes;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::MissedTickBehavior;
use tracing::debug;

use self::attempt::{Attempt, Goal};
pub use self::latch::Seen;
use self::latch::{Outlook, Verdict, Watched};
pub use self::modes::{Mode, ModeStatus, Modes, Transition};
use super::authority::Authorities;
use crate::engine::{Digest, Needs};
use crate::planted;
use crate::store::epoch::{Authority, Ballot, Control};
use crate::store::side::Which;
use crate::strategy::Strategies;
use crate::strategy::catalogue::BUILT_IN;
use crate::strategy::records::CarryOver;

const REDIS_ONLY: &str = "redis_only";
const POSTGRES_ONLY: &str = "postgres_only";
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often to ask what the nodes have agreed on.
const ASK_EVERY: Duration = Duration::from_millis(250);
/// What was agreed on is forgotten when nobody could ask for this long.
const BELIEVED: Duration = Duration::from_secs(2);
/// At most one transition in this time.
const APART: Duration = Duration::from_secs(10);
/// How long after a failed attempt to try again.
const RETRY: Duration = Duration::from_secs(1);
/// A supervisor that has not looked for this long has slept, with the whole process.
const ASLEEP: Duration = Duration::from_secs(1);
/// How long the authority stays where it was moved: another node's choice may be on its way.
const SETTLED: Duration = Duration::from_secs(5);

/// Tells how a store is now.
pub type Look = Box<dyn Fn(Which) -> Seen + Send + Sync>;

/// What a supervisor works on.
pub type Supervised = (Arc<Strategies>, Arc<Authorities>, Arc<dyn CarryOver>, Arc<Modes>);

/// The supervisor of a node.
pub struct Supervisor {
    strategies: Arc<Strategies>,
    authorities: Arc<Authorities>,
    carry: Arc<dyn CarryOver>,
    modes: Arc<Modes>,
    look: Look,
    redis: Watched,
    postgres: Watched,
    /// What the nodes have agreed on, and when that was asked.
    agreed: Option<(Control, Instant)>,
    ask_at: Instant,
    attempt: Option<Attempt>,
    refused_at: Instant,
    stepped: Instant,
    keep_at: Instant,
    /// No transition before.
    not_before: Instant,
}

impl Supervisor {
    pub fn new(supervised: Supervised, look: Look) -> Self {
        let (strategies, authorities, carry, modes) = supervised;
        let now = Instant::now();
        let (redis, postgres) = (Watched::new(Which::Redis, now), Watched::new(Which::Postgres, now));
        Self {
            strategies,
            authorities,
            carry,
            modes,
            look,
            redis,
            postgres,
            agreed: None,
            attempt: None,
            ask_at: now,
            refused_at: now,
            stepped: now,
            keep_at: now,
            not_before: now,
        }
    }

    /// Supervises for as long as the task lives.
    pub async fn run(mut self) {
        for name in [REDIS_ONLY, POSTGRES_ONLY] {
            if let Err(error) = self.strategies.make_ready(name).await {
                debug!(%error, name, "not ready to stand in for a lost store");
            }
        }
        let mut refusals = self.authorities.epoch().refusals();
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                // A write waits to know what was agreed on.
                _ = refusals.changed() => {
                    self.refused_at = Instant::now();
                    self.ask_at = self.refused_at;
                }
            }
            self.step().await;
        }
    }

    async fn step(&mut self) {
        let now = Instant::now();
        if now.saturating_duration_since(self.stepped) > ASLEEP {
            // What is known of the stores is of before; they have not had the time to answer anew.
            self.redis.doubt(now);
            self.postgres.doubt(now);
        }
        self.stepped = now;
        self.redis.note((self.look)(Which::Redis), now);
        self.postgres.note((self.look)(Which::Postgres), now);
        self.end_attempt(now);
        // Asked even while the breaker is open: what was agreed on must not be missed.
        if now >= self.ask_at && (self.redis.up() || !self.redis.lost) {
            self.ask(Instant::now()).await;
        }
        if self.agreed.as_ref().is_some_and(|(_, asked)| asked.elapsed() > BELIEVED) {
            self.agreed = None;
        }
        let (chosen, needs) = (self.strategies.chosen(), self.strategies.chosen_needs());
        if needs.postgres && !self.redis.up() && self.postgres.up() {
            // Other nodes acknowledge in PostgreSQL alone now, whatever is in force here.
            self.authorities.lags(Which::Redis);
        }
        let (redis, postgres, voted) = (&self.redis, &self.postgres, self.voted());
        let mode = Mode::of(redis.lost, postgres.lost || voted);
        self.modes.set(mode, || self.cause(mode));
        let (pinned, preceded) = (chosen.pinned, self.authorities.is_preceded());
        let verdict = Outlook { chosen: needs, pinned, redis, postgres, voted, preceded }.verdict();
        self.say(needs).await;
        if self.attempt.is_none() && now >= self.not_before {
            self.act(verdict, needs);
        }
        self.follow_epoch();
        if now.elapsed() < ASLEEP {
            self.stepped = Instant::now();
        }
        if self.postgres.up() && now >= self.keep_at {
            self.keep_at = now + RETRY;
            self.strategies.keep_owed().await;
        }
    }

    /// Asks what the nodes have agreed on.
    async fn ask(&mut self, now: Instant) {
        self.ask_at = now + ASK_EVERY;
        if planted::is("epoch-check-removed") {
            return;
        }
        match self.authorities.ask().await {
            // As of when it was asked: the answer may have waited for us.
            Ok(control) => self.agreed = control.zip(Some(now)),
            Err(error) => debug!(%error, "not known what the nodes have agreed on"),
        }
    }

    /// Whether a node has lost PostgreSQL, by its word in Redis.
    fn voted(&self) -> bool {
        let voted = |control: &Control| control.authority == Authority::Redis && control.lost > 0;
        self.agreed.as_ref().is_some_and(|(control, _)| voted(control))
    }

    fn cause(&self, mode: Mode) -> String {
        match mode {
            Mode::Normal => "both stores are back".into(),
            Mode::RedisLost => self.redis.cause(),
            Mode::PostgresLost if self.postgres.lost => self.postgres.cause(),
            Mode::PostgresLost => self.agreed.as_ref().map_or_else(String::new, |(control, _)| {
                format!("node {} has lost PostgreSQL ({})", control.by, control.cause)
            }),
            Mode::BothLost => format!("{}; {}", self.redis.cause(), self.postgres.cause()),
        }
    }

    /// Tells the other nodes what this one needs of Redis, and sees to it that it gets it.
    async fn say(&mut self, needs: Needs) {
        let active = self.strategies.active.enter();
        let chosen = self.strategies.chosen().is(&active.name, &active.digest);
        let ballot = match (active.needs.redis && !active.needs.postgres, chosen) {
            (true, true) => Ballot::Holds,
            (true, false) if self.postgres.lost && needs.postgres => Ballot::Lost,
            _ if self.is_leaving_postgres() && self.postgres.lost => Ballot::Lost,
            _ => Ballot::None,
        };
        self.authorities.say(ballot);
        let has_it = |control: &Control| control.authority == Authority::Redis;
        if ballot != Ballot::None
            && self.attempt.is_none()
            && self.agreed.as_ref().is_some_and(|(control, _)| !has_it(control))
        {
            let needs = active.needs;
            drop(active);
            self.authorities.see_to(needs, "it is needed there").await;
            self.ask_at = Instant::now();
        }
    }

    /// While one store alone took writes, other nodes' are not in the other one either: that must not answer in its
    /// place before they are carried over. Whatever the nodes marked in PostgreSQL while Redis was away lags already,
    /// unless it was carried over since: then the last moments are all that may be missing.
    fn note_lag(&self, stands_in: bool) {
        let active = self.strategies.active.enter();
        match active.needs {
            _ if active.handover => {}
            Needs { redis: false, .. } if stands_in && self.strategies.chosen_needs().redis => {
                self.authorities.wait_for_others();
            }
            Needs { redis: true, postgres: false } => self.authorities.lags(Which::Postgres),
            Needs { redis: false, postgres: true } => self.authorities.lags(Which::Redis),
            _ => {}
        }
    }

    fn is_leaving_postgres(&self) -> bool {
        let goal = self.attempt.as_ref().and_then(|attempt| attempt.transition.as_ref());
        goal.is_some_and(|goal| goal.name == REDIS_ONLY)
    }

    /// Begins what brings into force what should be.
    fn act(&mut self, verdict: Verdict, needs: Needs) {
        let (active, chosen) = (self.strategies.active.enter(), self.strategies.chosen());
        let stand_in = match verdict {
            Verdict::Unchanged => return,
            Verdict::RedisOnly => REDIS_ONLY,
            Verdict::PostgresOnly => POSTGRES_ONLY,
            Verdict::Chosen if chosen.is(&active.name, &active.digest) => return self.settle(needs),
            Verdict::Chosen => return self.restore(&chosen, active.label()),
        };
        let built_in = BUILT_IN.iter().find(|(name, _)| *name == stand_in);
        let Some(digest) = built_in.map(|(_, bytes)| Digest::of(bytes)) else { return };
        if active.name == stand_in && active.digest == digest {
            return;
        }
        let cause = match verdict {
            Verdict::RedisOnly => {
                if self.postgres.lost {
                    self.authorities.say(Ballot::Lost);
                }
                self.cause(Mode::PostgresLost)
            }
            _ => self.cause(Mode::RedisLost),
        };
        let goal = Goal { name: stand_in.into(), digest, from: active.label(), cause };
        self.stand_in(goal);
    }

    /// Takes over the epoch that the others have moved on to: at once, unless a strategy has to come into force
    /// first, which then sees to it.
    fn follow_epoch(&self) {
        let epoch = self.authorities.epoch();
        let agreed = self.agreed.as_ref();
        if let Some((control, _)) = agreed
            && (control.authority == Authority::Postgres || !self.is_leaving_postgres())
        {
            epoch.raise(control.epoch);
        }
        // PostgreSQL may be ahead of Redis when a move was interrupted, or when Redis cannot be asked.
        let asked_since = agreed.is_some_and(|(_, asked)| *asked >= self.refused_at);
        if !self.redis.up() || (asked_since && agreed.is_some_and(|(c, _)| c.epoch < epoch.refused())) {
            epoch.raise(epoch.refused());
        }
        match agreed {
            _ if self.redis.lost => epoch.set_known(None),
            Some((control, asked)) if control.epoch <= epoch.get() => epoch.set_known(Some(*asked)),
            _ => {}
        }
    }
}
