//! What usage costs.

use std::path::PathBuf;

use clap::Args;

/// Settings of usage and cost.
#[derive(Debug, Clone, Default, Args)]
pub struct Pricing {
    /// JSON file with the prices of models, in place of those that are shipped; read again whenever it changes. One
    /// that is not right is refused, and the prices before it stay. GET /admin/usage/prices says which are in force.
    #[arg(long, env = "SWITCHYARD_PRICES")]
    pub prices: Option<PathBuf>,
}
