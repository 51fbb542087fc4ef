//! Several nodes on one Redis and one PostgreSQL: who there is, what is chosen for all, and what time it is.
//!
//! There is no leader. Every half second each node puts its line up in each store it can reach, reads the
//! lines of the others, and follows the latest choice of an admin that it finds. Stores that serve this
//! process alone have nothing to tell: then there is one node.
//!
//! # Layout
//! - [`identity`]: the id of a node, kept in its data folder
//! - [`node`]: what a node says about itself, and how others see it
//! - `registry`: the lines of all nodes
//! - `follow`: the latest choice, wherever it was made
//! - [`skew`]: this node's clock beside those of the stores

mod follow;
pub mod identity;
pub mod node;
mod registry;
pub mod skew;

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::recovery::degrade::Modes;
use crate::store::board::{Board, Heard};
use crate::store::side::{Side, Sides};
use crate::store::{Clock, StoreError};
use crate::strategy::Strategies;
use follow::Failure;
use identity::Identity;
use node::Node;

/// How often a node looks into each store, besides when it is told that something has changed.
const EVERY: Duration = Duration::from_millis(500);

/// How long a start waits for each store.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often the nodes are looked at while a change is awaited.
const WATCHED_EVERY: Duration = Duration::from_millis(50);

/// Enters the cluster: compares the clocks, and claims the id. To be done before anything is written.
///
/// # Errors
/// When another node has the id.
pub async fn enter(identity: &Identity, sides: &Sides, clock: &Clock) -> anyhow::Result<()> {
    skew::doubt(clock, sides);
    // Stores that do not answer in time are compared with, and told, in the background.
    let comparing = timeout(PATIENCE, skew::compare(clock, sides));
    let (_, claimed) = tokio::join!(comparing, registry::claim(identity, sides, clock));
    claimed
}

/// The nodes that share this one's stores.
pub struct Cluster {
    identity: Identity,
    strategies: Arc<Strategies>,
    modes: Arc<Modes>,
    clock: Arc<Clock>,
    sides: Sides,
    shared: Vec<Shared>,
    /// The choice that could not be followed.
    failure: Mutex<Option<Failure>>,
    /// That another node has this one's id.
    rival: Mutex<Option<String>>,
    /// Rises when there is something to tell the others.
    news: watch::Sender<u64>,
}

/// A store that other nodes use, too.
struct Shared {
    side: Arc<Side>,
    heard: Mutex<(Instant, Vec<Heard>)>,
}

impl Shared {
    fn of(sides: &Sides) -> Vec<Self> {
        let sides = [&sides.redis, &sides.postgres].into_iter().flatten();
        let shared = sides.filter(|side| side.backend.board().is_some());
        shared
            .map(|side| Self { side: side.clone(), heard: Mutex::new((Instant::now(), Vec::new())) })
            .collect()
    }

    fn board(&self) -> Result<&dyn Board, StoreError> {
        let alone = || StoreError::Unavailable("this store serves one process alone".into());
        self.side.backend.board().ok_or_else(alone)
    }
}

impl Cluster {
    /// The cluster as a node that has entered it sees it.
    pub fn new(
        identity: Identity,
        sides: &Sides,
        strategies: Arc<Strategies>,
        modes: Arc<Modes>,
        clock: Arc<Clock>,
    ) -> Self {
        let (failure, rival, news) = Default::default();
        let (sides, shared) = (sides.clone(), Shared::of(sides));
        Self { identity, strategies, modes, clock, sides, shared, failure, rival, news }
    }

    /// Takes note, once, of what each store says. Takes as long as their deadlines.
    pub async fn look(self: &Arc<Self>) {
        futures::future::join_all(self.shared.iter().map(|shared| self.tend_once(shared))).await;
    }

    /// Goes on looking, and comparing the clocks, for as long as the tasks live.
    pub fn run(self: &Arc<Self>, tasks: &mut JoinSet<()>) {
        tasks.spawn(skew::run(self.clock.clone(), self.sides.clone()));
        for at in 0..self.shared.len() {
            tasks.spawn(self.clone().tend(at));
        }
    }

    /// Waits until every other node has what was chosen in force, or says that it cannot, and at most until
    /// the deadline. Answers how each of them stands then.
    pub async fn settle(&self, deadline: Duration) -> Vec<Node> {
        self.tell();
        let all_settled = async {
            while !self.shared.is_empty() {
                futures::future::join_all(self.shared.iter().map(|shared| self.hear(shared))).await;
                if !self.nodes().iter().any(Node::is_awaited) {
                    break;
                }
                tokio::time::sleep(WATCHED_EVERY).await;
            }
        };
        // Whoever has not settled by then is shown as it stands.
        let _ = timeout(deadline, all_settled).await;
        self.nodes()
    }

    /// The id of this node.
    pub fn node(&self) -> &str {
        &self.identity.node
    }

    /// Why this node writes no records, if its clock is off; or which store's clock is off.
    pub fn clock(&self) -> Option<String> {
        self.clock.refusal().or_else(|| self.clock.odd_store())
    }

    /// There is something to tell the other nodes.
    fn tell(&self) {
        self.news.send_modify(|news| *news += 1);
    }

    /// Ends in order: another node may have the id at once.
    pub async fn leave(&self) {
        let withdraw = self.shared.iter().map(|shared| async {
            let board = shared.board()?;
            board.withdraw(&self.identity.node, &self.identity.holder).await
        });
        for left in futures::future::join_all(withdraw).await {
            if let Err(error) = left {
                tracing::debug!(%error, "left without a word");
            }
        }
    }
}
