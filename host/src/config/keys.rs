//! Settings of API keys.

use anyhow::{Result, ensure};
use clap::Args;

use crate::keys;

/// How keys look.
#[derive(Debug, Clone, Args)]
pub struct Keys {
    /// What new API keys begin with. Keys that begin otherwise are let in, too.
    #[arg(long, env = "API_KEY_PREFIX", default_value = keys::PREFIX, value_parser = prefix)]
    pub api_key_prefix: String,
}

fn prefix(text: &str) -> Result<String> {
    let fits = (1..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    ensure!(fits, "a prefix has 1 to 32 visible ASCII characters");
    Ok(text.to_owned())
}
