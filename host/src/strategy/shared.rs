//! What other nodes need of this one's strategies: the choice as the durable store has it, and versions that
//! are ready before they are chosen.

use super::Strategies;
use super::catalogue::ActiveState;
use crate::engine::Digest;
use crate::store;

impl Strategies {
    /// The choice as the durable store has it.
    pub async fn kept(&self) -> store::Result<Option<ActiveState>> {
        self.catalogue.active().await
    }

    /// Keeps a choice in the durable store.
    ///
    /// # Errors
    /// `Conflict` when it has a later one, or got another one in this moment.
    pub async fn keep_durably(&self, chosen: &ActiveState) -> store::Result<()> {
        self.catalogue.set_active(chosen).await
    }

    /// Compiles a version that may be chosen soon.
    ///
    /// # Errors
    /// What would keep it from being activated.
    pub async fn compile_ahead(&self, name: &str, digest: &Digest) -> super::Result<()> {
        self.prepare(name, digest).await.map(drop)
    }
}
