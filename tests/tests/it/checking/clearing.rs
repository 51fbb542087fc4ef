//! Clearing the cache clears copies; connections are opened anew.

use serde_json::json;
use switchyard_tests::host::{Behind, Client, Host};
use switchyard_tests::relay_database::RelayDatabase;

use super::settled;

#[tokio::test]
async fn clearing_the_cache_never_takes_an_only_copy() {
    let host = Host::start(Behind::RealServers, &["--database-sync-on-startup", "false"]).await;
    let client = &host.client;
    let put = async |path: &str| {
        client.put(&format!("/store/v1/records/{path}"), json!({"fields": {"n": "1"}})).await.expect(200);
    };
    put("session/both").await;
    put("account/whole").await;
    put("session/other").await;
    settled(client).await;
    let database = RelayDatabase::open(&host.redis.as_ref().unwrap().url()).await;
    // Clean by its mark, and yet PostgreSQL has never had it.
    database.ask::<redis::Value>(&["HSET", "session:unknown", "_version", "7", "n", "1"]).await;
    database.ask::<redis::Value>(&["ZADD", "switchyard:ids:session", "0", "unknown"]).await;

    let there = async |key: &str| database.ask::<bool>(&["EXISTS", key]).await;
    let clear = async |body| client.post("/admin/database/cache/clear", body).await.expect(200);
    // A copy is one as soon as both stores are known to have it.
    let by_pattern = async |_: &Client| {
        let cleared = clear(json!({ "pattern": "session:oth*" })).await;
        assert_eq!(
            (&cleared["success"], &cleared["clearedKeys"]),
            (&json!(true), &cleared["data"]["clearedKeys"])
        );
        cleared["clearedKeys"] == 1
    };
    client.until("one is cleared by its key", by_pattern).await;
    assert!(there("session:both").await && !there("session:other").await);
    let whole = async |_: &Client| clear(json!({})).await["data"]["clearedKeys"].as_u64().unwrap() >= 1;
    client.until("the rest is cleared", whole).await;
    assert!(!there("session:both").await);
    for kept in ["session:unknown", "claude_console_account:whole"] {
        assert!(there(kept).await, "{kept}");
    }
    // What Redis no longer has is in PostgreSQL.
    client.get("/store/v1/records/session/both").await.expect(200);
    host.stop().await;
}

#[tokio::test]
async fn clearing_the_cache_takes_nothing_out_of_service_where_redis_alone_is_read() {
    let host = Host::start(Behind::RealServers, &[]).await;
    let client = &host.client;
    let path = "/store/v1/records/session/s";
    client.put(path, json!({"fields": {"n": "1"}})).await.expect(200);
    settled(client).await;
    client.activate("redis_only").await;
    client.get(path).await.expect(200);
    let cleared = client.post("/admin/database/cache/clear", json!({})).await.expect(200);
    let message = cleared["message"].as_str().unwrap_or_default();
    assert!(message.contains("does not read PostgreSQL"), "{cleared}");
    client.get(path).await.expect(200);
    host.stop().await;
}

#[tokio::test]
async fn connections_are_opened_anew_and_the_answer_waits_for_them() {
    let host = Host::start(Behind::RealServers, &[]).await;
    let client = &host.client;
    client.put("/store/v1/records/account/a", json!({"fields": {"n": "1"}})).await.expect(200);
    let database = RelayDatabase::open(&host.redis.as_ref().unwrap().url()).await;
    let connections = async || {
        let list: String = database.ask(&["CLIENT", "LIST"]).await;
        let ids = list.lines().filter_map(|line| line.split_whitespace().next());
        ids.map(str::to_owned).collect::<std::collections::BTreeSet<_>>()
    };
    let well = async |client: &Client| client.get("/healthz").await.body["status"] == "healthy";
    client.until("both stores are compared", well).await;
    let before = connections().await;
    let answer = client.post("/admin/database/reconnect", json!({})).await.expect(200);
    assert_eq!(answer["data"]["health"]["status"], "healthy", "{answer}");
    client.get("/store/v1/records/account/a").await.expect(200);
    // Of those before, only ours stays.
    assert_eq!(before.intersection(&connections().await).count(), 1);
    host.stop().await;
}
