//! What is deleted or disabled through one node is so on every node within a second.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use switchyard_tests::host::Client;
use switchyard_tests::servers::{Postgres, Redis};
use switchyard_tests::timing::is_kept_once;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::{PROMISED, SOON, Shared, activate, soon};

const STRATEGIES: [&str; 5] = ["dual_write", "cache_first", "database_first", "redis_only", "postgres_only"];

/// For how long a revoked key is asked for in vain before it is taken to be revoked for good.
const QUIET: Duration = Duration::from_millis(300);
/// For how long a node may be unable to tell.
const PATIENCE: Duration = Duration::from_secs(60);

fn by_id(id: &str) -> String {
    format!("/store/v1/records/api_key/{id}")
}

fn by_hash(id: &str) -> String {
    format!("/store/v1/records/api_key?index=hash&value=hash-{id}")
}

#[derive(PartialEq)]
enum Says {
    Valid,
    Revoked,
    Nothing,
}

/// What a relay asks: is there an active key of this hash?
async fn says(client: &Client, path: &str) -> Says {
    let answer = client.get(path).await;
    match answer.status.as_u16() {
        200 if answer.body["fields"]["isActive"] == "true" => Says::Valid,
        200 | 404 => Says::Revoked,
        503 => Says::Nothing,
        status => panic!("{status}: {}", answer.body),
    }
}

async fn is_valid(client: &Client, path: &str) -> bool {
    says(client, path).await == Says::Valid
}

fn key(id: &str, active: bool) -> Value {
    json!({"fields": {"apiKey": format!("hash-{id}"), "isActive": active.to_string()}})
}

/// Makes a key through one node, and has the other one read it until it is in its near cache.
async fn issue(a: &Client, b: &Client, id: &str) {
    a.put(&by_id(id), key(id, true)).await.expect(200);
    for path in [by_id(id), by_hash(id)] {
        soon("the other node knows the key", async || is_valid(b, &path).await).await;
        for _ in 0..3 {
            is_valid(b, &path).await;
        }
    }
}

/// For how long after the acknowledgement the other node answers what was before. Afterwards it never does again, and
/// says at least once by each path that the key is revoked, not only that it cannot tell.
async fn is_revoked(b: &Client, id: &str, how: &str) -> Duration {
    let acknowledged = Instant::now();
    let (mut valid_for, mut told) = (Duration::ZERO, [false; 2]);
    for (at, path) in [by_id(id), by_hash(id)].iter().enumerate().cycle() {
        if told == [true; 2] && acknowledged.elapsed() > valid_for + QUIET {
            break;
        }
        // As of the question: the answer may take its time.
        let asked = acknowledged.elapsed();
        match says(b, path).await {
            Says::Valid => {
                (valid_for, told) = (asked, [false; 2]);
                assert!(valid_for < SOON, "{id} is still valid after {valid_for:?}, {how}");
            }
            Says::Revoked => told[at] = true,
            Says::Nothing => assert!(asked < PATIENCE, "{id}: nothing is told after {asked:?}, {how}"),
        }
    }
    valid_for
}

async fn delete(a: &Client, id: &str) -> Value {
    a.delete(&by_id(id)).await.expect(200)
}

async fn disable(a: &Client, id: &str) -> Value {
    a.put(&by_id(id), key(id, false)).await.expect(200)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_is_effective_on_the_other_node_under_every_strategy() {
    let shared = Shared::start().await;
    let (a, b) = (shared.node("a", &[]).await, shared.node("b", &[]).await);
    for strategy in STRATEGIES {
        activate(&a.client, strategy).await;
        let mut numbers = 0..;
        let once = async || {
            let number = numbers.next().expect("a number");
            let ids = [format!("{strategy}-{number}-1"), format!("{strategy}-{number}-2")];
            for id in &ids {
                issue(&a.client, &b.client, id).await;
            }
            delete(&a.client, &ids[0]).await;
            let deleted = is_revoked(&b.client, &ids[0], strategy).await;
            disable(&a.client, &ids[1]).await;
            deleted.max(is_revoked(&b.client, &ids[1], strategy).await)
        };
        is_kept_once(strategy, PROMISED, once).await;
    }
    a.stop().await;
    b.stop().await;
}

/// A way to a server that can be cut.
struct Way {
    url: String,
    task: JoinHandle<()>,
}

impl Way {
    async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("redis://{}/0", listener.local_addr().expect("the port"));
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((mut from, _)) = listener.accept().await {
                connections.spawn(async move {
                    if let Ok(mut to) = TcpStream::connect(("127.0.0.1", port)).await {
                        // However it ends.
                        let _ = copy_bidirectional(&mut from, &mut to).await;
                    }
                });
            }
        });
        Self { url, task }
    }

    async fn cut(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

/// The node that revokes has lost Redis, and only that node: its write is in PostgreSQL alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_through_a_node_without_redis_is_effective_on_the_others() {
    let shared = Shared::start().await;
    for strategy in ["dual_write", "database_first"] {
        let mut numbers = 0..;
        let once = async || {
            let name = format!("{strategy}-{}", numbers.next().expect("a number"));
            revoked_by_a_node_without_redis(&shared, strategy, &name).await
        };
        is_kept_once(strategy, PROMISED, once).await;
    }
}

