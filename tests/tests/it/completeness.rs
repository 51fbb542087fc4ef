//! A missing record is absent only where every record is.

use serde_json::json;
use switchyard_tests::host::{Behind, Host};

/// What `FLUSHALL` by somebody's hand does to a server that goes on serving.
#[tokio::test]
async fn a_redis_that_lost_its_data_denies_nothing_and_is_filled_again() {
    let host = Host::start(Behind::RealServers, &[]).await;
    let client = &host.client;
    let event =
        json!({"id": "e", "key_id": "k", "model": "m", "at": "2026-01-02T03:04:05Z", "input_tokens": 1});
    client.post("/store/v1/usage", json!({"events": [event]})).await.expect(200);
    client.put("/store/v1/records/account/kept", json!({"fields": {"n": "1"}})).await.expect(200);

    let server = redis::Client::open(host.redis.as_ref().unwrap().url()).unwrap();
    let mut connection = server.get_multiplexed_async_connection().await.unwrap();
    redis::cmd("FLUSHALL").query_async::<()>(&mut connection).await.unwrap();

    client.get("/store/v1/records/account/kept").await.expect(200);
    assert_eq!(client.get("/store/v1/usage/k?window=total").await.expect(200)["requests"], 1);

    let filled = async |_: &_| {
        redis::cmd("EXISTS")
            .arg("claude_console_account:kept")
            .query_async::<bool>(&mut connection.clone())
            .await
            .unwrap()
    };
    client.until("Redis has the record again", filled).await;
    client.activate("redis_only").await;
    client
        .until("Redis answers alone", async |client| {
            client.get("/store/v1/records/account/none").await.status == 404
        })
        .await;
    client.get("/store/v1/records/account/kept").await.expect(200);
    // It has lost what it had counted: that is unknown, not zero, until it has counted every event anew.
    let counted = async |client: &switchyard_tests::host::Client| {
        let total = client.get("/store/v1/usage/k?window=total").await;
        assert!(total.status == 503 || total.body["requests"] == 1, "{}", total.body);
        total.status == 200
    };
    client.until("Redis has counted anew", counted).await;
    host.stop().await;
}

#[tokio::test]
async fn two_fresh_stores_are_complete_without_a_copy() {
    let host = Host::start(Behind::RealServers, &["--database-sync-on-startup", "false"]).await;
    host.client
        .until("absent", async |client| client.get("/store/v1/records/account/none").await.status == 404)
        .await;
    assert_eq!(host.client.get("/store/v1/usage/none?window=total").await.expect(200)["requests"], 0);
    host.stop().await;
}

/// With one store switched off nothing is owed to it, and what it would hold is not waited for.
#[tokio::test]
async fn a_store_that_is_switched_off_is_owed_nothing() {
    let flags = ["--redis-url", "off", "--strategy", "postgres_only"];
    let host = Host::start(Behind::Embedded, &flags).await;
    let client = &host.client;
    let put = client.put("/store/v1/records/account/a", json!({"fields": {"n": "1"}})).await.expect(200);
    assert_eq!(put["durability"], "postgres");
    client.get("/store/v1/records/account/none").await.expect(404);
    let refused = client.post("/admin/strategies/dual_write/activate", json!({})).await;
    assert_eq!(refused.expect(422)["code"], "store-not-configured");
    // The next probe counts again.
    let probed = async |client: &switchyard_tests::host::Client| {
        client
            .get("/metrics")
            .await
            .body
            .as_str()
            .is_some_and(|text| text.contains("switchyard_postgres_up 1"))
    };
    client.until("probed", probed).await;
    let stores = client.get("/readyz").await.expect(200)["stores"].clone();
    assert_eq!(stores[0]["backlog"], json!({"records": 0, "usage": 0}), "{stores}");
    host.stop().await;
}

