//! Usage over HTTP.

use serde_json::{Value, json};
use switchyard_tests::host::{Behind, Host};

fn event(id: &str, tokens: Value) -> Value {
    json!({
        "id": id, "key_id": "k1", "model": "m", "at": "2026-01-31T12:00:00Z",
        "input_tokens": tokens, "cost_micro_usd": 7,
    })
}

#[tokio::test]
async fn each_event_counts_once_on_the_embedded_stores() {
    each_event_counts_once_in_every_window(Behind::Embedded).await;
}

#[tokio::test]
async fn each_event_counts_once_on_real_servers() {
    each_event_counts_once_in_every_window(Behind::RealServers).await;
}

async fn each_event_counts_once_in_every_window(behind: Behind) {
    let host = Host::start(behind, &[]).await;
    let batch = json!({ "events": [event("e1", json!(5)), event("e2", json!(6)), event("e1", json!(5))] });
    let counted = host.client.post("/store/v1/usage", batch.clone()).await.expect(200);
    assert_eq!(counted, json!({ "recorded": 2, "duplicates": 1, "durability": "both" }));
    let counted = host.client.post("/store/v1/usage", batch).await;
    assert_eq!(counted.header("x-switchyard-strategy"), Some("dual_write@1"));
    assert_eq!(counted.expect(200)["duplicates"], 3);
    for window in ["total", "monthly:2026-01", "daily:2026-01-31", "hourly:2026-01-31T12"] {
        let used = host.client.get(&format!("/store/v1/usage/k1?window={window}")).await.expect(200);
        assert_eq!(used["window"], window);
        let counts = (&used["requests"], &used["input_tokens"], &used["cost_micro_usd"]);
        assert_eq!(counts, (&json!(2), &json!(11), &json!(14)));
    }
    host.stop().await;
}

#[tokio::test]
async fn a_key_that_used_nothing_has_zeros() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let used = host.client.get("/store/v1/usage/nobody?window=daily:2026-01-31").await.expect(200);
    assert_eq!((&used["requests"], &used["output_tokens"]), (&json!(0), &json!(0)));
    for window in ["yesterday", "daily:2026-02-30", "daily:2026-1-1", "hourly:2026-01-31T24", "total:"] {
        let refused = host.client.get(&format!("/store/v1/usage/k1?window={window}")).await;
        assert_eq!(refused.expect(400)["code"], "invalid-window", "{window}");
    }
    host.stop().await;
}

#[tokio::test]
async fn a_wrong_event_is_named_and_nothing_of_its_batch_counts() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let wrong = [json!(-1), json!(0.5), json!("5"), json!(1_000_000_000_001_u64), json!(1e40)];
    for tokens in wrong {
        let batch = json!({ "events": [event("e1", json!(5)), event("e2", tokens.clone())] });
        let refused = host.client.post("/store/v1/usage", batch).await.expect(400);
        assert_eq!(refused["code"], "invalid-event", "{tokens}");
        assert!(refused["detail"].as_str().unwrap().contains("events[1].input_tokens"), "{refused}");
    }
    let used = host.client.get("/store/v1/usage/k1").await.expect(200);
    assert_eq!(used["requests"], 0);
    host.stop().await;
}

#[tokio::test]
async fn a_batch_has_one_to_a_thousand_events() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let batch = |count: u32| -> Value {
        json!({ "events": (0..count).map(|n| event(&format!("e{n}"), json!(1))).collect::<Vec<_>>() })
    };
    for count in [0, 1_001] {
        let refused = host.client.post("/store/v1/usage", batch(count)).await.expect(400);
        assert_eq!(refused["code"], "invalid-batch");
    }
    assert_eq!(host.client.post("/store/v1/usage", batch(1_000)).await.expect(200)["recorded"], 1_000);
    host.stop().await;
}