async fn revoked_by_a_node_without_redis(shared: &Shared, strategy: &str, name: &str) -> Duration {
    let way = Way::to(shared.redis.port()).await;
    // It cannot say goodbye to Redis, where its id is held for a while: the next one has another.
    let a = shared.node_on(&way.url, &format!("a-{name}"), &[]).await;
    let b = shared.node("b", &[]).await;
    activate(&b.client, strategy).await;
    let ids = [format!("{name}-1"), format!("{name}-2")];
    for id in &ids {
        issue(&a.client, &b.client, id).await;
    }
    way.cut().await;
    let how = format!("{strategy}, Redis lost by the other node");
    // Each is revoked with the other one still in the near cache.
    let written = delete(&a.client, &ids[0]).await;
    assert_eq!(written["durability"], "postgres", "{written}");
    let deleted = is_revoked(&b.client, &ids[0], &how).await;
    disable(&a.client, &ids[1]).await;
    let disabled = is_revoked(&b.client, &ids[1], &how).await;
    a.stop().await;
    b.stop().await;
    deleted.max(disabled)
}

async fn revoked_while(freeze: fn(&mut Redis, &mut Postgres), strategy: &str) -> Duration {
    let mut postgres = Postgres::start();
    let mut shared = Shared { redis: Redis::start(), postgres: postgres.url() };
    let (a, b) = (shared.node("a", &[]).await, shared.node("b", &[]).await);
    activate(&a.client, strategy).await;
    for id in ["one", "two"] {
        issue(&a.client, &b.client, id).await;
    }
    freeze(&mut shared.redis, &mut postgres);
    let acknowledged = async || a.client.delete(&by_id("one")).await.status == 200;
    a.client.until("a delete is acknowledged", async |_| acknowledged().await).await;
    let deleted = is_revoked(&b.client, "one", strategy).await;
    let acknowledged = async || a.client.put(&by_id("two"), key("two", false)).await.status == 200;
    a.client.until("a change is acknowledged", async |_| acknowledged().await).await;
    let disabled = is_revoked(&b.client, "two", strategy).await;
    shared.redis.resume();
    postgres.resume();
    for id in ["one", "two"] {
        is_revoked(&b.client, id, &format!("{strategy}, after the outage")).await;
    }
    a.stop().await;
    b.stop().await;
    deleted.max(disabled)
}

/// The server cannot announce what has changed: the copies in the near cache are believed for a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_is_effective_while_redis_is_frozen() {
    for strategy in ["dual_write", "database_first", "postgres_only"] {
        let once = async || revoked_while(|redis, _| redis.pause(), strategy).await;
        is_kept_once(strategy, PROMISED, once).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_is_effective_while_postgres_is_frozen() {
    for strategy in ["dual_write", "cache_first", "redis_only"] {
        let once = async || revoked_while(|_, postgres| postgres.pause(), strategy).await;
        is_kept_once(strategy, PROMISED, once).await;
    }
}

/// Under a strategy that reads Redis alone nobody acknowledges what Redis has not taken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_redis_revokes_nothing_where_others_read_redis_alone() {
    let shared = Shared::start().await;
    let way = Way::to(shared.redis.port()).await;
    let a = shared.node_on(&way.url, "a", &[]).await;
    let b = shared.node("b", &[]).await;
    let pinned = json!({"pin": true});
    b.client.post("/admin/strategies/redis_only/activate", pinned).await.expect(200);
    issue(&a.client, &b.client, "one").await;
    way.cut().await;
    tokio::time::timeout(Duration::from_secs(20), async {
        let answer = a.client.delete(&by_id("one")).await;
        assert_eq!(answer.status, 503, "{}", answer.body);
    })
    .await
    .expect("an answer");
    assert!(is_valid(&b.client, &by_id("one")).await);
    delete(&b.client, "one").await;
    assert!(!is_valid(&b.client, &by_id("one")).await);
    a.stop().await;
    b.stop().await;
}
