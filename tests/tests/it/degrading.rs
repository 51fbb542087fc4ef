//! A store is lost and comes back: another strategy stands in, and the chosen one returns by itself.

mod admin;
mod epochs;
mod faults;
mod last_word;
mod nodes;
mod refused;
mod usage;

use reqwest::Method;
use serde_json::{Value, json};
use switchyard_tests::host::{Answer, Body, Client};
use switchyard_tests::servers::{Postgres, Redis, Switchyard};

/// The servers of a test, which nobody else uses.
struct Servers {
    redis: Redis,
    postgres: Postgres,
}

impl Servers {
    fn start() -> Self {
        Self { redis: Redis::start(), postgres: Postgres::start() }
    }

    /// A node on them.
    async fn node(&self, name: &str, flags: &[&str]) -> (Switchyard, Client) {
        self.node_on(name, &self.postgres.url(), flags).await
    }

    /// A node on them that reaches PostgreSQL at this URL.
    async fn node_on(&self, name: &str, postgres: &str, flags: &[&str]) -> (Switchyard, Client) {
        self.node_at(name, &self.redis.url(), postgres, flags).await
    }

    /// A node that reaches them at these URLs.
    async fn node_at(&self, name: &str, redis: &str, postgres: &str, flags: &[&str]) -> (Switchyard, Client) {
        let mut all = vec!["--redis-url", redis, "--postgres-url", postgres, "--node-id", name];
        all.extend(flags);
        let node = Switchyard::start(&all);
        let client = node.client();
        client.until_ready().await;
        client
            .until("both stores are complete", async |client| get(client, "none").await.status == 404)
            .await;
        (node, client)
    }

    async fn redis_command(&self, words: &[&str]) -> redis::Value {
        let client = redis::Client::open(self.redis.url()).expect("a URL");
        let mut connection = client.get_multiplexed_async_connection().await.expect("a connection");
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut connection).await.expect("an answer")
    }

    /// How Redis syncs what it writes.
    async fn appendfsync(&self) -> String {
        let answer = self.redis_command(&["CONFIG", "GET", "appendfsync"]).await;
        let pair: Vec<String> = redis::from_redis_value(answer).expect("a setting");
        pair[1].clone()
    }

    /// The epoch that the nodes have agreed on.
    async fn epoch(&self) -> u64 {
        let epoch = self.redis_command(&["HGET", "switchyard:control", "epoch"]).await;
        redis::from_redis_value::<Option<u64>>(epoch).expect("an epoch").unwrap_or(0)
    }
}

fn path(id: &str) -> String {
    format!("/store/v1/records/account/{id}")
}

async fn put(client: &Client, id: &str, n: u64) -> Answer {
    client.put(&path(id), json!({"fields": {"n": n.to_string()}})).await
}

async fn get(client: &Client, id: &str) -> Answer {
    client.get(&path(id)).await
}

async fn status(client: &Client) -> Value {
    client.get("/admin/database/status").await.expect(200)["data"].take()
}

async fn in_force(client: &Client) -> Value {
    status(client).await["active"]["name"].take()
}

pub async fn until_in_force(client: &Client, name: &str) {
    client.until(&format!("{name} in force"), async |client| in_force(client).await == name).await;
}

async fn until_mode(client: &Client, mode: &str) {
    client.until(&format!("mode {mode}"), async |client| status(client).await["mode"] == mode).await;
}

/// An answer that is not "not now", or the one after a minute.
async fn eventually(client: &Client, id: &str) -> Answer {
    client.until("an answer", async |client| get(client, id).await.status != 503).await;
    get(client, id).await
}

/// Reads through each store alone what was written.
async fn in_both_stores(client: &Client, written: &[(String, u64)]) {
    for strategy in ["redis_only", "postgres_only"] {
        let report = client.activate(strategy).await;
        assert_eq!(report["caught_up"].get("incomplete"), None, "{report}");
        for (id, n) in written {
            let read = eventually(client, id).await.expect(200);
            assert_eq!(read["fields"]["n"], n.to_string(), "{id} through {strategy}");
        }
    }
}

async fn activate(client: &Client, name: &str, body: Value) -> Answer {
    client.post(&format!("/admin/strategies/{name}/activate"), body).await
}

