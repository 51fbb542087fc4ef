//! What a node says about itself, and how others see it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::recovery::degrade::Mode;
use crate::store::board::FORGOTTEN;
use crate::strategy::catalogue::ActiveState;

/// A node that was not heard of for this long is gone.
const GONE: Duration = Duration::from_secs(10);

/// What a node says about itself, in its line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Said {
    /// What is in force on it.
    pub(super) strategy: String,
    pub(super) digest: String,
    pub(super) generation: u64,
    /// The generation of the choice that it follows.
    pub(super) follows: u64,
    /// The generation of a later choice that it could not follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) failed: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    pub(super) mode: Mode,
    /// The remainder of the versions that it gives.
    pub(super) slot: u64,
    /// By what its secrets are known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) fingerprints: Vec<String>,
}

/// How a node stands to what was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = NodeState)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It is in force there.
    InForce,
    /// It is not in force there yet, or another strategy stands in because a store is lost.
    Waiting,
    /// It could not be loaded there.
    Failed,
    /// The node has not been heard of for ten seconds.
    Gone,
}

/// A node as this one sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Node {
    pub node: String,
    /// What is in force there.
    pub strategy: String,
    pub generation: u64,
    pub digest: String,
    pub state: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    pub seen_ms_ago: u64,
    pub mode: Mode,
}

impl Node {
    /// A node that said this so long ago, beside what is chosen. None when it is forgotten.
    pub(super) fn seen(node: &str, said: Said, age: Duration, chosen: &ActiveState) -> Option<Self> {
        let follows = said.follows == chosen.generation && said.failed.is_none();
        let state = match () {
            () if age > FORGOTTEN => return None,
            () if age > GONE => State::Gone,
            () if said.failed.is_some_and(|failed| failed >= chosen.generation) => State::Failed,
            () if follows && said.strategy == chosen.name && said.digest == chosen.digest => State::InForce,
            () => State::Waiting,
        };
        let Said { strategy, generation, digest, error, mode, .. } = said;
        let (node, seen_ms_ago) = (node.to_owned(), age.as_millis() as u64);
        Some(Self { node, strategy, generation, digest, state, error, seen_ms_ago, mode })
    }

    /// Whether it will have what was chosen in force soon.
    pub(super) fn is_awaited(&self) -> bool {
        self.state == State::Waiting && self.mode == Mode::Normal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(said: Said, seconds: u64) -> Option<State> {
        let chosen =
            ActiveState { generation: 7, name: "mine".into(), digest: "d".into(), ..ActiveState::default() };
        let said = Said { strategy: "mine".into(), digest: "d".into(), ..said };
        Node::seen("n", said, Duration::from_secs(seconds), &chosen).map(|node| node.state)
    }

    #[test]
    fn a_node_is_in_force_when_it_follows_this_very_choice() {
        let said = Said { follows: 7, generation: 12, ..Said::default() };
        assert_eq!(state(said.clone(), 0), Some(State::InForce));
        assert_eq!(state(Said { follows: 6, ..said.clone() }, 0), Some(State::Waiting));
        assert_eq!(state(Said { follows: 6, failed: Some(7), ..said.clone() }, 0), Some(State::Failed));
        assert_eq!(state(Said { follows: 5, failed: Some(6), ..said }, 0), Some(State::Waiting));
    }

    #[test]
    fn a_silent_node_is_gone_after_ten_seconds_and_forgotten_after_a_minute() {
        let said = Said { follows: 7, ..Said::default() };
        assert_eq!(state(said.clone(), 11), Some(State::Gone));
        assert_eq!(state(said, 61), None);
    }
}
