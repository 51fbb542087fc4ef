//! Redis: the fast side. One primary, in Claude Relay Service's own layout plus our fields and marks.
//!
//! # Layout
//! - `address`: the URL, and how a connection is opened
//! - `link`: the one connection, replaced in the background
//! - `call`: requests within one deadline, and the meaning of errors
//! - `near`: copies of records in this process, forgotten when the server says so
//! - `layout`: keys and fields
//! - `control`: what the nodes have agreed on, and when every write is synced
//! - `script`: the scripts (`*.lua`), each one atomic step
//! - `adopt`: finds the records that another program wrote
//! - `direct`, `takeover`: beside no server; `survey`: what there is to adopt; `give_back`: the other way round
//! - `records`, `totals`: the functions of the store
//! - `allowance`: what keys use of their limits
//! - `place`: where a window's counters are; `beside`: what else Claude Relay Service counts
//! - `list`: Claude Relay Service's lists of its keys
//! - `board`: what nodes tell each other
//! - `identity`: who the server and its data are; `recount`: counting usage anew
//! - `records`, `totals`, `windows`: the functions of the store; `maintenance`: those of the admin's commands
//!
//! Needs Redis 6.2 or later.

mod address;
mod adopt;
mod allowance;
mod beside;
mod board;
mod call;
mod control;
mod direct;
mod give_back;
mod identity;
mod layout;
mod link;
mod list;
mod maintenance;
mod near;
mod place;
mod planted;
mod records;
mod recount;
mod script;
mod survey;
mod takeover;
#[cfg(test)]
mod tests;
mod totals;
mod windows;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use prometheus_client::metrics::counter::Counter;
use tokio_util::task::AbortOnDropHandle;

use self::address::Address;
use self::call::Effect;
pub use self::direct::Direct;
use self::link::{Status, Wire};
use super::epoch::{Ballot, Control, Epoch, Proposal};
use super::list::ListQuery;
use super::{
    Allowance, Backend, Backlog, Board, Key, Kind, NearCache, Page, Record, Result, Store, StoreError, Usage,
    UsageEvent, Version, Write, kind,
};
use crate::telemetry::Metrics;

/// How long [`Redis::connect`] waits for a server before it leaves connecting to the background.
const PATIENCE: Duration = Duration::from_secs(1);
const PROBE_MS: u64 = 10_000;

/// Which server to use, and how.
#[derive(Clone)]
pub struct RedisSettings {
    /// `redis://`, `rediss://`, `unix://`, or `redis+sentinel://[[user]:password@]host:port[,...]/name[/db]`.
    /// Holds a password: never printed.
    pub url: String,
    /// How long a call may take.
    pub deadline: Duration,
    /// How much of this process's memory may hold copies of records; 0 for none.
    pub near_cache_bytes: u64,
    /// Certificates (PEM) to trust instead of the built-in roots.
    pub ca_file: Option<PathBuf>,
    /// The epoch of this process.
    pub epoch: Arc<Epoch>,
}

impl RedisSettings {
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            deadline: Duration::from_millis(250),
            near_cache_bytes: 0,
            ca_file: None,
            epoch: Arc::default(),
        }
    }
}

/// A Redis server. Clones share one connection, which ends with the last of them.
#[derive(Clone)]
pub struct Redis {
    wire: Arc<Wire>,
    hits: Counter,
    misses: Counter,
    probe_key: Arc<str>,
    _keeper: Arc<AbortOnDropHandle<()>>,
}

impl Redis {
    /// Begins to connect, and goes on for ever in the background: a server that cannot be reached is no
    /// error here. Must be called within a tokio runtime. Takes at most about a second.
    ///
    /// # Errors
    /// `unsupported` when the URL is malformed or the server is part of a Redis Cluster.
    pub async fn connect(settings: RedisSettings) -> Result<Self> {
        let address = Address::parse(&settings.url, settings.ca_file.as_deref())?;
        let wire = Arc::new(Wire::new(address, settings.deadline, settings.epoch, settings.near_cache_bytes));
        let mut status = wire.status.subscribe();
        let keeper = tokio::spawn({
            let wire = wire.clone();
            async move { wire.keep(|link| adopt::adopt(&wire, link)).await }
        });
        let redis = Self {
            wire,
            hits: Counter::default(),
            misses: Counter::default(),
            probe_key: format!("switchyard:probe:{}", uuid::Uuid::now_v7()).into(),
            _keeper: Arc::new(AbortOnDropHandle::new(keeper)),
        };
        let settled = status.wait_for(|status| matches!(status, Status::Ready | Status::Lost(_)));
        // Out of patience: it goes on in the background.
        if let Ok(Ok(status)) = tokio::time::timeout(PATIENCE, settled).await
            && let Status::Lost(refused @ StoreError::Unsupported(_)) = &*status
        {
            return Err(refused.clone());
        }
        Ok(redis)
    }

