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
    // It has not counted what was counted before: that is unknown, not zero.
    client.get("/store/v1/usage/k?window=total").await.expect(503);
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
