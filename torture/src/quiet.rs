//! The end of a run: everything is healed, and both stores have to agree by themselves.

use std::time::{Duration, Instant};

use anyhow::Result;
use switchyard_tests::proxy::Fault as Net;

use crate::check::stores::differences;
use crate::history::{At, History, Op, Truth};
use crate::keys::{KEYS, has_index};
use crate::load::Load;
use crate::run::{Run, Tally};
use crate::stage::Store;
use crate::truth;

/// How long the hosts may take to use both stores again: a store has to be back for 5 s, two changes are 10 s apart,
/// and what was written meanwhile is carried over.
const RETURN: Duration = Duration::from_secs(45);
/// For how long there is a load when nothing is wrong any more.
const CALM: Duration = Duration::from_secs(5);
/// How long both stores may take to agree after the last call, unless much was acknowledged on a host's disk.
const QUIESCE: Duration = Duration::from_secs(60);
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
        self.returns().await;
        self.until_nothing_excuses().await;
        if let Some(load) = load {
            let from = self.now();
            tokio::time::sleep(CALM).await;
            self.history.calm = Some((from, self.now()));
            load.end().await;
        }
        self.history.truth = self.agreement().await?;
        self.history.calm_from = self.now();
        self.say().await;
        self.ask_for_everything().await;
        self.history.entries = self.recorder.entries();
        self.history.stalls = self.recorder.stalls();
        self.tally.dropped = self.recorder.dropped();
        Ok((self.history, self.tally))
    }

    /// Waits until both stores are used again, so that each gets what it lacks.
    async fn returns(&mut self) {
        debug_assert!(self.stage.hosts.iter().all(|host| host.to(Store::Redis).fault() == Net::Pass));
        let (from, began, limit) = (self.now(), Instant::now(), RETURN + self.backlog);
        while let Some(why) = self.not_returned().await {
            if self.is_too_late(from, began, limit) {
                let what = format!("{} s after all was healed {why}", began.elapsed().as_secs());
                match self.time_since(from) > limit {
                    true => self.history.wrong.push(("I5", self.now(), what)),
                    false => self.tally.unchecked.push(what),
                }
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Whether there was so much time since then, in which others left enough of the machine; three times as much in
    /// any case.
    fn is_too_late(&self, from: At, began: Instant, limit: Duration) -> bool {
        self.time_since(from) > limit || began.elapsed() > 3 * limit
    }

    fn time_since(&self, from: At) -> Duration {
        Duration::from_micros(self.recorder.time_since(from))
    }

    /// Waits for the end of what the last faults excuse.
    async fn until_nothing_excuses(&self) {
        let ends = self.history.faults.iter().filter_map(|fault| Some(fault.to + fault.excuse?.after));
        let wait = ends.max().unwrap_or(0).saturating_sub(self.now());
        tokio::time::sleep(Duration::from_micros(wait)).await;
    }

    /// What both hold once they agree, or when they have had their time.
    async fn agreement(&mut self) -> Result<Truth> {
        let (from, began, limit) = (self.now(), Instant::now(), QUIESCE + self.backlog);
        let (mut last, mut changed) = (Vec::new(), from);
        loop {
            let ready = self.until_ready(Duration::from_millis(200)).await && self.spooled().await == Some(0);
            let truth = match truth::read(&self.stage.redis.url(), &self.stage.postgres.url()).await {
                // A store may be slow for a moment, too.
                Err(_) if !self.is_too_late(from, began, limit) => {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    continue;
                }
                read => read?,
            };
            let differing = differences(&truth.redis, &truth.postgres);
            let agree = ready && differing.is_empty();
            if agree {
                self.tally.agreed_after = Some(began.elapsed());
            }
            if differing != last {
                (last, changed) = (differing, self.now());
            }
            let stuck = !self.patient && self.time_since(changed) > STUCK;
            if agree || stuck || self.is_too_late(from, began, limit) {
                return Ok(truth);
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    async fn ask_for_everything(&self) {
        for host in 0..self.recorder.caller.hosts() as u8 {
            for key in 0..KEYS {
                self.recorder.record(host, LAST_CLIENT, key, Op::Get).await;
                if has_index(key) {
                    self.recorder.record(host, LAST_CLIENT, key, Op::Find).await;
                }
            }
        }
    }
}
