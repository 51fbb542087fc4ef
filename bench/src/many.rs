//! A Redis of Claude Relay Service with a million keys, taken over by a host: how soon it serves, how soon PostgreSQL
//! has them all, and what memory that takes.

use std::time::{Duration, Instant};

use anyhow::Context;
use sqlx::{Connection, PgConnection};
use switchyard_tests::host::Client;
use switchyard_tests::servers::{Postgres, Redis, Setup, Switchyard};

use crate::starts;

const KEYS: usize = 1_000_000;
/// How many go to Redis at once.
const CHUNK: usize = 5_000;
/// Until PostgreSQL has them all.
const PATIENCE: Duration = Duration::from_secs(7_200);

/// `apikey:{id}` and `apikey:hash_map`, as Claude Relay Service keeps them.
async fn fill(url: &str) -> anyhow::Result<()> {
    let patient = redis::AsyncConnectionConfig::new().set_response_timeout(None);
    let client = redis::Client::open(url)?;
    let mut connection = client.get_multiplexed_async_connection_with_config(&patient).await?;
    for begin in (0..KEYS).step_by(CHUNK) {
        let mut pipe = redis::pipe();
        for n in begin..(begin + CHUNK).min(KEYS) {
            let (id, hash) = (format!("key-{n:07}"), format!("{n:064x}"));
            let name = format!("Key {n}");
            let fields = [
                ("id", id.as_str()),
                ("name", &name),
                ("apiKey", &hash),
                ("isActive", "true"),
                ("tokenLimit", "0"),
                ("permissions", "all"),
                ("tags", "[]"),
                ("createdAt", "2025-01-02T03:04:05.678Z"),
                ("expiresAt", ""),
            ];
            pipe.cmd("HSET").arg(format!("apikey:{id}")).arg(&fields[..]).ignore();
            pipe.cmd("HSET").arg("apikey:hash_map").arg(&hash).arg(&id).ignore();
        }
        pipe.exec_async(&mut connection).await?;
    }
    Ok(())
}

/// Until the last key is answered by its hash.
async fn until_answered(client: &Client, began: Instant) -> anyhow::Result<Duration> {
    let path = format!("/store/v1/records/api_key?index=hash&value={:064x}", KEYS - 1);
    while client.get(&path).await.status != 200 {
        anyhow::ensure!(began.elapsed() < PATIENCE, "no answer within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(began.elapsed())
}

/// Until PostgreSQL has them all.
async fn until_copied(url: &str, began: Instant) -> anyhow::Result<Duration> {
    let mut connection = PgConnection::connect(url).await?;
    loop {
        let counted = sqlx::query_scalar("select count(*) from api_key where not deleted");
        let counted: i64 = counted.fetch_one(&mut connection).await?;
        if counted == KEYS as i64 {
            return Ok(began.elapsed());
        }
        anyhow::ensure!(began.elapsed() < PATIENCE, "{counted} of {KEYS} within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// The most memory that a process has had.
fn peak_mib(pid: u32) -> anyhow::Result<f64> {
    starts::memory_mib(pid, "VmHWM:")
}

pub async fn run() -> anyhow::Result<()> {
    println!("A host on a Redis of Claude Relay Service with {KEYS} keys, and on an empty PostgreSQL");
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let (redis_url, postgres_url) = (redis.url(), postgres.url());
    let began = Instant::now();
    fill(&redis_url).await?;
    println!("  filled in {:.1?}", began.elapsed());
    let flags = ["--redis-url", &redis_url, "--postgres-url", &postgres_url, "--log", "warn"];
    let setup = Setup { program: Some(starts::binary()?), ..Setup::with_arguments(&flags) };
    let began = Instant::now();
    let mut host = tokio::task::block_in_place(|| Switchyard::start_as(&setup));
    let client = host.client();
    println!("  first answer of a key after {:.1?}", until_answered(&client, began).await?);
    println!("  first page of the list in {:.1?}, while they are copied", page(&client).await?);
    println!("  PostgreSQL has them all after {:.1?}", until_copied(&postgres_url, began).await?);
    println!("  first page of the list in {:.1?}, afterwards", page(&client).await?);
    println!("  memory of the host: {:.1} MiB at most", peak_mib(host.id())?);
    tokio::task::block_in_place(|| host.stop());
    Ok(())
}

/// How long the newest 50 keys take, once they are answered at all.
async fn page(client: &Client) -> anyhow::Result<Duration> {
    let began = Instant::now();
    loop {
        let asked = Instant::now();
        let page = client.get("/admin/api-keys?limit=50").await;
        if page.status == 200 {
            let items = page.body["data"]["items"].as_array().context("a page")?.len();
            anyhow::ensure!(items == 50, "a page of {items}");
            return Ok(asked.elapsed());
        }
        anyhow::ensure!(began.elapsed() < PATIENCE, "no page within {PATIENCE:?}: {}", page.body);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
