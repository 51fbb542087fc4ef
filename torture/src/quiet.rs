//! The end of a run: everything is healed, and both stores have to agree by themselves.

use std::time::{Duration, Instant};

use anyhow::Result;
use reqwest::Method;
use serde_json::Value;
use switchyard_tests::proxy::Fault as Net;

use crate::check::stores::differences;
use crate::history::{History, Op, SECOND, Truth};
use crate::keys::KEYS;
use crate::load::Load;
use crate::run::{Run, Tally};
use crate::stage::Store;
use crate::truth;

/// How long both stores may take to agree after the last fault, unless much was acknowledged on a host's disk.
pub const QUIESCE: Duration = Duration::from_secs(60);
/// For how long nothing about a difference may change until it is believed to stay, where time is short.
const STUCK: Duration = Duration::from_secs(12);
/// The client that asks for everything in the end.
const LAST_CLIENT: u16 = 1_000;

impl Run {
    /// Heals what there is, waits until both stores agree, asks for everything, and reads it all.
    ///
    /// # Errors
    /// When a store cannot be read.
    pub async fn quiet(mut self, load: Option<Load>) -> Result<(History, Tally)> {
        tokio::task::block_in_place(|| self.stage.heal());
        let healed = Instant::now();
        self.return_to_both().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        if let Some(load) = load {
            load.end().await;
        }
        self.history.truth = self.agreement(healed).await?;
        self.history.calm_from = self.now();
        self.ask_for_everything().await;
        self.history.entries = self.recorder.entries();
        self.history.stalls = self.recorder.stalls();
        self.tally.dropped = self.recorder.dropped();
        Ok((self.history, self.tally))
    }

    /// Both stores are used again, so that each gets what it lacks.
    async fn return_to_both(&self) {
        let began = Instant::now();
        for host in 0..self.stage.hosts.len() as u8 {
            debug_assert!(self.stage.hosts.iter().all(|host| host.to(Store::Redis).fault() == Net::Pass));
            while !self.activate(host, "dual_write").await && began.elapsed() < QUIESCE {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }

    /// Events that the hosts have acknowledged and no store has yet; none while a host does not say.
    async fn spooled(&self) -> Option<u64> {
        let mut events = 0;
        for host in 0..self.recorder.caller.hosts() as u8 {
            let status = self.recorder.caller.request(host, Method::GET, "/admin/database/status");
            let status: Value = status.send().await.ok()?.json().await.ok()?;
            events += status["data"]["spool"]["events"].as_u64()?;
        }
        Some(events)
    }

    /// What both hold once they agree, or when they have had their time.
    async fn agreement(&mut self, healed: Instant) -> Result<Truth> {
        let (mut last, mut changed) = (Vec::new(), Instant::now());
        loop {
            let ready = self.until_ready(Duration::from_millis(200)).await && self.spooled().await == Some(0);
            let truth = truth::read(&self.stage.redis.url(), &self.stage.postgres.url()).await?;
            let differing = differences(&truth.redis, &truth.postgres);
            let agree = ready && differing.is_empty();
            if agree {
                self.tally.agreed_after = Some(healed.elapsed());
            }
            if differing != last {
                (last, changed) = (differing, Instant::now());
            }
            let stuck = !self.patient && changed.elapsed() > STUCK;
            if agree || stuck || healed.elapsed() > self.quiesce {
                return Ok(truth);
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    async fn ask_for_everything(&self) {
        // What the last faults may still have excused is over by then.
        let last = self.history.faults.iter().map(|fault| fault.to).max().unwrap_or(0) + 15 * SECOND;
        let wait = last.saturating_sub(self.now()).min(15 * SECOND);
        tokio::time::sleep(Duration::from_micros(if self.patient { wait } else { 0 })).await;
        for host in 0..self.recorder.caller.hosts() as u8 {
            for key in 0..KEYS {
                self.recorder.record(host, LAST_CLIENT, key, Op::Get).await;
            }
        }
    }
}
