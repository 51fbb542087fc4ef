//! Counters after a loss: unknown for a while, and then exact.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use switchyard_tests::host::Client;

use super::Stage;

const TOTAL: &str = "/store/v1/usage/k?window=total";

async fn until_complete(stage: &Stage) {
    let mut ask = redis::cmd("SISMEMBER");
    ask.arg("switchyard:complete").arg("usage");
    let complete = async |_: &Client| stage.in_redis(&ask).await == 1;
    stage.client.until("Redis has counted anew", complete).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flushed_redis_counts_anew_and_both_stores_agree() {
    let stage = Stage::start(&[]).await;
    let (ended, client) = (Arc::new(AtomicBool::new(false)), stage.client.clone());
    let writer = tokio::spawn({
        let ended = ended.clone();
        async move {
            let mut counted = 0_u64;
            while !ended.load(Ordering::Acquire) {
                let events: Vec<_> = (0..5)
                    .map(|n| {
                        json!({"id": format!("e{counted}-{n}"), "key_id": "k", "model": "m",
                            "at": "2026-01-02T03:04:05Z", "input_tokens": 3})
                    })
                    .collect();
                let body = json!({"events": events});
                // Until it is acknowledged: a repetition counts once.
                while client.post("/store/v1/usage", body.clone()).await.status != 200 {}
                counted += 5;
            }
            counted
        }
    });
    let some = async |client: &Client| client.get(TOTAL).await.body["requests"].as_u64() > Some(100);
    stage.client.until("some are counted", some).await;
    let server = redis::Client::open(stage.redis.url()).expect("a URL");
    let mut connection = server.get_multiplexed_async_connection().await.expect("a connection");
    redis::cmd("FLUSHALL").exec_async(&mut connection).await.expect("flushed");
    stage.until_whole(1).await;
    until_complete(&stage).await;
    ended.store(true, Ordering::Release);
    let counted = writer.await.expect("the writer");
    for strategy in ["redis_only", "postgres_only"] {
        stage.client.activate(strategy).await;
        let read = async |client: &Client| client.get(TOTAL).await.status == 200;
        stage.client.until("the totals are known", read).await;
        let total = stage.client.get(TOTAL).await.expect(200);
        assert_eq!(
            (&total["requests"], &total["input_tokens"]),
            (&json!(counted), &json!(3 * counted)),
            "{strategy}"
        );
    }
    stage.host.stop().await;
}

/// As it is when the node that counted anew was cut off from PostgreSQL, or killed, in the middle.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counting_anew_goes_on_when_postgres_is_back() {
    let mut stage = Stage::start(&[]).await;
    let events = json!({"events": [{"id": "e", "key_id": "k", "model": "m", "at": "2026-01-02T03:04:05Z",
        "input_tokens": 3}]});
    stage.client.post("/store/v1/usage", events).await.expect(200);
    until_complete(&stage).await;
    stage.postgres.kill();
    crate::degrading::until_in_force(&stage.client, "redis_only").await;
    for (command, key, field) in
        [("SREM", "switchyard:complete", "usage"), ("HDEL", "usage:k", "totalInputTokens")]
    {
        assert_eq!(stage.in_redis(redis::cmd(command).arg(key).arg(field)).await, 1, "{command}");
    }
    stage.postgres.restart();
    until_complete(&stage).await;
    let counted = async |client: &Client| client.get(TOTAL).await.body["input_tokens"] == 3;
    stage.client.until("the total is whole again", counted).await;
    stage.host.stop().await;
}
