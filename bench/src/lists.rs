//! Pages of 100,000 keys, from each store.

use std::time::{Duration, Instant};

use switchyard::server::Server;
use switchyard::store::{Expect, Key, kind};
use switchyard::strategy::records::Change;
use switchyard_tests::host::{Client, config};
use switchyard_tests::servers::{self, Redis};

const KEYS: u64 = 100_000;
const TIMES: usize = 50;
const QUERIES: [(&str, &str); 4] = [
    ("the first page, newest first", "limit=50"),
    ("the first page, by name", "limit=50&sort=name&order=asc"),
    ("those with a tag", "limit=50&tag=t7"),
    ("those that are not active", "limit=50&status=disabled"),
];

pub async fn run() -> anyhow::Result<()> {
    println!("Pages of {KEYS} keys, of Redis and of PostgreSQL");
    let folder = tempfile::tempdir()?;
    let (redis, postgres) = (Redis::start(), servers::Postgres::start());
    let (redis_url, postgres_url) = (redis.url(), postgres.url());
    let flags = ["--redis-url", &redis_url, "--postgres-url", &postgres_url];
    let server = Server::start(config(folder.path(), &flags)).await?;
    let numbers: Vec<u64> = (0..KEYS).collect();
    for chunk in numbers.chunks(256) {
        let puts = chunk.iter().map(|n| {
            let created = format!(
                "2026-01-{:02}T{:02}:{:02}:{:02}.000Z",
                1 + n % 28,
                n / 3_600 % 24,
                n / 60 % 60,
                n % 60
            );
            let fields = [
                ("name", format!("Key {:06}", n * 7_919 % KEYS)),
                ("apiKey", format!("{n:064x}")),
                ("createdAt", created),
                ("isActive", (n % 10 != 0).to_string()),
                ("tags", format!("[\"t{}\"]", n % 100)),
            ];
            let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            let key = Key::new(&kind::API_KEY, &format!("k{n}")).expect("a valid id");
            let records = server.records().clone();
            async move {
                records.put(&key, Change { fields, deleted: false, expires_at: None }, Expect::Anything).await
            }
        });
        for put in futures::future::join_all(puts).await {
            put.map_err(|error| anyhow::anyhow!("{error}"))?;
        }
    }
    let client = Client::new(format!("http://{}", server.addr()));
    for strategy in ["redis_only", "postgres_only"] {
        let path = format!("/admin/strategies/{strategy}/activate");
        client.post(&path, serde_json::json!({ "pin": true })).await.expect(200);
        for (name, query) in QUERIES {
            print(strategy, name, &format!("/admin/api-keys?{query}"), &client).await;
        }
    }
    server.shutdown().await;
    Ok(())
}

async fn print(strategy: &str, name: &str, path: &str, client: &Client) {
    let (mut took, mut items) = (Vec::new(), 0);
    for _ in 0..TIMES {
        let began = Instant::now();
        let page = client.get(path).await.expect(200);
        took.push(began.elapsed());
        items = page["data"]["items"].as_array().map_or(0, Vec::len);
    }
    took.sort_unstable();
    let (median, slowest): (Duration, Duration) = (took[TIMES / 2], took[TIMES - 1]);
    println!("  {strategy:<14} {name:<30} p50 {median:>8.1?}  slowest {slowest:>8.1?}  ({items} keys)");
}