async fn unpin(client: &Client) -> Answer {
    client.send(Method::DELETE, "/admin/database/pin", &[], Body::None).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_postgres_redis_takes_over_and_syncs_each_write_until_it_is_back() {
    let mut servers = Servers::start();
    let (_node, client) = servers.node("a", &[]).await;
    assert_eq!(servers.appendfsync().await, "everysec");
    put(&client, "before", 1).await.expect(200);
    servers.postgres.kill();
    until_in_force(&client, "redis_only").await;
    let now = status(&client).await;
    assert_eq!((&now["mode"], &now["chosen"]["name"]), (&json!("postgres-lost"), &json!("dual_write")));
    assert!(now["cause"].as_str().is_some_and(|cause| cause.contains("PostgreSQL is lost")), "{now}");
    let listed = async |client: &Client| !status(client).await["transitions"].as_array().unwrap().is_empty();
    client.until("the transition is listed", listed).await;
    let transition = &status(&client).await["transitions"][0];
    assert_eq!((&transition["from"], &transition["to"]), (&json!("dual_write@1"), &json!("redis_only@2")));

    let mut written = vec![("before".to_owned(), 1)];
    for n in 0..50 {
        let answer = put(&client, &format!("r{n}"), n).await.expect(200);
        assert_eq!(answer["durability"], "redis");
        written.push((format!("r{n}"), n));
    }
    assert_eq!((servers.appendfsync().await.as_str(), servers.epoch().await), ("always", 1));

    servers.postgres.restart();
    until_in_force(&client, "dual_write").await;
    client.until("normal", async |client| status(client).await["mode"] == "normal").await;
    assert_eq!((servers.appendfsync().await.as_str(), servers.epoch().await), ("everysec", 2));
    assert_eq!(put(&client, "after", 9).await.expect(200)["durability"], "both");
    written.push(("after".to_owned(), 9));
    let events = client.get("/admin/strategies/events").await.expect(200);
    let by_health = events["events"].as_array().unwrap().iter().filter(|event| event["by"] == "health");
    assert_eq!(by_health.count(), 2, "{events}");
    in_both_stores(&client, &written).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_postgres_takes_over_until_it_is_back() {
    let mut servers = Servers::start();
    let (_node, client) = servers.node("a", &[]).await;
    put(&client, "before", 1).await.expect(200);
    servers.redis.kill();
    until_in_force(&client, "postgres_only").await;
    let now = status(&client).await;
    assert_eq!((&now["mode"], &now["chosen"]["name"]), (&json!("redis-lost"), &json!("dual_write")));
    let mut written = vec![("before".to_owned(), 1)];
    for n in 0..50 {
        assert_eq!(put(&client, &format!("r{n}"), n).await.expect(200)["durability"], "postgres");
        written.push((format!("r{n}"), n));
    }
    servers.redis.restart();
    until_in_force(&client, "dual_write").await;
    let drains = async |client: &Client| {
        let events = client.get("/admin/strategies/events").await.expect(200)["events"].take();
        let by_health = events.as_array().expect("events").iter().filter(|event| event["by"] == "health");
        by_health.map(|event| event["detail"].as_str().expect("a text").to_owned()).collect::<Vec<_>>()
    };
    client.until("both switches are listed", async |client| drains(client).await.len() == 2).await;
    let drains = drains(&client).await;
    assert!(drains.iter().all(|detail| detail.contains(", drained after")), "{drains:?}");
    // Losing Redis is a node's own matter.
    assert_eq!(servers.epoch().await, 0);
    in_both_stores(&client, &written).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_both_nothing_is_acknowledged_and_nothing_switches() {
    let mut servers = Servers::start();
    let (_node, client) = servers.node("a", &[]).await;
    put(&client, "before", 1).await.expect(200);
    servers.redis.pause();
    servers.postgres.pause();
    until_mode(&client, "both-lost").await;
    let refused = put(&client, "meanwhile", 2).await;
    assert!(refused.header("retry-after").is_some());
    assert_eq!(refused.expect(503)["code"], "store-unavailable");
    let strategy = in_force(&client).await;
    servers.redis.resume();
    servers.postgres.resume();
    until_mode(&client, "normal").await;
    until_in_force(&client, "dual_write").await;
    assert!(["dual_write", "postgres_only"].contains(&strategy.as_str().unwrap()), "{strategy}");
    put(&client, "after", 3).await.expect(200);
    in_both_stores(&client, &[("before".into(), 1), ("after".into(), 3)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strategy_that_uses_redis_alone_makes_it_sync_each_write() {
    let mut servers = Servers::start();
    let (_node, client) = servers.node("a", &[]).await;
    client.activate("redis_only").await;
    assert_eq!(servers.appendfsync().await, "always");
    assert_eq!(put(&client, "a", 1).await.expect(200)["durability"], "redis");
    // Its settings are those of its file again.
    servers.redis.restart();
    client.until("a write", async |client| put(client, "a", 2).await.body["durability"] == "redis").await;
    assert_eq!(servers.appendfsync().await, "always");
    client.activate("dual_write").await;
    let restored = async |_: &Client| servers.appendfsync().await == "everysec";
    client.until("Redis syncs as before", restored).await;
}

/// Both stores are lost in turn, but not at once: what one had alone was carried over in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_read_again_when_postgres_is_lost_soon_after_its_return() {
    let mut servers = Servers::start();
    let (_node, client) = servers.node("a", &[]).await;
    let (_other, other) = servers.node("b", &[]).await;
    put(&client, "before", 1).await.expect(200);
    servers.redis.pause();
    until_in_force(&client, "postgres_only").await;
    until_in_force(&other, "postgres_only").await;
    assert_eq!(put(&other, "meanwhile", 2).await.expect(200)["durability"], "postgres");
    servers.redis.resume();
    // Before the chosen strategy is back.
    let carried_over = async |client: &Client| {
        let stores = status(client).await["stores"].take();
        let stores = stores.as_array().cloned().unwrap_or_default();
        stores.len() == 2
            && stores.iter().all(|store| store["up"] == true && store["backlog"]["records"] == 0)
            && stores.iter().all(|store| store["lags"] == false)
    };
    for client in [&client, &other] {
        // Each has to see for itself that Redis has everything: without PostgreSQL it cannot any more.
        client.until("nothing waits", carried_over).await;
        assert_eq!(in_force(client).await, "postgres_only");
    }
    servers.postgres.kill();
    for client in [&client, &other] {
        until_in_force(client, "redis_only").await;
        for (id, n) in [("before", "1"), ("meanwhile", "2")] {
            assert_eq!(eventually(client, id).await.expect(200)["fields"]["n"], n, "{id}");
        }
    }
}
