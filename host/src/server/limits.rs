//! The limits of keys, shared by all nodes.

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::cluster::Cluster;
use crate::cluster::node::State;
use crate::config::Config;
use crate::limits::{Limits, Parts};
use crate::store::side::Sides;
use crate::strategy::records::Records;
use crate::telemetry::Metrics;

/// How many of Redis's deadlines a call waits for others that ask or tell it something first.
const DEADLINES: u32 = 20;

/// Limits that are renewed and settled for as long as the tasks live.
pub(super) fn start(
    config: &Config,
    sides: &Sides,
    records: &Arc<Records>,
    cluster: &Arc<Cluster>,
    metrics: &Metrics,
    tasks: &mut JoinSet<()>,
) -> Limits {
    let nodes = cluster.clone();
    let parts = Parts {
        redis: sides.redis.clone(),
        records: records.clone(),
        nodes: Box::new(move || nodes.nodes().iter().filter(|node| node.state != State::Gone).count()),
        without_redis: config.limits.limits_without_redis,
        patience: DEADLINES * config.redis_deadline(),
        offset: config.offset(),
    };
    let limits = Limits::new(parts, metrics);
    tasks.spawn(limits.clone().run());
    limits
}
