//! The secrets of the installation.

use std::path::Path;

use anyhow::Result;
use clap::Args;

use crate::secrets::Secrets;

/// The same on every node of an installation.
#[derive(Clone, Default, Args)]
pub struct Secret {
    /// Seals credentials and salts the hashes of API keys; at least 32 characters, the same on every node.
    /// Generated in --data when absent.
    #[arg(long, env = "SWITCHYARD_SECRET", hide_env_values = true)]
    pub secret: Option<String>,
    /// Secrets that were in use before, separated by commas: what they sealed and hashed is still read.
    #[arg(long, env = "SWITCHYARD_OLD_SECRETS", hide_env_values = true, value_delimiter = ',')]
    pub old_secrets: Vec<String>,
    /// Claude Relay Service's ENCRYPTION_KEY: its keys and its accounts' credentials are then understood, and new
    /// keys are hashed as it does.
    #[arg(long, env = "ENCRYPTION_KEY", hide_env_values = true)]
    pub encryption_key: Option<String>,
}

impl Secret {
    /// # Errors
    /// As [`Secrets::load`].
    pub fn load(&self, data: &Path) -> Result<Secrets> {
        let given = self.secret.as_deref().filter(|secret| !secret.is_empty());
        let key = self.encryption_key.as_deref().filter(|key| !key.is_empty());
        Secrets::load(given, &self.old_secrets, key, data)
    }
}

/// Tells which there are, and nothing of them.
impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { secret, old_secrets, encryption_key } = self;
        let (secret, key) = (secret.is_some(), encryption_key.is_some());
        write!(f, "Secret {{ secret: {secret}, old: {}, encryption_key: {key} }}", old_secrets.len())
    }
}
