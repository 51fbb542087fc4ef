//! The lines of all nodes: put up and read in every store that can be reached.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::time::timeout;

use super::identity::Identity;
use super::node::{Node, Said};
use super::{Cluster, PATIENCE, Shared};
use crate::store::board::{HELD, Heard, Line};
use crate::store::clock::SLOTS;
use crate::store::side::Sides;
use crate::store::{Clock, StoreError};

/// Claims the id in every store that can be reached, and takes a slot for the versions.
///
/// # Errors
/// When another node that was heard of lately has the id and a data folder of its own, or none of this one's secrets.
pub(super) async fn claim(identity: &Identity, sides: &Sides, clock: &Clock) -> Result<()> {
    let shared = Shared::of(sides);
    let claims = shared.iter().map(|shared| timeout(PATIENCE, claim_in(shared, identity, clock)));
    for (shared, claimed) in shared.iter().zip(futures::future::join_all(claims).await) {
        let store = shared.side.which.name();
        match claimed {
            Ok(Ok(Claim::Ours)) => {}
            Ok(Ok(Claim::Strange(why))) => bail!(why),
            Ok(Ok(Claim::Taken)) => bail!(
                "the node id {0:?} is in use: {store} has heard of another node with this id, and with another \
                 data folder, within the last {1} s. Give this one another --node-id (SWITCHYARD_NODE_ID), or \
                 wait if that node has just ended",
                identity.node,
                HELD.as_secs()
            ),
            Ok(Err(error)) => tracing::info!(store, %error, "the node id is not claimed there yet"),
            Err(_) => tracing::info!(store, "the node id is not claimed there yet"),
        }
    }
    Ok(())
}

enum Claim {
    Ours,
    Taken,
    /// By a node without any of this one's secrets, in words.
    Strange(String),
}

async fn claim_in(shared: &Shared, identity: &Identity, clock: &Clock) -> Result<Claim, StoreError> {
    let board = shared.board()?;
    let others = board.lines().await?;
    if let Some(why) = stranger(identity, &others, Duration::ZERO) {
        return Ok(Claim::Strange(why));
    }
    take_slot(identity, &others, clock);
    let said = Said { slot: clock.slot(), fingerprints: identity.fingerprints.clone(), ..Said::default() };
    Ok(if board.announce(&identity.line(&said)).await? { Claim::Ours } else { Claim::Taken })
}

/// Says of a node whose line was up lately that it shares none of this one's secrets. The lines were read so long ago.
fn stranger(identity: &Identity, lines: &[Heard], ago: Duration) -> Option<String> {
    let is_strange = |fingerprints: &[String]| {
        !fingerprints.is_empty() && fingerprints.iter().all(|print| !identity.fingerprints.contains(print))
    };
    let recent = lines.iter().filter(|heard| heard.age + ago <= HELD && heard.line.holder != identity.holder);
    let other = recent
        .map(|heard| &heard.line)
        .find(|line| said(&line.text).is_some_and(|said| is_strange(&said.fingerprints)))?;
    Some(format!(
        "node {0:?} has another secret: neither could read what the other one seals, nor know the keys it made. Give all \
         nodes the same --secret (SWITCHYARD_SECRET); without one, that node has generated its own as `secret` in its \
         data folder",
        other.node
    ))
}

/// Takes the least slot that no other node has, unless this node's is its own already. Of two nodes with one
/// slot the one whose id is the greater gives it up.
fn take_slot(identity: &Identity, lines: &[Heard], clock: &Clock) {
    let others = lines.iter().map(|heard| &heard.line).rev().filter(|line| line.holder != identity.holder);
    let slots: BTreeMap<u64, &str> =
        others.filter_map(|line| Some((said(&line.text)?.slot, line.node.as_str()))).collect();
    if slots.get(&clock.slot()).is_some_and(|node| *node < identity.node.as_str()) {
        let taken: BTreeSet<u64> = slots.into_keys().collect();
        clock.take_slot((0..SLOTS).find(|slot| !taken.contains(slot)).unwrap_or_default());
    }
}

fn said(text: &str) -> Option<Said> {
    serde_json::from_str(text).ok()
}

impl Identity {
    fn line(&self, said: &Said) -> Line {
        let text = serde_json::to_string(said).unwrap_or_default();
        Line { node: self.node.clone(), holder: self.holder.clone(), text }
    }
}

impl Cluster {
    /// Every node there is, this one included, as they were heard of last.
    pub fn nodes(&self) -> Vec<Node> {
        let chosen = self.strategies.chosen();
        let mut newest: BTreeMap<String, (Duration, Said)> = BTreeMap::new();
        for shared in &self.shared {
            let (at, heard) = &*shared.heard.lock();
            for Heard { line, age } in heard {
                let (age, Some(said)) = (*age + at.elapsed(), said(&line.text)) else { continue };
                if newest.get(&line.node).is_none_or(|(known, _)| age < *known) {
                    newest.insert(line.node.clone(), (age, said));
                }
            }
        }
        newest.insert(self.identity.node.clone(), (Duration::ZERO, self.says()));
        newest.into_iter().filter_map(|(node, (age, said))| Node::seen(&node, said, age, &chosen)).collect()
    }

    fn says(&self) -> Said {
        let active = self.strategies.active.enter();
        let failure = self.failure.lock().clone();
        let failed = failure.as_ref().map(|failure| failure.generation);
        let error = self.rival.lock().clone().or_else(|| self.stranger());
        let error = error.or(self.clock.refusal()).or(failure.map(|failure| failure.error));
        Said {
            strategy: active.name.clone(),
            digest: active.digest.to_string(),
            generation: active.number,
            follows: self.strategies.chosen().generation,
            failed,
            error,
            mode: self.modes.mode(),
            slot: self.clock.slot(),
            fingerprints: self.identity.fingerprints.clone(),
        }
    }

    /// One that came while its store could not be asked at the start.
    fn stranger(&self) -> Option<String> {
        self.shared.iter().find_map(|shared| {
            let (at, heard) = &*shared.heard.lock();
            stranger(&self.identity, heard, at.elapsed())
        })
    }

    /// Puts this node's line up in a store.
    pub(super) async fn announce(&self, shared: &Shared) -> Result<(), StoreError> {
        let is_ours = shared.board()?.announce(&self.identity.line(&self.says())).await?;
        let rival = (!is_ours).then(|| format!("another node has the id {:?}, too", self.identity.node));
        let mut known = self.rival.lock();
        if let Some(rival) = rival.as_ref().filter(|_| known.is_none()) {
            tracing::error!(store = shared.side.which.name(), "{rival}; end one of them");
        }
        *known = rival;
        Ok(())
    }

    /// Reads the lines in a store. Those that were read before stand when it cannot be reached, and age.
    pub(super) async fn hear(&self, shared: &Shared) {
        let lines = match shared.board() {
            Ok(board) => board.lines().await,
            Err(error) => Err(error),
        };
        if let Ok(lines) = lines {
            take_slot(&self.identity, &lines, &self.clock);
            *shared.heard.lock() = (Instant::now(), lines);
        }
    }
}
