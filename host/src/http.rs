//! The HTTP surfaces: store API, admin API, operations. Thin: extract, one call, map.
//!
//! # Layout
//! - `listener`: connections and their limits
//! - `routes`: every path
//! - `edge`: what every request goes through; with `request_id`, `token`, `metrics`
//! - `error`: what every failure answers
//! - `body`, `precondition`, `bound`: what requests carry; `answer`: what they get
//! - `relay`: what Claude clients ask
//! - `records`, `usage`: the store API
//! - `strategies`, `database`, `conflicts`, `nodes`: the admin API
//! - `accounts`: the admin API of upstreams
//! - `keys`: the admin API of the relay
//! - `background`: the admin's long work
//! - `admin_usage`: what was used and what it cost
//! - `operations`: for those who keep it running
//! - `openapi`: the description of all this

mod accounts;
mod admin_usage;
mod answer;
mod background;
mod body;
mod bound;
mod conflicts;
mod database;
mod edge;
mod error;
mod keys;
pub mod listener;
mod metrics;
mod nodes;
mod openapi;
mod operations;
mod precondition;
mod records;
mod relay;
mod request_id;
mod routes;
mod strategies;
mod token;
mod usage;

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::accounts::Accounts;
use crate::cluster::Cluster;
use crate::keys::Keys;
use crate::recovery::conflicts::Conflicts;
use crate::recovery::degrade::Modes;
use crate::recovery::drain::Drain;
use crate::recovery::health::Health;
use crate::recovery::operations::Operations;
use crate::recovery::spool::Spool;
use crate::relay::Relay;
use crate::strategy::Strategies;
use crate::strategy::records::Records;
use crate::strategy::watcher::WatcherStatus;
use crate::telemetry::Metrics;
use crate::usage::Recorder;

/// What the HTTP surfaces are served from.
pub struct Parts {
    pub records: Arc<Records>,
    pub keys: Arc<Keys>,
    pub strategies: Arc<Strategies>,
    pub health: Arc<Health>,
    pub modes: Arc<Modes>,
    pub conflicts: Arc<Conflicts>,
    pub drain: Drain,
    pub spool: Arc<Spool>,
    pub cluster: Arc<Cluster>,
    pub operations: Arc<Operations>,
    pub usage: Arc<Recorder>,
    pub accounts: Arc<Accounts>,
    pub relay: Arc<Relay>,
    pub watcher: Option<Arc<Mutex<WatcherStatus>>>,
    pub metrics: Metrics,
    pub token: String,
    /// Name of this node, for the health page and log lines.
    pub node: String,
    /// Whether the drain looks for marks by itself.
    pub sync_enabled: bool,
    /// Cancelled when the server is about to end: it is no longer ready then.
    pub ending: CancellationToken,
}

/// What every handler sees.
struct App {
    records: Arc<Records>,
    keys: Arc<Keys>,
    strategies: Arc<Strategies>,
    health: Arc<Health>,
    modes: Arc<Modes>,
    conflicts: Arc<Conflicts>,
    drain: Drain,
    spool: Arc<Spool>,
    cluster: Arc<Cluster>,
    operations: Arc<Operations>,
    usage: Arc<Recorder>,
    accounts: Arc<Accounts>,
    relay: Arc<Relay>,
    /// The streams of events that may still begin.
    streams: Arc<Semaphore>,
    watcher: Option<Arc<Mutex<WatcherStatus>>>,
    metrics: Metrics,
    token: token::Token,
    node: String,
    sync_enabled: bool,
    ending: CancellationToken,
    ids: request_id::RequestIds,
    requests: metrics::Requests,
    began: Instant,
}

/// Everything that is served, as one service.
///
/// # Errors
/// When the system has no randomness.
pub fn router(parts: Parts) -> anyhow::Result<Router> {
    let app = App {
        records: parts.records,
        keys: parts.keys,
        strategies: parts.strategies,
        health: parts.health,
        modes: parts.modes,
        conflicts: parts.conflicts,
        drain: parts.drain,
        spool: parts.spool,
        cluster: parts.cluster,
        operations: parts.operations,
        usage: parts.usage,
        accounts: parts.accounts,
        relay: parts.relay,
        streams: Arc::new(Semaphore::new(background::STREAMS)),
        watcher: parts.watcher,
        token: token::Token::new(&parts.token),
        node: parts.node,
        sync_enabled: parts.sync_enabled,
        ending: parts.ending,
        ids: request_id::RequestIds::new()?,
        requests: metrics::Requests::new(&parts.metrics),
        metrics: parts.metrics,
        began: Instant::now(),
    };
    Ok(routes::router(Arc::new(app)))
}
