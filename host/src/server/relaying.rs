//! The relay, and the demo upstream if there is to be one.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;

use anyhow::{Context, Result};
use tracing::info;

use super::core::Core;
use crate::config::Config;
use crate::demo::{self, Demo};
use crate::relay::{Parts, Relay, Trust};
use crate::telemetry::Metrics;

/// Where the demo upstream listens: on a free port, for this machine alone.
const DEMO: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));

/// The relay over what stands behind the surfaces. The demo upstream lives as long as it is held.
pub(super) async fn start(
    config: &Config,
    core: &Core,
    metrics: &Metrics,
) -> Result<(Arc<Relay>, Option<Demo>)> {
    let demo = match config.relaying.demo_upstream {
        true => Some(Demo::start(DEMO, demo::Options::default()).await.context("--demo-upstream")?),
        false => None,
    };
    if let Some(demo) = &demo {
        info!(demo = %demo.addr(), "where there is no account, a demo upstream answers");
    }
    let parts = Parts {
        records: core.records.clone(),
        keys: core.keys.clone(),
        accounts: core.accounts.clone(),
        limits: core.limits.clone(),
        recorder: core.usage.clone(),
        demo: demo.as_ref().and_then(|demo| demo.url().parse().ok()),
        trust: Trust::load(config.relaying.upstream_ca.as_deref())?,
    };
    Ok((Arc::new(Relay::new(parts, config.relaying.options(), metrics)?), demo))
}
