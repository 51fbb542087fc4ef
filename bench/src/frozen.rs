//! Reads and writes while a store is frozen or dead: how long until all is well again, and what reads then take.

use std::sync::Arc;
use std::time::{Duration, Instant};

use switchyard::server::Server;
use switchyard::store::{Expect, Key, kind};
use switchyard::strategy::records::{Change, Records};
use switchyard_tests::host::{Client, config};
use switchyard_tests::servers::{self, Postgres, Redis};

use crate::stage;

const RECORDS: u64 = 20_000;
/// Readers, and as many writers.
const CALLERS: u64 = 4;
/// Of quiet before, and of the outage.
const TIMES: (Duration, Duration) = (Duration::from_secs(4), Duration::from_secs(10));
/// The outage counts as settled after this long.
const SETTLED: Duration = Duration::from_secs(5);
/// A read that takes longer is slow.
const SLOW: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(60);

/// A call: when it began after the start of the watch, how long it took, and whether it was answered.
struct Call {
    at: Duration,
    took: Duration,
    ok: bool,
}

fn key(n: u64) -> Key {
    Key::new(&kind::ACCOUNT, &format!("a{n}")).expect("a valid id")
}

async fn write(records: &Records, n: u64) -> bool {
    let change = Change { fields: stage::api_key(n).fields.clone(), deleted: false, expires_at: None };
    records.put(&key(n), change, Expect::Anything).await.is_ok()
}

/// All reads and all writes of a time.
async fn watch(records: &Arc<Records>, time: Duration) -> [Vec<Call>; 2] {
    let began = Instant::now();
    let calls = async |writes: bool, caller: u64| {
        let mut calls = Vec::new();
        while began.elapsed() < time {
            tokio::time::sleep(Duration::from_millis(2)).await;
            let (before, n) = (Instant::now(), (calls.len() as u64 * CALLERS + caller) * 7_919 % RECORDS);
            let ok = match writes {
                true => write(records, n).await,
                false => records.get(&key(n)).await.is_ok_and(|read| read.value.is_some()),
            };
            calls.push(Call { at: before - began, took: before.elapsed(), ok });
        }
        calls
    };
    let all = |writes| futures::future::join_all((0..CALLERS).map(move |caller| calls(writes, caller)));
    let (reads, writes) = tokio::join!(all(false), all(true));
    [reads, writes].map(|calls| calls.into_iter().flatten().collect())
}

fn p99<'a>(calls: impl Iterator<Item = &'a Call>) -> Duration {
    let mut took: Vec<_> = calls.map(|call| call.took).collect();
    took.sort_unstable();
    took.get(took.len() * 99 / 100).copied().unwrap_or_default()
}

/// When the last call ended that was not as it should be; zero if all were.
fn last(calls: &[Call], is_bad: impl Fn(&Call) -> bool) -> Duration {
    calls.iter().filter(|call| is_bad(call)).map(|call| call.at + call.took).max().unwrap_or_default()
}

async fn until_well(client: &Client) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        let status = client.get("/admin/database/status").await.body;
        if status["data"]["mode"] == "normal" {
            return Ok(());
        }
        anyhow::ensure!(began.elapsed() < PATIENCE, "not well again within {PATIENCE:?}: {status}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

type Stores = (Redis, Postgres);
type Outage = (&'static str, fn(&mut Stores), fn(&mut Stores));

const OUTAGES: [Outage; 4] = [
    ("Redis frozen", |s| s.0.pause(), |s| s.0.resume()),
    ("Redis dead", |s| s.0.kill(), |s| s.0.restart()),
    ("PostgreSQL frozen", |s| s.1.pause(), |s| s.1.resume()),
    ("PostgreSQL dead", |s| s.1.kill(), |s| s.1.restart()),
];

pub async fn run() -> anyhow::Result<()> {
    println!(
        "dual_write on Redis and PostgreSQL, {CALLERS} readers and {CALLERS} writers, a store lost for 10 s"
    );
    let folder = tempfile::tempdir()?;
    let mut stores = (Redis::start(), servers::Postgres::start());
    let (redis_url, postgres_url) = (stores.0.url(), stores.1.url());
    let flags = ["--redis-url", &redis_url, "--postgres-url", &postgres_url];
    let server = Server::start(config(folder.path(), &flags)).await?;
    let (records, client) = (server.records().clone(), Client::new(format!("http://{}", server.addr())));
    for chunk in (0..RECORDS).collect::<Vec<_>>().chunks(256) {
        let writes = chunk.iter().map(|n| write(&records, *n));
        anyhow::ensure!(futures::future::join_all(writes).await.into_iter().all(|ok| ok), "a write failed");
    }
    for (name, begin, end) in OUTAGES {
        until_well(&client).await?;
        let [quiet, _] = watch(&records, TIMES.0).await;
        tokio::task::block_in_place(|| begin(&mut stores));
        let [reads, writes] = watch(&records, TIMES.1).await;
        tokio::task::block_in_place(|| end(&mut stores));
        println!(
            "  {name:<18} reads: p99 {:>6.1?} before, {:>6.1?} from {} s on; longest {:>6.1?}, none over {SLOW:?} after {:>6.1?}, \
             none failed after {:>6.1?}; writes: none failed after {:>6.1?}",
            p99(quiet.iter()),
            p99(reads.iter().filter(|read| read.at > SETTLED)),
            SETTLED.as_secs(),
            reads.iter().map(|read| read.took).max().unwrap_or_default(),
            last(&reads, |read| read.took > SLOW),
            last(&reads, |read| !read.ok),
            last(&writes, |write| !write.ok),
        );
    }
    until_well(&client).await?;
    server.shutdown().await;
    Ok(())
}
