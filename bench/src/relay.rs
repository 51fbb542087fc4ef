//! `POST /v1/messages` through the relay, straight to the upstream, and through nginx: one client, one upstream,
//! plain answers and streams.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use switchyard::demo::{self, Demo};
use switchyard::server::Server;
use switchyard_tests::host::{Client, config};
use switchyard_tests::servers;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::bare::Bare;
use crate::connections::Connections;
use crate::load::{self, Measured, better};

const TIME: Duration = Duration::from_secs(3);
const MANY: usize = 64;
/// Where nginx passes a stream on as it comes.
const UNBUFFERED: &str = "/unbuffered";
/// What the upstream is told, so that it answers in some 64 events: each word is one.
const WORDS: usize = 43;

/// nginx as a plain reverse proxy; ended when this is dropped.
struct Nginx(Child);

impl Nginx {
    async fn start(folder: &Path, upstream: SocketAddr) -> anyhow::Result<(Self, SocketAddr)> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let text = format!(
            "daemon off; master_process off; pid {0}/nginx.pid; error_log {0}/nginx.log;\n\
             events {{ worker_connections 1024; }}\n\
             http {{ access_log off; client_body_temp_path {0}/body; proxy_temp_path {0}/proxy;\n\
             fastcgi_temp_path {0}/f; uwsgi_temp_path {0}/u; scgi_temp_path {0}/s;\n\
             upstream up {{ server {upstream}; keepalive {MANY}; }}\n\
             server {{ listen 127.0.0.1:{port}; keepalive_requests 10000000;\n\
             proxy_http_version 1.1; proxy_set_header connection '';\n\
             location / {{ proxy_pass http://up; }}\n\
             location {UNBUFFERED}/ {{ proxy_pass http://up/; proxy_buffering off; }} }} }}\n",
            folder.display()
        );
        let file = folder.join("nginx.conf");
        std::fs::write(&file, text)?;
        let mut nginx = Command::new("nginx");
        nginx.arg("-c").arg(&file).arg("-e").arg(folder.join("nginx.log")).stdout(Stdio::null());
        let child = nginx.spawn().context("nginx; `apt-get install nginx-light` installs it")?;
        let (this, addr) = (Self(child), SocketAddr::from(([127, 0, 0, 1], port)));
        for _ in 0..200 {
            if TcpStream::connect(addr).await.is_ok() {
                return Ok((this, addr));
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        bail!("nginx does not listen: {}", std::fs::read_to_string(folder.join("nginx.log"))?)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = (self.0.kill(), self.0.wait());
    }
}

/// An account and a key with a limit of each kind, so that all of them are held.
async fn prepare(server: &Server, demo: &Demo) -> anyhow::Result<String> {
    let admin = Client::new(format!("http://{}", server.addr()));
    let account = serde_json::json!({ "name": "demo", "apiUrl": demo.url(), "apiKey": "sk-demo" });
    admin.post("/admin/accounts", account).await;
    let key = serde_json::json!({
        "name": "bench", "concurrencyLimit": 1_000, "rateLimitWindow": 60, "rateLimitRequests": 100_000_000,
        "tokenLimit": 0, "dailyCostLimit": 1_000_000, "totalCostLimit": 10_000_000,
    });
    let created = admin.post("/admin/api-keys", key).await.body;
    Ok(created["data"]["apiKey"].as_str().context("a key")?.to_owned())
}

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    Plain,
    Stream,
}

