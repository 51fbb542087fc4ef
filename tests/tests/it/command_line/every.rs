//! Every command against two nodes on one Redis and one PostgreSQL.

use serde_json::Value;
use switchyard_tests::host::{Client, Host};
use switchyard_tests::relay_database::RelayDatabase;
use switchyard_tests::servers::{Postgres, Redis};

use super::program::run;

const SYNC: [&str; 6] = ["sync", "--force", "--source", "redis", "--target", "postgres"];
const BACK: [&str; 6] = ["sync", "--force", "--source", "postgres", "--target", "redis"];

async fn node(redis: &Redis, postgres: &str, id: &str) -> Host {
    let url = redis.url();
    let flags = ["--node-id", id, "--redis-url", &url, "--postgres-url", postgres];
    Host::start_in(tempfile::tempdir().expect("a folder"), None, &flags).await
}

/// Waits until both nodes know of each other and nothing is owed.
async fn until_calm(client: &Client) {
    let calm = async |client: &Client| {
        let status = client.get("/admin/database/status").await.expect(200)["data"].take();
        let owed = |store: &Value| store["backlog"]["records"] != 0 || store["backlog"]["usage"] != 0;
        let in_force = |node: &Value| node["state"] == "in-force";
        let (nodes, stores) = (status["nodes"].as_array(), status["stores"].as_array());
        status["health"]["status"] == "healthy"
            && nodes.is_some_and(|nodes| nodes.len() == 2 && nodes.iter().all(in_force))
            && stores.is_some_and(|stores| !stores.iter().any(owed))
    };
    client.until("two nodes that are calm", calm).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_works_on_two_nodes() {
    let (redis, postgres) = (Redis::start(), Postgres::shared().database().await);
    let nodes = [node(&redis, &postgres, "a").await, node(&redis, &postgres, "b").await];
    let clients = [&nodes[0].client, &nodes[1].client];
    for n in 0..20 {
        for kind in ["account", "session"] {
            let body = serde_json::json!({ "fields": { "n": n.to_string() } });
            clients[n % 2].put(&format!("/store/v1/records/{kind}/{n}"), body).await.expect(200);
        }
    }
    until_calm(clients[0]).await;
    until_calm(clients[1]).await;
    let urls = [&*clients[0].base, &*clients[1].base];
    look(urls[0]).await;
    work(urls, &redis).await;
    switch(urls).await;
    for node in nodes {
        node.stop().await;
    }
}

/// What changes nothing.
async fn look(url: &str) {
    run(url, &["health"]).await.with(0).says(&["healthy", "dual_write in force", "of 2 nodes", " up "]);
    run(url, &["health", "--verbose"]).await.with(0).says(&["P99", "in-force"]);
    let health = run(url, &["health", "--json"]).await.with(0).json();
    assert_eq!(health["databases"], serde_json::json!({ "redis": true, "postgres": true }));
    run(url, &["metrics"]).await.with(0).says(&["Up for", "Near cache", "redis", "postgres", "P95"]);
    run(url, &["nodes"]).await.with(0).says(&["NODE", "a ", "b ", "in-force"]);
    run(url, &["conflicts"]).await.with(0).says(&["No conflicts."]);
    run(url, &["operation", "list"]).await.with(0).says(&["No operations."]);
    run(url, &["strategy", "list"]).await.with(0).says(&["ACTIVE", "cache_first", "built in"]);
    run(url, &["strategy", "events"]).await.with(0);
}

/// Sync, check, repair, the list of them, and the cache. Begun on one node and seen on the other.
async fn work(urls: [&str; 2], redis: &Redis) {
    run(urls[0], &SYNC).await.with(0).says(&["sync redis to postgres: done, 40 of 40 records"]);
    run(urls[1], &BACK).await.with(0).says(&["sync postgres to redis: done, 40 of 40 records"]);
    run(urls[0], &["check-consistency"]).await.with(0).says(&["Consistent: 40 records compared"]);
    run(urls[1], &["check-consistency", "--deep"]).await.with(0).says(&["check (deep): done"]);
    let database = RelayDatabase::open(&redis.url()).await;
    // Redis has lost a record and does not know it.
    database.ask::<redis::Value>(&["DEL", "claude_console_account:3"]).await;
    database.ask::<redis::Value>(&["ZREM", "switchyard:ids:account", "3"]).await;
    run(urls[0], &["check-consistency", "--deep"]).await.with(1).says(&["INCONSISTENT", "account/3"]);
    let fix = ["check-consistency", "--deep", "--fix", "--force"];
    run(urls[0], &fix).await.with(0).says(&["Would repair 1", "Repaired 1; 0 need a person"]);
    run(urls[1], &["check-consistency"]).await.with(0).says(&["Consistent"]);
    let listed = run(urls[1], &["operation", "list", "--json"]).await.with(0).json();
    let operations = listed["operations"].as_array().expect("a list");
    assert_eq!(operations.len(), 8, "{listed}");
    let sync = operations.last().and_then(|sync| sync["id"].as_str()).expect("the first sync");
    run(urls[1], &["operation", "show", sync]).await.with(0).says(&["on a", "Copied 0, unchanged 40"]);
    run(urls[1], &["operation", "cancel", sync]).await.with(0).says(&["done"]);
    let cleared = run(urls[0], &["clear-cache", "--force", "--pattern", "session:1?"]).await.with(0);
    cleared.says(&["10 copies in Redis are dropped"]);
    run(urls[1], &["clear-cache", "--force"]).await.with(0).says(&["10 copies in Redis are dropped"]);
}

/// Switches on one node, which the other follows.
async fn switch(urls: [&str; 2]) {
    let told = switched(urls[0], &["switch-strategy", "cache-first", "--force"]).await;
    assert!(told.contains("cache_first has taken over from dual_write"), "{told}");
    run(urls[1], &["health"]).await.says(&["cache_first in force"]);
    let pinned = ["strategy", "activate", "database_first", "--force", "--pin"];
    let told = switched(urls[1], &pinned).await;
    assert!(
        told.contains("database_first has taken over from cache_first") && told.contains("pinned"),
        "{told}"
    );
    run(urls[1], &["strategy", "unpin", "--force"]).await.with(0);
    let told = switched(urls[1], &["strategy", "rollback", "--force"]).await;
    assert!(told.contains("cache_first has taken over from database_first"), "{told}");
    let ran = run(urls[1], &["strategy", "events", "--limit", "5"]).await.with(0);
    ran.says(&["rolled-back", "cache_first"]);
}

/// What a switch said. A busy node may follow later than the answer waits for: that is a finding, and it passes.
async fn switched(url: &str, arguments: &[&str]) -> String {
    let ran = run(url, arguments).await;
    let waits = ran.stdout.contains("waiting");
    let told = ran.with(waits.into()).stdout;
    for _ in 0..120 {
        let nodes = run(url, &["nodes", "--json"]).await.with(0).json();
        if nodes.as_array().is_some_and(|nodes| nodes.iter().all(|node| node["state"] == "in-force")) {
            return told;
        }
        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
    }
    panic!("a node does not follow: {told}");
}
