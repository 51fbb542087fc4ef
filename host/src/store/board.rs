//! Where the nodes that share a store tell each other about themselves.

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::broadcast;

use super::Result;

/// How long the id of a node that was not heard of is kept for it, by the store's clock.
pub const HELD: Duration = Duration::from_secs(5);

/// How long the line of a node that was not heard of stays up, by the store's clock.
pub const FORGOTTEN: Duration = Duration::from_secs(60);

/// What a node says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The node's id. One holder has it at a time.
    pub node: String,
    /// Who holds the id: a random text that is kept in the node's data folder.
    pub holder: String,
    /// What it says, for other nodes to read.
    pub text: String,
}

/// A line that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    pub line: Line,
    /// How long ago it was put up, by the store's clock.
    pub age: Duration,
}

/// A store that nodes share. Every call ends within the store's deadline.
#[async_trait]
pub trait Board: Send + Sync {
    /// Puts this line up in place of the node's last one, and takes down those that are [`FORGOTTEN`].
    /// Answers false, and changes nothing, while the id is [`HELD`] for another holder.
    async fn announce(&self, line: &Line) -> Result<bool>;

    /// All lines, in order of node.
    async fn lines(&self) -> Result<Vec<Heard>>;

    /// Takes down this holder's line, so that another may have the id at once.
    async fn withdraw(&self, node: &str, holder: &str) -> Result<()>;

    /// The copy of the admin's choice that is kept here, for when PostgreSQL is lost. None from the store
    /// that has the catalogue: it has the choice there.
    async fn choice(&self) -> Result<Option<String>> {
        Ok(None)
    }

    /// Keeps a copy of the admin's choice.
    async fn set_choice(&self, _choice: &str) -> Result<()> {
        Ok(())
    }

    /// Ids of records of the catalogue that have changed, as the server announces them: soon, but not
    /// surely. None from a store without the catalogue.
    fn notices(&self) -> Option<broadcast::Receiver<String>> {
        None
    }
}
