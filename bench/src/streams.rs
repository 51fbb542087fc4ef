//! 10,000 slow streams at a time, or as many as may be open, through the program: its memory, and whether each of them ends whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::json;
use switchyard::demo::{self, Demo};
use switchyard_tests::host::Client;
use switchyard_tests::servers::{self, Redis, Setup, Switchyard};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::starts::{binary, resident_mib};

const STREAMS: usize = 10_000;
/// Of the demo upstream, before each event: every stream is open until the last one has begun.
const BETWEEN: Duration = Duration::from_secs(12);
/// How many begin at a time: no more than the listener's queue holds.
const AT_ONCE: usize = 100;
const PATIENCE: Duration = Duration::from_secs(240);
/// Open files beside both ends of each stream, of which either process has two.
const SPARE: u64 = 512;

/// Lets this process and those that it starts open enough files; or answers how many streams fit into what it may
/// open.
fn raise_files() -> anyhow::Result<usize> {
    let wanted = 2 * STREAMS as u64 + SPARE;
    let mut limit = libc::rlimit { rlim_cur: wanted, rlim_max: wanted };
    // SAFETY: reads a structure that outlives the call.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } == 0 {
        return Ok(STREAMS);
    }
    // SAFETY: writes a structure that outlives the call, and reads one.
    let raised = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit)
    };
    anyhow::ensure!(raised == 0, "the limit of open files cannot be read");
    let fit = limit.rlim_max.saturating_sub(SPARE) / 2;
    anyhow::ensure!(
        fit > 0,
        "{wanted} open files are not allowed here; as root: prlimit --nofile={wanted} ..."
    );
    Ok(usize::try_from(fit)?.min(STREAMS))
}

/// One stream, from its beginning to its end; true if it came whole.
async fn stream(port: u16, key: &str, begun: &AtomicUsize) -> anyhow::Result<bool> {
    let body = r#"{"model":"claude-sonnet-4-5","max_tokens":4,"stream":true,"messages":[{"role":"user","content":"Hi"}]}"#;
    let head = format!(
        "POST /v1/messages HTTP/1.1\r\nhost: bench\r\nx-api-key: {key}\r\nanthropic-version: 2023-06-01\r\n\
         connection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut connection = TcpStream::connect(("127.0.0.1", port)).await?;
    connection.write_all(head.as_bytes()).await?;
    let mut answer = Vec::with_capacity(4_096);
    let mut is_begun = false;
    while connection.read_buf(&mut answer).await? > 0 {
        if !is_begun && contains(&answer, b"message_start") {
            is_begun = true;
            begun.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(contains(&answer, b"message_stop"))
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

pub async fn run() -> anyhow::Result<()> {
    let count = raise_files()?;
    println!("{count} slow streams at a time through the program, on Redis and PostgreSQL");
    let (redis, postgres) = (Redis::start(), servers::Postgres::start());
    let (redis_url, postgres_url) = (redis.url(), postgres.url());
    let options = demo::Options { between: BETWEEN, ..demo::Options::default() };
    let demo = Demo::start(([127, 0, 0, 1], 0).into(), options).await?;
    let stores = Setup::with_arguments(&["--redis-url", &redis_url, "--postgres-url", &postgres_url]);
    let program = Switchyard::start_as(&Setup { program: Some(binary()?), ..stores });
    let client = program.client();
    let key = prepare(&client, &demo).await?;
    let idle = resident_mib(program.id())?;
    let (begun, began) = (Arc::new(AtomicUsize::new(0)), Instant::now());
    let mut streams = tokio::task::JoinSet::new();
    let (port, mut most) = (program.port(), 0.0_f64);
    for n in 0..count {
        let (key, counter) = (key.clone(), begun.clone());
        streams.spawn(async move { stream(port, &key, &counter).await.unwrap_or(false) });
        while n >= begun.load(Ordering::Relaxed) + AT_ONCE && began.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let all_begun = began.elapsed();
    let (mut whole, mut ended) = (0, 0);
    while began.elapsed() < PATIENCE && ended < count {
        most = most.max(resident_mib(program.id())?);
        while let Some(done) = streams.try_join_next() {
            ended += 1;
            whole += usize::from(done.unwrap_or(false));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!(
        "  {} begun within {all_begun:.1?}, {whole} came whole; resident {most:.0} MiB at most, {idle:.0} MiB before: {:.1} KiB a stream",
        begun.load(Ordering::Relaxed),
        (most - idle) * 1_024.0 / count as f64,
    );
    Ok(())
}

/// An account at the upstream, and a key with a limit of calls at a time.
async fn prepare(client: &Client, demo: &Demo) -> anyhow::Result<String> {
    let account = json!({ "name": "demo", "apiUrl": demo.url(), "apiKey": "sk-demo" });
    client.post("/admin/accounts", account).await;
    let key = json!({ "name": "bench", "concurrencyLimit": 20_000, "dailyCostLimit": 1_000_000 });
    let created = client.post("/admin/api-keys", key).await.body;
    Ok(created["data"]["apiKey"].as_str().context("a key")?.to_owned())
}
