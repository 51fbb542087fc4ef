//! One run: start, load, faults, quiet, check.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use reqwest::Method;

use crate::fault::Fault;
use crate::history::{At, History, Loss, Window};
use crate::inflict::{Inflicted, heal, inflict};
use crate::keys::KEYS;
use crate::load::{Load, Mix, Recorder};
use crate::noise;
use crate::plan::{Menu, Plan, STRATEGIES};
use crate::random::Random;
use crate::stage::{Cast, Stage};
use crate::turn::{self, Turn};

/// How often strategies are switched while they are.
const SWITCH_EVERY: Duration = Duration::from_millis(200);
/// How old the older data of Redis are at most.
const OLDER: Duration = Duration::from_secs(10);

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Order {
    pub plan: Plan,
    pub seed: u64,
    pub time: Duration,
    pub cast: Cast,
    pub mix: Mix,
}

/// What was done besides the history.
#[derive(Debug, Default)]
pub struct Tally {
    pub faults: BTreeMap<String, u64>,
    /// SIGKILLs with writes under way, and without.
    pub kills: (u64, u64),
    pub switches: u64,
    /// Of each family of faults: the longest time without an accepted write, for each time it was in force.
    pub write_gaps: BTreeMap<String, Vec<At>>,
    /// Faults that could not be inflicted.
    pub failed: Vec<String>,
    /// Commands of an admin that a host has taken, and that it has refused.
    pub commands: (u64, u64),
    /// Calls that were due while too many of their host's were under way.
    pub dropped: u64,
    pub agreed_after: Option<Duration>,
    /// What a busy machine has kept from being checked.
    pub unchecked: Vec<String>,
    /// What the hosts have to say about it all, for people.
    pub said: Vec<String>,
}

impl Tally {
    /// Whether so many faults could not be inflicted that the run says little: more than a tenth, and one.
    pub fn is_hollow(&self) -> bool {
        let done: u64 = self.faults.values().sum();
        let failed = self.failed.len() as u64;
        failed > 1 + (done + failed) / 10
    }
}

pub struct Run {
    pub stage: Stage,
    pub recorder: Arc<Recorder>,
    pub history: History,
    pub tally: Tally,
    pub random: Random,
    /// Whether the end waits until nothing excuses a refusal any more.
    pub patient: bool,
    /// How much longer the stores may take to return and to agree, for what waits to be carried over.
    pub backlog: Duration,
    older: Instant,
}

/// Runs an order to its end.
///
/// # Errors
/// When the stage cannot be set up or read.
pub async fn run(order: &Order) -> Result<(History, Tally)> {
    let mut run = Run::begin(&order.cast, order.seed).await?;
    run.patient = matches!(order.plan.menu, Menu::Groups(_));
    let load = Load::begin(run.recorder.clone(), order.mix, order.seed ^ 0xfeed);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let end = Instant::now() + order.time;
    let (hosts, mut turns) = (run.stage.hosts.len(), 0);
    while Instant::now() < end || turns < order.plan.least() {
        let turn = turn::draw(&order.plan, turns, hosts, &mut run.random);
        run.one_turn(turn).await;
        turns += 1;
    }
    run.quiet(Some(load)).await
}

impl Run {
    /// Starts everything, and writes every record once.
    ///
    /// # Errors
    /// When a host is not ready within a minute or a first write is refused.
    pub async fn begin(cast: &Cast, seed: u64) -> Result<Self> {
        let stage = Stage::start(cast).await?;
        let recorder = Recorder::new(stage.caller()?);
        noise::watch(&recorder);
        let (history, tally) = Default::default();
        let (random, older) = (Random::new(seed), Instant::now());
        let run =
            Self { stage, recorder, history, tally, random, patient: true, backlog: Duration::ZERO, older };
        ensure!(run.until_ready(Duration::from_secs(60)).await, "the hosts are not ready");
        for key in 0..KEYS {
            let op = run.recorder.put();
            let first = run.recorder.record((key % 2) as u8, 0, key, op).await;
            ensure!(first.durability().is_some(), "the first write of {key}: {:?}", first.outcome);
        }
        run.stage.keep_older();
        Ok(run)
    }

    pub fn now(&self) -> At {
        self.recorder.caller.now()
    }

