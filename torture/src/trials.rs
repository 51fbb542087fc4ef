//! Many small trials of one kind, as fast as they go, and one check of all that was acknowledged.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::fault::{Fault, Target};
use crate::history::{At, History, Op};
use crate::keys::subject;
use crate::load::{Load, Mix};
use crate::run::{Run, Tally};
use crate::stage::{Cast, Store};

/// How slow the disk is for the trials of that name.
const SLOW_MS: u64 = 1_500;
/// How many events a batch has at most, and how many batches are on their way at once.
const BATCH: u64 = 1_000;
const SENDERS: u64 = 4;

/// Runs `kills=N`, `slow-fsync=N` or `events=N`.
///
/// # Errors
/// When there are no such trials, or the stage cannot be set up or read.
pub async fn run(trials: &str, cast: &Cast, seed: u64) -> Result<(History, Tally)> {
    let (name, count) = trials.split_once('=').context("trials are NAME=COUNT")?;
    let count = count.parse().with_context(|| format!("{count:?} is no number"))?;
    let mut run = Run::begin(cast, seed).await?;
    let began = Instant::now();
    let load = match name {
        "kills" => Some(kills(&mut run, count, seed).await),
        "slow-fsync" => Some(slow_fsync(&mut run, count, seed).await),
        "events" => {
            run.backlog = PER_EVENT * u32::try_from(count)?;
            events(&mut run, count).await;
            None
        }
        _ => bail!("no trials {name:?}; there are kills, slow-fsync, events and streams"),
    };
    let each = began.elapsed().as_secs_f64() / count as f64;
    println!("{count} {name} in {:.0} s, {each:.4} s each", began.elapsed().as_secs_f64());
    run.quiet(load).await
}

/// How much longer the stores may take to return and to agree for each event: many wait on a host's disk in the end.
const PER_EVENT: Duration = Duration::from_micros(300);

/// Mostly writes: what is read afterwards is checked once, in the end, and by the reads in between.
const WRITES: Mix = Mix { per_second: 300, puts: 55, deletes: 10, adds: 10 };

async fn kills(run: &mut Run, count: u64, seed: u64) -> Load {
    let load = Load::begin(run.recorder.clone(), WRITES, seed);
    let mut done = 0;
    while done < count {
        wait_for_writes(run).await;
        let hosts = run.stage.hosts.len();
        let target = match run.random.below(3) {
            0 => Target::Store(Store::Redis),
            1 => Target::Store(Store::Postgres),
            _ => Target::Host(run.random.below(hosts)),
        };
        let with = run.tally.kills.0;
        once(run, Fault::Kill(target), Duration::ZERO).await;
        // Only those count that had something to lose.
        done += run.tally.kills.0 - with;
        if done % 50 == 0 {
            println!("  {done} kills with writes under way");
        }
        // Writes are acknowledged again, by whichever store is there, before the next one.
        let rest = run.random.below(150) as u64;
        tokio::time::sleep(Duration::from_millis(rest)).await;
    }
    load
}

/// Until writes are under way again, for some seconds at most.
async fn wait_for_writes(run: &Run) {
    let began = Instant::now();
    while run.recorder.in_flight() == 0 && began.elapsed() < Duration::from_secs(5) {
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
}

async fn once(run: &mut Run, fault: Fault, time: Duration) {
    let from = run.now();
    let done = run.inflict(fault).await;
    tokio::time::sleep(time).await;
    run.heal(fault, from, done).await;
}

/// Redis acknowledges while its disk is slow, and is killed then: what it has not written is gone.
async fn slow_fsync(run: &mut Run, count: u64, seed: u64) -> Load {
    let load = Load::begin(run.recorder.clone(), WRITES, seed);
    let strategies = ["redis_only", "cache_first", "dual_write"];
    for trial in 0..count {
        let store = if trial % 5 == 4 { Store::Postgres } else { Store::Redis };
        run.activate(0, strategies[trial as usize % strategies.len()]).await;
        let (slow, from) = (Fault::SlowFsync(store, SLOW_MS), run.now());
        let slowed = run.inflict(slow).await;
        let wait = 1_600 + run.random.below(1_200) as u64;
        tokio::time::sleep(Duration::from_millis(wait)).await;
        wait_for_writes(run).await;
        let (kill, killed_at) = (Fault::Kill(Target::Store(store)), run.now());
        let killed = run.inflict(kill).await;
        // Before it starts again, which takes for ever on a slow disk.
        run.heal(slow, from, slowed).await;
        run.heal(kill, killed_at, killed).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    load
}

/// Usage in batches, repeated until acknowledged, while stores and hosts come and go.
async fn events(run: &mut Run, count: u64) {
    let batches = count.div_ceil(BATCH);
    let senders = (0..SENDERS).map(|sender| {
        let (recorder, share) = (run.recorder.clone(), (sender..batches).step_by(SENDERS as usize));
        tokio::spawn(async move {
            for batch in share {
                let op = recorder.add(BATCH.min(count - batch * BATCH));
                send(&recorder, sender, batch, op).await;
            }
        })
    });
    let senders: Vec<_> = senders.collect();
    let both = [Store::Redis, Store::Postgres];
    while senders.iter().any(|sender| !sender.is_finished()) {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let froms: Vec<At> = both.iter().map(|_| run.now()).collect();
        let kills = both.map(|store| Fault::Kill(Target::Store(store)));
        let host = Fault::Kill(Target::Host(run.random.below(run.stage.hosts.len())));
        match run.random.below(4) {
            0 => {
                let done = [run.inflict(kills[0]).await, run.inflict(kills[1]).await];
                tokio::time::sleep(Duration::from_secs(2)).await;
                for ((kill, from), done) in kills.into_iter().zip(froms).zip(done) {
                    run.heal(kill, from, done).await;
                }
            }
            1 => once(run, kills[0], Duration::from_secs(1)).await,
            2 => once(run, kills[1], Duration::from_secs(1)).await,
            _ => once(run, host, Duration::ZERO).await,
        }
    }
}

/// As a client does that may not lose usage: again and again, through any host, with the same ids.
async fn send(recorder: &crate::load::Recorder, sender: u64, batch: u64, op: Op) {
    for attempt in 0.. {
        let host = (sender + attempt) as u8 % recorder.caller.hosts() as u8;
        let entry = recorder.record(host, sender as u16, subject(batch as usize), op.clone()).await;
        if entry.durability().is_some() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
