//! The epoch: by it the nodes agree which of the two stores has the last word.
//!
//! It rises whenever the authority moves from one store to the other. Every write carries the epoch of its node,
//! and a store that knows a later one refuses it in the same atomic step: a node that slept through a move
//! cannot acknowledge anything under the rules of before. The embedded stores have one node, and no epoch.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::clock::MAX_VERSION;
use crate::planted;

/// The epoch of this process. It only rises.
pub struct Epoch {
    own: watch::Sender<u64>,
    refused: watch::Sender<u64>,
    /// When it was last known that no later one holds; none while this node has nobody to agree with.
    known: watch::Sender<Option<Instant>>,
}

/// How long it is believed that no later epoch holds.
const BELIEVED: Duration = Duration::from_secs(1);

impl Default for Epoch {
    fn default() -> Self {
        Self { own: watch::Sender::new(0), refused: watch::Sender::new(0), known: watch::Sender::new(None) }
    }
}

impl Epoch {
    /// What writes carry now.
    pub fn get(&self) -> u64 {
        *self.own.borrow()
    }

    /// What a write shows to a store.
    pub fn carried(&self) -> u64 {
        if planted::is("epoch-check-removed") { MAX_VERSION } else { self.get() }
    }

    /// From now on writes carry at least this epoch. To be called once the strategy that goes with it is in
    /// force, or when it makes no difference.
    pub fn raise(&self, to: u64) {
        self.own.send_if_modified(|own| {
            let rises = to > *own;
            *own = to.max(*own);
            rises
        });
    }

    /// A store has refused a write because it knows this later epoch.
    pub fn note_refusal(&self, stored: u64) {
        self.refused.send_if_modified(|refused| {
            let rises = stored > *refused;
            *refused = stored.max(*refused);
            rises
        });
    }

    /// The latest epoch by which a store has refused a write.
    pub fn refused(&self) -> u64 {
        *self.refused.borrow()
    }

    /// Changes when a store refuses a write by a later epoch than before.
    pub fn refusals(&self) -> watch::Receiver<u64> {
        self.refused.subscribe()
    }

    /// At this time no later epoch held; none: this node has nobody to agree with, or cannot reach them.
    pub fn set_known(&self, at: Option<Instant>) {
        self.known.send_if_modified(|known| std::mem::replace(known, at) != at);
    }

    /// Waits until it is known that no later epoch holds, as it usually is; false after `patience`. A node that
    /// has slept does not know.
    pub async fn is_current(&self, patience: Duration) -> bool {
        let is_fresh = |known: &Option<Instant>| known.is_none_or(|at| at.elapsed() < BELIEVED);
        if is_fresh(&self.known.borrow()) {
            return true;
        }
        let mut known = self.known.subscribe();
        tokio::time::timeout(patience, known.wait_for(is_fresh)).await.is_ok_and(|known| known.is_ok())
    }

    /// Waits until writes carry every epoch that a store has refused one by; false after `patience`.
    pub async fn caught_up(&self, patience: Duration) -> bool {
        let mut own = self.own.subscribe();
        let reached = own.wait_for(|own| *own >= self.refused());
        tokio::time::timeout(patience, reached).await.is_ok_and(|reached| reached.is_ok())
    }
}

/// Which store has the last word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authority {
    Postgres,
    Redis,
}

impl Authority {
    pub fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Redis => "redis",
        }
    }
}

/// What the nodes have agreed on, as a store knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    pub epoch: u64,
    pub authority: Authority,
    /// Why the authority moved last, and the node that moved it; empty if it never has.
    pub cause: String,
    pub by: String,
    /// How long ago that was, by the store's clock.
    pub age: Duration,
    /// How many nodes say now that they have lost PostgreSQL.
    pub lost: u64,
    /// How many nodes say now that their chosen strategy uses Redis alone.
    pub holds: u64,
    /// Redis syncs every write for as long as it has the last word, and has to be told when it has not.
    pub syncs_all: bool,
}

/// What a node says about itself, believed for [`Ballot::LIFE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ballot {
    /// Nothing: it takes back what it said.
    None,
    /// It has lost PostgreSQL: Redis must have the last word.
    Lost,
    /// Its chosen strategy uses Redis alone: Redis must keep the last word.
    Holds,
}

impl Ballot {
    pub const LIFE: Duration = Duration::from_secs(3);
}

/// A move of the authority. Accepted only if the epoch is still the one it was made under, and never away from
/// Redis while a node needs it there.
#[derive(Debug, Clone)]
pub struct Proposal {
    pub under: u64,
    pub epoch: u64,
    pub authority: Authority,
    pub cause: String,
}
