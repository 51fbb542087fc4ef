//! Settings of limits.

use clap::Args;

use crate::limits::WithoutRedis;

/// What nodes do with the limits of keys.
#[derive(Debug, Clone, Args)]
pub struct LimitsArgs {
    /// Limits of keys while the Redis that is configured is away: "bounded" lets each node work on its share,
    /// "closed" refuses keys that have limits with 503.
    #[arg(long, env = "SWITCHYARD_LIMITS_WITHOUT_REDIS", value_enum, default_value_t)]
    pub limits_without_redis: WithoutRedis,
}
