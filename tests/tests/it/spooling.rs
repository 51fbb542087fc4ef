//! Usage events while no store takes them.

use serde_json::{Value, json};
use switchyard_tests::host::{Answer, Client};
use switchyard_tests::servers::{Postgres, Redis, Switchyard};

fn event(id: &str) -> Value {
    json!({ "id": id, "key_id": "k", "model": "m", "at": "2026-01-31T12:00:00Z", "input_tokens": 5 })
}

async fn count(client: &Client, ids: &[String]) -> Answer {
    let events: Vec<_> = ids.iter().map(|id| event(id)).collect();
    client.post("/store/v1/usage", json!({ "events": events })).await
}

fn batch(name: &str) -> Vec<String> {
    (0..10).map(|n| format!("{name}-{n}")).collect()
}

async fn spooled(client: &Client) -> u64 {
    let metrics = client.get("/metrics").await.body;
    let line = metrics
        .as_str()
        .and_then(|text| text.lines().find_map(|line| line.strip_prefix("switchyard_spooled_usage_events ")));
    line.expect("the metric").parse().expect("a number")
}

/// The totals as one store alone has them.
async fn requests(client: &Client, strategy: &str) -> Value {
    client.activate(strategy).await;
    let asked = "/store/v1/usage/k?window=total";
    client.until("totals", async |client| client.get(asked).await.status == 200).await;
    client.get(asked).await.expect(200)["requests"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_event_is_counted_once_after_a_crash_without_stores() {
    let mut redis = Redis::start_with(&["--appendfsync", "always"]);
    let mut postgres = Postgres::start();
    let mut node = Switchyard::start(&["--redis-url", &redis.url(), "--postgres-url", &postgres.url()]);
    let client = node.client();
    client.until_ready().await;
    let both = count(&client, &batch("before")).await.expect(200);
    assert_eq!(both, json!({ "recorded": 10, "duplicates": 0, "durability": "both" }));
    redis.kill();
    postgres.kill();

    let mut acknowledged = batch("before");
    for round in 0..3 {
        for n in 0..5 {
            let ids = batch(&format!("{round}-{n}"));
            let answer = count(&client, &ids).await.expect(200);
            assert_eq!(answer, json!({ "recorded": 10, "duplicates": 0, "durability": "local" }));
            acknowledged.extend(ids);
        }
        // A batch that was acknowledged already is kept again, and counts once.
        count(&client, &batch(&format!("{round}-0"))).await.expect(200);
        let record = client.put("/store/v1/records/account/a", json!({ "fields": {} })).await;
        assert!(record.header("retry-after").is_some(), "{:?}", record.headers);
        record.expect(503);
        assert_eq!(spooled(&client).await, 60 * (round + 1));
        node.kill();
        node.start_again();
    }
    assert_eq!(spooled(&client).await, 180);
    redis.restart();
    postgres.restart();
    client.until("the spool is empty", async |client| spooled(client).await == 0).await;
    let all = json!(acknowledged.len());
    for strategy in ["redis_only", "postgres_only"] {
        assert_eq!(requests(&client, strategy).await, all, "{strategy}");
    }
    assert_eq!(std::fs::read_dir(node.data().join("spool")).expect("the folder").count(), 0);
    let again = count(&client, &acknowledged).await.expect(200);
    assert_eq!(again["recorded"], 0, "{again}");
}