    /// Reads that the near cache answered.
    pub fn near_hits(&self) -> u64 {
        self.hits.get()
    }

    /// Reads that the near cache could not answer.
    pub fn near_misses(&self) -> u64 {
        self.misses.get()
    }

    /// Adds its metrics.
    pub fn register(&self, metrics: &Metrics) {
        metrics.register("near_cache_hits", "Reads answered by the near cache.", self.hits.clone());
        metrics.register("near_cache_misses", "Reads the near cache could not answer.", self.misses.clone());
    }
}

#[async_trait]
impl Store for Redis {
    async fn get(&self, key: &Key) -> Result<Option<Arc<Record>>> {
        if *key.kind == kind::USAGE { self.get_totals(key).await } else { self.get_record(key).await }
    }

    async fn find(&self, kind: &'static Kind, index: &str, value: &str) -> Result<Option<Arc<Record>>> {
        self.find_record(kind, index, value).await
    }

    async fn scan(&self, kind: &'static Kind, cursor: Option<&str>, limit: u32) -> Result<Page> {
        self.scan_records(kind, cursor, limit).await
    }

    async fn put(&self, write: &Write) -> Result<()> {
        self.put_record(write).await
    }

    async fn add(&self, usage: &Usage) -> Result<u64> {
        self.count(usage).await
    }
}

#[async_trait]
impl Backend for Redis {
    async fn dirty(&self, before: Version, skip: u32, limit: u32) -> Result<Vec<Arc<Record>>> {
        self.dirty_records(before, skip, limit).await
    }

    async fn settle(&self, settled: &[(Key, Version)]) -> Result<()> {
        self.settle_records(settled).await
    }

    async fn owed_usage(&self, _after: Option<&str>, limit: u32) -> Result<Vec<UsageEvent>> {
        self.owed_events(limit).await
    }

    async fn settle_usage(&self, ids: &[String]) -> Result<()> {
        self.settle_events(ids).await
    }

    async fn backlog(&self) -> Result<Backlog> {
        self.owed().await
    }

    async fn complete(&self, kind: &'static Kind) -> Result<bool> {
        let cmd = redis::cmd("SISMEMBER").arg(layout::COMPLETE).arg(kind.name).to_owned();
        let answer = self.wire.begin()?.cmd(Effect::Reads, &cmd).await?;
        Ok(layout::integer(&answer) == Some(1))
    }

    async fn set_complete(&self, kind: &'static Kind) -> Result<()> {
        let mut complete = script::COMPLETE.key(layout::COMPLETE);
        complete.key(layout::DROPS).arg(kind.name).arg("");
        self.wire.begin()?.write(&mut complete).await.map(drop)
    }

    async fn counts_usage(&self) -> Result<bool> {
        self.has_totals().await
    }

    async fn probe(&self) -> Result<()> {
        let key = &*self.probe_key;
        let mut pipe = redis::pipe();
        pipe.cmd("SET").arg(key).arg(1).arg("PX").arg(PROBE_MS).cmd("GET").arg(key);
        let answer = self.wire.begin()?.pipe(Effect::Writes, &pipe).await?;
        let [_, read] = layout::array(answer)?;
        layout::integer(&read).map(drop).ok_or_else(|| layout::unexpected("the probe"))
    }

    fn durability(&self) -> &'static str {
        if self.syncs_all() { "redis" } else { "redis-2s" }
    }

    async fn control(
        &self,
        node: &str,
        ballot: Ballot,
        proposal: Option<&Proposal>,
    ) -> Result<Option<Control>> {
        self.control_of(node, ballot, proposal).await.map(Some)
    }

    async fn sync_all(&self, all: bool) -> Result<()> {
        self.sync_every_write(all).await
    }

    fn near_cache(&self) -> NearCache {
        NearCache { hits: self.near_hits(), misses: self.near_misses() }
    }

    async fn list(&self, kind: &'static Kind, query: &ListQuery) -> Result<Page> {
        self.list_records(kind, query).await
    }

    async fn marked(&self, keys: &[Key]) -> Result<Vec<Arc<Record>>> {
        self.marked_records(keys).await
    }

    async fn time(&self) -> Result<i64> {
        self.server_time().await
    }

    fn board(&self) -> Option<&dyn Board> {
        Some(self)
    }

    fn allowance(&self) -> Option<&dyn Allowance> {
        Some(self)
    }
}
