//! Log lines, to standard error.

use std::io::IsTerminal;

use anyhow::{Context, Result};
use tracing_subscriber::EnvFilter;

/// Begins to write log lines, for the whole process: only a `main` may call this.
///
/// # Errors
/// When the filter is malformed, or something writes log lines already.
pub fn begin(filter: &str, json: bool) -> Result<()> {
    let filter = EnvFilter::try_new(filter).context("--log (RUST_LOG)")?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let begun = if json { lines.json().try_init() } else { lines.try_init() };
    begun.map_err(|error| anyhow::anyhow!("log lines: {error}"))
}
