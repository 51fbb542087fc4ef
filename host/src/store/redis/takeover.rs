//! A database of Claude Relay Service, while nothing of ours runs on it.

use async_trait::async_trait;

use super::direct::Direct;
use crate::store::Result;
use crate::store::takeover::{Credentials, GivenBack, Survey, Takeover};

#[async_trait]
impl Takeover for Direct {
    async fn survey(&self, credentials: &dyn Credentials) -> Result<Survey> {
        self.look(credentials).await
    }

    async fn give_back(&self, credentials: &dyn Credentials) -> Result<GivenBack> {
        self.hand_over(credentials).await
    }
}