/// A key that Claude Relay Service made while Switchyard was stopped, after both stores were complete.
#[tokio::test]
async fn a_foreign_record_reaches_every_strategy_whenever_it_appeared() {
    let host = Host::start(Behind::RealServers, &[]).await;
    let postgres = host.postgres_url();
    let (data, redis) = host.stop_all().await;
    let server = redis::Client::open(redis.url()).unwrap();
    let mut connection = server.get_multiplexed_async_connection().await.unwrap();
    let fields = [("id", "new"), ("name", "n"), ("apiKey", "h"), ("isActive", "true")];
    redis::cmd("HSET").arg("apikey:new").arg(&fields[..]).exec_async(&mut connection).await.unwrap();
    redis::cmd("HSET").arg(&["apikey:hash_map", "h", "new"]).exec_async(&mut connection).await.unwrap();
    redis::cmd("HSET").arg(&["session:s", "user", "u"]).exec_async(&mut connection).await.unwrap();
    redis::cmd("PEXPIRE").arg("session:s").arg(3_600_000).exec_async(&mut connection).await.unwrap();

    let (redis_url, postgres) = (redis.url(), postgres.unwrap());
    let flags = ["--redis-url", &redis_url, "--postgres-url", &postgres];
    let host = Host::start_in(data, Some(redis), &flags).await;
    let client = &host.client;
    client.activate("postgres_only").await;
    let known = async |client: &switchyard_tests::host::Client| {
        client.get("/store/v1/records/session/s").await.status == 200
    };
    client.until("PostgreSQL has it", known).await;
    for strategy in ["postgres_only", "database_first", "dual_write", "cache_first", "redis_only"] {
        client.activate(strategy).await;
        let record = client.get("/store/v1/records/api_key/new").await.expect(200);
        assert_eq!(
            record["fields"],
            json!({"id": "new", "name": "n", "apiKey": "h", "isActive": "true"}),
            "{strategy}"
        );
        client.get("/store/v1/records/api_key?index=hash&value=h").await.expect(200);
        let listed = client.get("/store/v1/records/api_key").await.expect(200);
        assert_eq!(listed["records"].as_array().map(Vec::len), Some(1), "{strategy}");
        let session = client.get("/store/v1/records/session/s").await.expect(200);
        assert!(session["expires_at"].is_string(), "{strategy}: {session}");
    }
    host.stop().await;
}

/// What a node left in one store during an outage follows by itself, even where looking for marks is off.
#[tokio::test]
async fn what_was_owed_during_an_outage_follows_without_another_write() {
    let mut host = Host::start(Behind::RealServers, &["--database-sync-enabled", "false"]).await;
    host.redis.as_mut().unwrap().kill();
    let put = host.client.put("/store/v1/records/account/late", json!({"fields": {"n": "1"}})).await;
    assert_eq!(put.expect(200)["durability"], "postgres");
    // The drain has tried, in vain, by the time that two probes have found Redis away.
    let away = async |client: &switchyard_tests::host::Client| {
        let stores = client.get("/healthz").await.body["stores"].clone();
        stores[0]["up"] == false && stores[1]["backlog"]["records"] == 1
    };
    host.client.until("Redis is known to be away", away).await;
    host.redis.as_mut().unwrap().restart();
    let server = redis::Client::open(host.redis.as_ref().unwrap().url()).unwrap();
    let connection = server.get_multiplexed_async_connection().await.unwrap();
    let followed = async |_: &_| {
        let mut connection = connection.clone();
        let mut exists = redis::cmd("EXISTS");
        exists.arg("claude_console_account:late");
        exists.query_async::<bool>(&mut connection).await.unwrap_or(false)
    };
    host.client.until("Redis has it", followed).await;
    host.stop().await;
}

/// A search that Redis cannot answer leaves there what PostgreSQL found.
#[tokio::test]
async fn what_a_search_misses_in_redis_is_put_there() {
    let host = Host::start(Behind::RealServers, &["--near-cache-mib", "0"]).await;
    let client = &host.client;
    let server = redis::Client::open(host.redis.as_ref().unwrap().url()).unwrap();
    let mut connection = server.get_multiplexed_async_connection().await.unwrap();
    for strategy in ["dual_write", "cache_first"] {
        client.activate("dual_write").await;
        let (id, hash) = (format!("key-{strategy}"), format!("hash-{strategy}"));
        let path = format!("/store/v1/records/api_key/{id}");
        let written = client.put(&path, json!({"fields": {"apiKey": hash, "n": "1"}})).await.expect(200);
        assert_eq!(written["durability"], "both");
        client.activate(strategy).await;
        let mut lost = redis::pipe();
        lost.del(format!("apikey:{id}")).hdel("apikey:hash_map", &hash);
        lost.exec_async(&mut connection).await.unwrap();
        let found = client.get(&format!("/store/v1/records/api_key?index=hash&value={hash}")).await;
        assert_eq!(found.expect(200)["id"], id, "{strategy}");
        let mut held = redis::pipe();
        held.hget(format!("apikey:{id}"), "n").hget("apikey:hash_map", &hash);
        let held: (Option<String>, Option<String>) = held.query_async(&mut connection).await.unwrap();
        assert_eq!(held, (Some("1".to_owned()), Some(id)), "{strategy}");
    }
    host.stop().await;
}