fn request(path: &str, key: &str, answer: Answer) -> Vec<u8> {
    let said = match answer {
        Answer::Plain => "Say hi.".to_owned(),
        Answer::Stream => vec!["a"; WORDS].join(" "),
    };
    let body = serde_json::json!({
        "model": "claude-sonnet-4-5", "max_tokens": 64, "stream": answer == Answer::Stream,
        "messages": [{ "role": "user", "content": said }],
    });
    let body = body.to_string();
    format!(
        "POST {path} HTTP/1.1\r\nhost: bench\r\nx-api-key: {key}\r\nanthropic-version: 2023-06-01\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

async fn load(
    name: &str,
    addr: SocketAddr,
    connections: usize,
    request: Vec<u8>,
) -> anyhow::Result<Measured> {
    let (open, request) = (Arc::new(Connections::open(addr, connections).await?), Arc::new(request));
    let call = move |n: u64| {
        let (open, request) = (open.clone(), request.clone());
        async move { open.send(n, &request).await.unwrap_or(false) }
    };
    Ok(load::run(name, connections, TIME, call).await)
}

/// Straight, through nginx, through a bare proxy and through the relay, in turns.
async fn compare(
    [upstream, nginx, bare, relay]: [SocketAddr; 4],
    connections: usize,
    key: &str,
    answer: Answer,
) -> anyhow::Result<()> {
    let (messages, unbuffered) = ("/v1/messages", format!("{UNBUFFERED}/v1/messages"));
    let proxied = if answer == Answer::Stream { &*unbuffered } else { messages };
    let mut best: Vec<Measured> = Vec::new();
    for turn in 0..3 {
        let mut measured = Vec::new();
        for (name, addr, path) in [
            ("straight to the upstream", upstream, messages),
            ("nginx", nginx, proxied),
            ("bare proxy of the relay's library", bare, messages),
            ("relay", relay, messages),
        ] {
            measured.push(load(name, addr, connections, request(path, key, answer)).await?);
        }
        best = match turn {
            0 => measured,
            _ => best.into_iter().zip(measured).map(|(a, b)| better(a, b)).collect(),
        };
    }
    best.iter().for_each(|line| line.print(best.get(1)));
    println!("  added at p50: {:.0} us", best[3].quantile(0.5) - best[0].quantile(0.5));
    Ok(())
}

/// How many commands reach Redis for each request, those within scripts not counted: of all that goes on.
async fn commands(redis: u16, relay: SocketAddr, key: &str) -> anyhow::Result<f64> {
    let mut monitor = BufReader::new(TcpStream::connect(("127.0.0.1", redis)).await?);
    monitor.write_all(b"MONITOR\r\n").await?;
    let counting = tokio::spawn(async move {
        let (mut lines, mut count) = (monitor.lines(), 0_u64);
        while let Ok(Some(line)) = lines.next_line().await {
            count += u64::from(line.starts_with('+') && !line.contains(" lua]"));
            if line.contains("the bench has ended") {
                break;
            }
        }
        count
    });
    let relayed = load("relay, watched", relay, MANY, request("/v1/messages", key, Answer::Plain)).await?;
    let mut client = redis::Client::open(("127.0.0.1", redis))?.get_multiplexed_async_connection().await?;
    let _: String = redis::cmd("PING").arg("the bench has ended").query_async(&mut client).await?;
    Ok(counting.await? as f64 / (relayed.per_second * TIME.as_secs_f64()))
}

pub async fn run() -> anyhow::Result<()> {
    println!(
        "POST /v1/messages, dual_write on Redis and PostgreSQL, limits and usage on, best of three turns"
    );
    let (folder, redis, postgres) =
        (tempfile::tempdir()?, servers::Redis::start(), servers::Postgres::start());
    let (redis_url, postgres_url) = (redis.url(), postgres.url());
    let flags = ["--redis-url", &redis_url, "--postgres-url", &postgres_url];
    let server = Server::start(config(folder.path(), &flags)).await?;
    let demo = Demo::start(([127, 0, 0, 1], 0).into(), demo::Options::default()).await?;
    let key = prepare(&server, &demo).await?;
    let (_nginx, nginx) = Nginx::start(folder.path(), demo.addr()).await?;
    let bare = Bare::start(demo.addr()).await?;
    let ways = [demo.addr(), nginx, bare.addr, server.addr()];
    for (answer, what) in
        [(Answer::Plain, "plain"), (Answer::Stream, "streams of 64 events, nginx without buffering")]
    {
        for connections in [1, MANY] {
            println!(" {what}, at {connections} connections");
            compare(ways, connections, &key, answer).await?;
        }
    }
    let commands = commands(redis.port(), server.addr(), &key).await?;
    println!(" Redis commands a request, at {MANY} connections: {commands:.2}");
    server.shutdown().await;
    Ok(())
}
