//! Usage that one store lacks after an outage.

use serde_json::json;

use super::{Servers, status, until_in_force, until_mode};

/// Each key has windows of its own, so that a few hundred keys make one batch long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_back_after_an_outage_in_which_many_keys_were_used() {
    let mut servers = Servers::start();
    let (_node, client) = servers.node("a", &[]).await;
    servers.redis.kill();
    until_in_force(&client, "postgres_only").await;
    let event = |n| {
        let at = "2026-01-31T12:00:00Z";
        json!({ "id": format!("e{n}"), "key_id": format!("k{n}"), "account_id": "a", "model": "m", "at": at })
    };
    let events: Vec<_> = (0..200).map(event).collect();
    let counted = client.post("/store/v1/usage", json!({ "events": events })).await.expect(200);
    assert_eq!(counted, json!({ "recorded": 200, "duplicates": 0, "durability": "postgres" }));
    servers.redis.start_again();
    until_mode(&client, "normal").await;
    until_in_force(&client, "dual_write").await;
    client.activate("redis_only").await;
    for key in ["k0", "k199"] {
        let total = client.get(&format!("/store/v1/usage/{key}?window=total")).await.expect(200);
        assert_eq!(total["requests"], 1, "{key}: {}", status(&client).await);
    }
}
