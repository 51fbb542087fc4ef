//! A store whose clock is wrong, beside one that agrees with the node.

use serde_json::{Value, json};
use switchyard_tests::host::Client;
use switchyard_tests::servers::{Postgres, Redis, Setup};
use switchyard_tests::shim::Shim;

use super::{Shared, activate, soon};

async fn health(client: &Client) -> Value {
    client.get("/healthz").await.expect(200)
}

async fn names_redis(client: &Client) -> bool {
    health(client).await["clock"].as_str().is_some_and(|clock| clock.contains("redis"))
}

async fn put(client: &Client, id: &str) -> Value {
    let fields = json!({ "fields": { "n": "1" } });
    client.put(&format!("/store/v1/records/account/{id}"), fields).await.expect(200)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_stores_wrong_clock_is_named_and_stops_nobody() {
    let shim = Shim::new();
    let redis = Redis::start_as(&Setup { environment: shim.environment(), ..Setup::default() });
    let shared = Shared { redis, postgres: Postgres::shared().database().await };
    let (a, b) = (shared.node("a", &[]).await, shared.node("b", &[]).await);
    let before = put(&a.client, "r").await["version"].as_u64();
    for off in [1_000, -600_000, 3_600_000] {
        shim.step_clock(off);
        for node in [&a, &b] {
            soon("the store is named", async || names_redis(&node.client).await).await;
            let health = health(&node.client).await;
            assert_eq!(health["status"], "degraded", "{health}");
            let written = put(&node.client, "r").await;
            // The store's clock is in no version.
            let ahead = written["version"].as_u64().zip(before).map(|(now, before)| now - before);
            assert!(ahead.is_some_and(|micros| micros < 60_000_000), "{written} {before:?}");
        }
        shim.step_clock(0);
        for node in [&a, &b] {
            soon("both agree", async || health(&node.client).await["clock"].is_null()).await;
        }
    }
    shim.step_clock(1_000);
    activate(&a.client, "postgres_only").await;
    soon("the store is named", async || names_redis(&a.client).await).await;
    put(&a.client, "s").await;
    a.stop().await;
    b.stop().await;
}