    pub async fn until_ready(&self, within: Duration) -> bool {
        let began = Instant::now();
        while began.elapsed() < within {
            let hosts = 0..self.recorder.caller.hosts() as u8;
            let ready = hosts.map(|host| self.recorder.caller.request(host, Method::GET, "/readyz").send());
            let ready = futures::future::join_all(ready).await;
            if ready.iter().all(|answer| answer.as_ref().is_ok_and(|answer| answer.status() == 200)) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        false
    }

    /// One or two faults, for their time, and a moment of rest.
    async fn one_turn(&mut self, turn: Turn) {
        self.activate(turn.host, turn.strategy).await;
        if self.older.elapsed() > OLDER {
            self.stage.keep_older();
            self.older = Instant::now();
        }
        let mut done = Vec::new();
        for fault in turn.faults {
            let from = self.now();
            done.push((fault, from, self.inflict(fault).await));
        }
        match done.iter().any(|(fault, ..)| *fault == Fault::Switches) {
            true => self.switch_for(turn.time, turn.switches).await,
            false => tokio::time::sleep(turn.time).await,
        }
        for (fault, from, inflicted) in done {
            self.heal(fault, from, inflicted).await;
        }
        tokio::time::sleep(turn.rest).await;
    }

    /// Undoes a fault, and notes when it was in force. What could not be inflicted excuses nothing.
    pub async fn heal(&mut self, fault: Fault, from: At, inflicted: Option<Inflicted>) {
        let Some(inflicted) = inflicted else { return };
        if let Err(error) = heal(&mut self.stage, fault, inflicted).await {
            self.tally.failed.push(format!("healing {fault}: {error:#}"));
        }
        let (name, to) = (fault.to_string(), self.now());
        let (cut, excuse) = (fault.cut(), fault.excuse());
        self.history.faults.push(Window { name, from, to, cut, excuse });
        let gap = self.write_gap(from);
        self.tally.write_gaps.entry(fault.family()).or_default().push(gap);
    }

    pub async fn inflict(&mut self, fault: Fault) -> Option<Inflicted> {
        let (from, writes) = (self.now(), self.recorder.in_flight());
        if let Fault::Admin(command) = fault {
            self.command(command).await;
        }
        match inflict(&mut self.stage, fault).await {
            Ok(mut done) => {
                *self.tally.faults.entry(fault.family()).or_default() += 1;
                let at = self.now();
                if matches!(fault, Fault::Kill(_) | Fault::OlderData) {
                    let kills = &mut self.tally.kills;
                    *(if writes > 0 { &mut kills.0 } else { &mut kills.1 }) += 1;
                }
                if let Some(loss) = done.loss.take() {
                    self.history.losses.push(Loss { from, at, ..loss });
                }
                if done.crashed {
                    self.history.crashes.push(at);
                }
                Some(done)
            }
            Err(error) => {
                self.tally.failed.push(format!("{fault}: {error:#}"));
                // A store that was told, and did not answer in time, may have done it.
                if error.is::<tokio::time::error::Elapsed>() {
                    return Some(Inflicted::default());
                }
                // What was done of it by then must not stay.
                let _ = heal(&mut self.stage, fault, Inflicted::default()).await;
                None
            }
        }
    }

    /// Switches strategies all the time. How often depends on the machine, so it draws from numbers of its own.
    async fn switch_for(&mut self, time: Duration, mut random: Random) {
        let began = Instant::now();
        while began.elapsed() < time.max(SWITCH_EVERY * 5) {
            let host = random.below(self.stage.hosts.len()) as u8;
            let name = random.pick(&STRATEGIES);
            // One that takes longer is left behind, as an impatient admin leaves it.
            let switched = tokio::time::timeout(SWITCH_EVERY, self.activate(host, name)).await;
            self.tally.switches += u64::from(switched == Ok(true));
            tokio::time::sleep_until(tokio::time::Instant::now() + SWITCH_EVERY / 4).await;
        }
    }

    /// The longest time without an accepted write since a moment.
    fn write_gap(&self, from: At) -> At {
        let entries = self.recorder.since(from);
        let accepted = entries.iter().filter(|entry| entry.durability().is_some());
        let mut ends: Vec<At> = accepted.map(|entry| entry.ended).chain([from, self.now()]).collect();
        ends.sort_unstable();
        ends.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0)
    }
}
