//! Streams through the relay: whatever ends them, each is counted once in both stores.
//!
//! # What happens
//! One host (`dual_write`) before Redis, PostgreSQL and a demo upstream in a process of its own relays so many streams,
//! some at a time. A third of them does not come to its end: the upstream breaks off, ends with an error event or
//! without `message_stop`, or the client hangs up. The host is killed after a third and after two thirds of them,
//! while streams are under way and a store has counted usage and not said so yet, and starts again on its data.
//!
//! # What is checked
//! Each stream asks for numbers of input and output tokens that no other asks for, in a request with an id of its own,
//! and reads its answer itself: the truth owes nothing to what Switchyard says. In the end both stores are read.
//! - A client that has seen `message_start` is counted: exactly one event has its request's id.
//! - One that has seen less may be counted, once. One that was refused, or never connected, is not.
//! - An event has the tokens that were asked for, exactly, if the answer came to its end; else at least those that the
//!   client was told, and at most what the upstream told or the bytes of its text come to. It is partial unless the
//!   answer is whole.
//! - A stream that no kill has touched ends as was asked for, and each kill breaks off streams that have begun.
//! - Redis remembers the ids of those events and of no others.
//! - In both stores the totals of the key and of the account (requests, tokens, cost) are the sums of the events.

mod ask;
mod client;
mod judge;
mod report;
mod stage;
mod stores;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use switchyard_tests::proxy::Fault;
use tokio::task::block_in_place;

use crate::history::At;
use crate::stage::{Cast, Store};
use client::Client;
use judge::Attempt;
use stage::Stage;

/// Streams under way at a time.
const AT_ONCE: u64 = 64;
/// Streams that are under way, and have begun, just before the host is killed.
const BEGUN: u64 = 24;
/// How long the answers of a store have not come through when the host is killed: it has counted by then.
const HELD: Duration = Duration::from_millis(60);
/// How long to wait for what a kill is to meet, and for all streams to end.
const PATIENCE: Duration = Duration::from_secs(30);
const ALL: Duration = Duration::from_secs(1_800);

/// When the host was killed, and when it was alive again.
#[derive(Debug, Clone, Copy)]
pub struct Kill {
    pub at: At,
    pub until: At,
}

/// How far the streams are.
#[derive(Default)]
pub struct Progress {
    taken: AtomicU64,
    /// Those whose clients have seen `message_start` and go on reading.
    begun: AtomicU64,
}

/// Runs so many streams, and says everything; true if every promise was kept.
///
/// # Errors
/// When the stage cannot be set up or read, or the streams do not end.
pub async fn run(count: u64, cast: &Cast, seed: u64) -> Result<bool> {
    ensure!(count > 0, "no streams");
    let mut stage = Stage::start(cast).await?;
    let client = Client::new(&stage, seed)?;
    let progress = Arc::<Progress>::default();
    let began = Instant::now();
    let senders: Vec<_> =
        (0..AT_ONCE).map(|_| tokio::spawn(send(client.clone(), count, progress.clone()))).collect();
    let mut kills = Vec::new();
    for (third, store) in [(1, Store::Postgres), (2, Store::Redis)] {
        until(ALL, || progress.taken.load(Ordering::Relaxed) >= count * third / 3).await;
        kills.push(kill(&mut stage, &client, &progress, store).await);
    }
    let ended = tokio::time::timeout(ALL, futures::future::try_join_all(senders)).await;
    let attempts = ended.context("the streams do not end")??.concat();
    println!("{count} streams in {:.0} s, {AT_ONCE} at a time", began.elapsed().as_secs_f64());
    let (held, settled) = stage.settled().await?;
    let verdict = judge::judge(&attempts, &kills, &held);
    report::print(&attempts, &kills, settled, &verdict);
    if settled.is_none() || !verdict.is_clean() {
        println!("what the host has said:\n{}", stage.log());
    }
    Ok(settled.is_some() && verdict.is_clean())
}

/// Takes one stream after the other, until there is none left.
async fn send(client: Client, count: u64, progress: Arc<Progress>) -> Vec<Attempt> {
    let mut attempts = Vec::new();
    loop {
        let number = progress.taken.fetch_add(1, Ordering::Relaxed);
        if number >= count {
            return attempts;
        }
        attempts.extend(client.stream(number, &progress.begun).await);
    }
}

/// Kills the host and starts it again, while streams are under way, and while a store has counted what the host does
/// not know to be counted.
async fn kill(stage: &mut Stage, client: &Client, progress: &Progress, store: Store) -> Kill {
    until(PATIENCE, || progress.begun.load(Ordering::Relaxed) >= BEGUN).await;
    stage.between(store, Fault::HoldAnswers);
    tokio::time::sleep(HELD).await;
    let at = client.now();
    block_in_place(|| stage.kill_host());
    stage.between(store, Fault::Pass);
    block_in_place(|| stage.start_host());
    Kill { at, until: client.now() }
}

async fn until(patience: Duration, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() && began.elapsed() < patience {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
