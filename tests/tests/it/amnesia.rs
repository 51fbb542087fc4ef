//! Stores that come back with other data than they had: nothing that was acknowledged is lost or denied, and nothing
//! that was deleted comes back.

mod alone;
mod postgres;
mod redis;
mod usage;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use switchyard_tests::host::{Client, Host};
use switchyard_tests::servers::{Postgres, Redis};
use tokio::task::JoinHandle;

/// A server in this process, on stores of its own.
struct Stage {
    host: Host,
    client: Client,
    redis: Redis,
    postgres: Postgres,
}

impl Stage {
    async fn start(flags: &[&str]) -> Self {
        let (redis, postgres) = (Redis::start(), Postgres::start());
        let (redis_url, postgres_url) = (redis.url(), postgres.url());
        let urls = ["--redis-url", &redis_url, "--postgres-url", &postgres_url];
        let flags: Vec<&str> = urls.iter().chain(flags).copied().collect();
        let host = Host::start_in(tempfile::tempdir().expect("a folder"), None, &flags).await;
        let client = host.client.clone();
        let stage = Self { host, client, redis, postgres };
        stage.until_written("first", 1).await;
        stage
    }

    /// Writes records of account and api_key, in turn.
    async fn write(&self, ids: std::ops::Range<u32>, n: u64) {
        for id in ids {
            // On a busy machine a store may take longer than a call: then it is carried over, which is not the point.
            let both = async |client: &Client| {
                client.put(&path(id), fields(id, n)).await.body["durability"] == "both"
            };
            self.client.until("both stores have it", both).await;
        }
    }

    async fn delete(&self, ids: std::ops::Range<u32>) {
        for id in ids {
            self.client.delete(&path(id)).await.expect(200);
        }
    }

    async fn until_written(&self, id: &str, n: u64) {
        let path = format!("/store/v1/records/account/{id}");
        let written = async |client: &Client| {
            client.put(&path, json!({"fields": {"n": n.to_string()}})).await.body["durability"] == "both"
        };
        self.client.until("a write to both stores", written).await;
    }

    /// Waits until what was written is remembered: each store has noted the other as it is now.
    async fn until_remembered(&self) {
        let began = self.beat().await;
        // The second beat began after the last write.
        self.client.until("two beats", async |_: &Client| self.beat().await >= began + 2).await;
    }

    async fn beat(&self) -> i64 {
        let mut read = ::redis::cmd("HGET");
        read.arg("switchyard:counterpart").arg("mark");
        self.in_redis(&read).await
    }

    /// The integer that Redis answers.
    async fn in_redis(&self, command: &::redis::Cmd) -> i64 {
        let client = ::redis::Client::open(self.redis.url()).expect("a URL");
        let mut connection = client.get_multiplexed_async_connection().await.expect("a connection");
        command.query_async::<Option<i64>>(&mut connection).await.expect("an answer").unwrap_or(0)
    }

    /// The integer that PostgreSQL answers; none while it does not.
    async fn in_postgres(&self, query: &'static str) -> Option<i64> {
        let mut connection = PgConnection::connect(&self.postgres.url()).await.ok()?;
        sqlx::query_scalar(query).fetch_one(&mut connection).await.ok()
    }

    /// What happened to the stores, newest first.
    async fn events(&self) -> Vec<String> {
        let events = self.client.get("/admin/strategies/events").await.expect(200)["events"].take();
        let of_stores = |event: &Value| {
            let (action, detail) = (event["action"].as_str()?, event["detail"].as_str()?);
            action.starts_with("store-").then(|| format!("{action}: {detail}"))
        };
        events.as_array().expect("events").iter().filter_map(of_stores).collect()
    }

    /// Waits until the stores were compared this often.
    async fn until_whole(&self, times: usize) {
        let whole = async |_: &Client| {
            self.events().await.iter().filter(|event| event.starts_with("store-whole")).count() >= times
        };
        self.client.until("the stores are whole", whole).await;
    }

    /// Each store alone holds what is expected: n of a live record, none of a deleted one.
    async fn each_store_has(&self, ids: std::ops::Range<u32>, n: impl Fn(u32) -> Option<u64>) {
        for strategy in ["redis_only", "postgres_only", "dual_write"] {
            self.client.activate(strategy).await;
            for id in ids.clone() {
                let read = eventually(&self.client, &path(id)).await;
                match n(id) {
                    None => assert_eq!(read.status, 404, "{strategy}: {id} was deleted: {}", read.body),
                    Some(n) => {
                        assert_eq!(read.status, 200, "{strategy}: {id}: {}", read.body);
                        assert_eq!(read.body["fields"]["n"], n.to_string(), "{strategy}: {id}");
                    }
                }
            }
        }
    }
}

fn path(id: u32) -> String {
    let kind = if id.is_multiple_of(2) { "account" } else { "api_key" };
    format!("/store/v1/records/{kind}/r{id}")
}

fn fields(id: u32, n: u64) -> Value {
    match id.is_multiple_of(2) {
        true => json!({"fields": {"n": n.to_string()}}),
        false => json!({"fields": {"n": n.to_string(), "apiKey": format!("hash-{id}")}}),
    }
}

async fn eventually(client: &Client, path: &str) -> switchyard_tests::host::Answer {
    for _ in 0..1_200 {
        let answer = client.get(path).await;
        if answer.status != 503 {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{path}: 503 for a minute");
}

/// Reads over and over. A live record is 200 or "not now", never older than it was; a deleted one is never there.
struct Reader {
    ended: Arc<AtomicBool>,
    task: JoinHandle<usize>,
}

impl Reader {
    fn start(client: &Client, ids: std::ops::Range<u32>, n: fn(u32) -> Option<u64>) -> Self {
        let (client, ended) = (client.clone(), Arc::new(AtomicBool::new(false)));
        let task = tokio::spawn({
            let ended = ended.clone();
            async move {
                let mut rounds = 0;
                while !ended.load(Ordering::Acquire) {
                    for id in ids.clone() {
                        let read = client.get(&path(id)).await;
                        match (read.status.as_u16(), n(id)) {
                            (503, _) | (404, None) => {}
                            (200, Some(n)) => assert_eq!(read.body["fields"]["n"], n.to_string(), "{id}"),
                            (status, n) => {
                                panic!("{id}, which is {n:?}, was answered {status}: {}", read.body)
                            }
                        }
                    }
                    rounds += 1;
                }
                rounds
            }
        });
        Self { ended, task }
    }

    async fn end(self) {
        self.ended.store(true, Ordering::Release);
        assert!(self.task.await.expect("only right answers") > 0);
    }
}
