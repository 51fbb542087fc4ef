//! Several nodes on one Redis and one PostgreSQL.

mod clock;
mod events;
mod identity;
mod pinning;
mod polling;
mod revocation;
mod wrong_store;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use switchyard::engine::Digest;
use switchyard_tests::host::{Answer, Client, Host};
use switchyard_tests::hostile;
use switchyard_tests::servers::{Postgres, Redis};

/// How soon a switch and a revocation are promised to be in force on every node.
const PROMISED: Duration = Duration::from_secs(1);
/// What nothing may exceed, because the machine that tests may be busy with other things.
const SOON: Duration = Duration::from_secs(8);

/// The stores that the nodes of a test share.
struct Shared {
    redis: Redis,
    postgres: String,
}

impl Shared {
    async fn start() -> Self {
        Self { redis: Redis::start(), postgres: Postgres::shared().database().await }
    }

    async fn node(&self, id: &str, flags: &[&str]) -> Host {
        self.node_on(&self.redis.url(), id, flags).await
    }

    async fn node_on(&self, redis: &str, id: &str, flags: &[&str]) -> Host {
        let fixed = ["--node-id", id, "--redis-url", redis, "--postgres-url", &self.postgres];
        let flags: Vec<&str> = fixed.iter().chain(flags).copied().collect();
        Host::start_in(tempfile::tempdir().expect("a folder"), None, &flags).await
    }
}

async fn active(client: &Client) -> Value {
    client.get("/healthz").await.expect(200)["strategy"]["name"].clone()
}

async fn try_activate(client: &Client, name: &str) -> Answer {
    client.post(&format!("/admin/strategies/{name}/activate"), json!({})).await
}

/// Makes a strategy active, as soon as the node has ended to follow the switch before.
async fn activate(client: &Client, name: &str) -> Value {
    loop {
        let answer = try_activate(client, name).await;
        if answer.body["code"] != "switch-under-way" {
            return answer.expect(200);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn chosen(client: &Client) -> Value {
    client.get("/admin/database/status").await.expect(200)["data"]["chosen"].clone()
}

async fn node(client: &Client, id: &str) -> Value {
    let nodes = client.get("/admin/nodes").await.expect(200)["nodes"].take();
    nodes.as_array().expect("nodes").iter().find(|node| node["node"] == id).cloned().unwrap_or_default()
}

/// Asks until it holds, and says how long that took.
async fn soon(what: &str, holds: impl AsyncFn() -> bool) -> Duration {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < SOON, "not within {SOON:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    began.elapsed()
}

fn states(answer: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let nodes = answer["nodes"].as_array().unwrap_or_else(|| panic!("no nodes: {answer}"));
    nodes.iter().map(|node| (text(&node["node"]), text(&node["state"]))).collect()
}

fn all(state: &str, nodes: &[&str]) -> Vec<(String, String)> {
    nodes.iter().map(|node| ((*node).to_owned(), state.to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switch_on_one_node_is_in_force_on_all_and_the_answer_says_so() {
    let shared = Shared::start().await;
    let (a, b) = (shared.node("a", &[]).await, shared.node("b", &[]).await);
    let c = shared.node("c", &[]).await;
    soon("the nodes know each other", async || {
        states(&a.client.get("/admin/nodes").await.expect(200)) == all("in-force", &["a", "b", "c"])
    })
    .await;
    for (at, other, name) in [(&a, &b, "cache_first"), (&b, &c, "postgres_only"), (&c, &a, "dual_write")] {
        let answer = activate(&at.client, name).await;
        assert_eq!(states(&answer), all("in-force", &["a", "b", "c"]), "{answer}");
        soon("in force on another node", async || active(&other.client).await == name).await;
    }
    let answer = a.client.post("/admin/database/strategy/redis-only", json!({})).await.expect(200);
    assert_eq!(states(&answer), all("in-force", &["a", "b", "c"]));
    assert_eq!(active(&b.client).await, "redis_only");
    let over = async || b.client.post("/admin/strategies/rollback", Value::Null).await;
    let mut back = over().await;
    while back.body["code"] == "switch-under-way" {
        tokio::time::sleep(Duration::from_millis(50)).await;
        back = over().await;
    }
    let back = back.expect(200);
    assert_eq!((&back["strategy"], states(&back)), (&json!("dual_write"), all("in-force", &["a", "b", "c"])));
    assert_eq!(active(&c.client).await, "dual_write");
    c.stop().await;
    let left = states(&activate(&a.client, "cache_first").await);
    assert_eq!(left, all("in-force", &["a", "b"]), "a node that has ended in order is not waited for");
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_uploaded_version_is_in_force_on_all() {
    let shared = Shared::start().await;
    let (a, b) = (shared.node("a", &[]).await, shared.node("b", &[]).await);
    let component = hostile::component(&[]);
    let report = a.client.upload("mine?activate=true", &component).await.expect(201);
    assert_eq!(
        report["uploaded"]["digest"].as_str().or(report["digest"].as_str()),
        Some(&*Digest::of(&component).to_string())
    );
    soon("in force on the other node", async || active(&b.client).await == "mine").await;
    let digest = Digest::of(&component).to_string();
    soon("seen by the first node", async || node(&a.client, "b").await["digest"] == digest).await;
    // It goes on without the node that had it first.
    a.stop().await;
    let c = shared.node("c", &[]).await;
    assert_eq!(active(&c.client).await, "mine");
    b.stop().await;
    c.stop().await;
}

/// A component of more than a MiB.
fn large() -> Vec<u8> {
    let mut component = hostile::component(&[]);
    let padding = 1_200_000_u32;
    let (name, mut size) = (b"\x03pad", padding + 4);
    component.push(0);
    while size >= 0x80 {
        component.push((size & 0x7f) as u8 | 0x80);
        size >>= 7;
    }
    component.push(size as u8);
    component.extend(name);
    component.resize(component.len() + padding as usize, 0);
    component
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_cannot_load_a_version_says_so_and_the_switch_tells() {
    let shared = Shared::start().await;
    let patient = ["--postgres-deadline-ms", "10000"];
    let (a, b) = (shared.node("a", &patient).await, shared.node("b", &["--component-mib", "1"]).await);
    let report = a.client.upload("large?activate=true", &large()).await.expect(201);
    let of = |id: &str| report["nodes"].as_array().unwrap().iter().find(|node| node["node"] == id).unwrap();
    assert_eq!(of("a")["state"], "in-force");
    assert_eq!(
        (&of("b")["state"], &of("b")["strategy"]),
        (&json!("failed"), &json!("dual_write")),
        "{report}"
    );
    assert!(
        of("b")["error"].as_str().is_some_and(|error| error.contains("MiB") || error.contains("bytes")),
        "{report}"
    );
    // It serves with what it had, and takes the next choice.
    assert_eq!(active(&b.client).await, "dual_write");
    let answer = activate(&a.client, "cache_first").await;
    assert_eq!(states(&answer), all("in-force", &["a", "b"]), "{answer}");
    assert_eq!(node(&b.client, "b").await.get("error"), None);
    // Started anew, it does not impose its own choice on the others.
    activate(&a.client, "large").await;
    let data = b.stop().await;
    let urls = ["--node-id", "b", "--redis-url", &shared.redis.url(), "--postgres-url", &shared.postgres];
    let flags: Vec<&str> = urls.iter().chain(&["--component-mib", "1"]).copied().collect();
    let b = Host::start_in(data, None, &flags).await;
    assert_eq!(
        (chosen(&b.client).await["name"].clone(), active(&b.client).await),
        (json!("large"), json!("dual_write"))
    );
    assert_eq!(active(&a.client).await, "large");
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_switches_at_once_one_prevails_everywhere() {
    let shared = Shared::start().await;
    let (a, b) = (shared.node("a", &[]).await, shared.node("b", &[]).await);
    for round in 0..6 {
        let names = [["cache_first", "postgres_only"], ["dual_write", "redis_only"]][round % 2];
        let (first, second) =
            tokio::join!(try_activate(&a.client, names[0]), try_activate(&b.client, names[1]));
        let statuses = [first.status.as_u16(), second.status.as_u16()];
        assert!(
            statuses.contains(&200) && statuses.iter().all(|s| [200, 409].contains(s)),
            "{first:?} {second:?}"
        );
        soon("both nodes have the same choice in force", async || {
            let (one, other) = (chosen(&a.client).await, chosen(&b.client).await);
            one == other && active(&a.client).await == one["name"] && active(&b.client).await == one["name"]
        })
        .await;
        let prevailed = chosen(&a.client).await["name"].clone();
        for (answer, name) in [(&first, names[0]), (&second, names[1])] {
            assert!(answer.status != 409 || prevailed != name, "the one that prevails is not told otherwise");
        }
    }
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switch_made_while_a_store_is_lost_reaches_the_others_by_the_other_store() {
    let mut postgres = Postgres::start();
    let mut shared = Shared { redis: Redis::start(), postgres: postgres.url() };
    let (a, b) = (shared.node("a", &[]).await, shared.node("b", &[]).await);
    postgres.stop();
    activate(&a.client, "redis_only").await;
    soon("in force on the other node", async || chosen(&b.client).await["name"] == "redis_only").await;
    // One that has been away, with nothing but the durable store to remember by, finds the choice there.
    postgres.restart();
    b.client
        .until("PostgreSQL is up", async |client| client.get("/admin/strategies/mine").await.status == 404)
        .await;
    shared.redis.stop();
    soon("kept durably", async || {
        let mut connection = PgConnection::connect(&shared.postgres).await.expect("a connection");
        let state = "select fields ->> 'state' from strategy_state where id = 'active'";
        let state: String = sqlx::query_scalar(state).fetch_one(&mut connection).await.expect("the choice");
        state.contains("redis_only")
    })
    .await;
    // Known by a probe of its own.
    let takes_writes = |store: &Value| store["store"] == "postgres" && store["up"] == true;
    let up = async |client: &Client| {
        let health = client.get("/healthz").await.body;
        health["stores"].as_array().is_some_and(|stores| stores.iter().any(takes_writes))
    };
    b.client.until("PostgreSQL takes writes", up).await;
    activate(&b.client, "postgres_only").await;
    soon("in force on the other node", async || chosen(&a.client).await["name"] == "postgres_only").await;
    a.stop().await;
    b.stop().await;
}
