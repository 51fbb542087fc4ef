//! What an admin's long work refuses.

use reqwest::Method;
use serde_json::json;
use switchyard_tests::host::{Behind, Body, Host};

use super::{finish, on_filled};

#[tokio::test]
async fn a_sync_needs_two_different_stores() {
    let host = Host::start(Behind::Embedded, &[]).await;
    for (pair, code) in [
        ("redis-to-redis", "same-store"),
        ("postgres-to-postgres", "same-store"),
        ("redis-to-mysql", "unknown-pair"),
        ("%ff", "unknown-pair"),
    ] {
        let answer = host.client.post(&format!("/admin/database/sync/{pair}"), json!({})).await;
        let refused = answer.expect(400);
        assert_eq!((&refused["code"], &refused["success"]), (&json!(code), &json!(false)), "{pair}");
    }
    let listed = host.client.get("/admin/operations").await.expect(200);
    assert_eq!(listed["operations"], json!([]));
    host.client.get("/admin/operations/none").await.expect(404);
    host.client.delete("/admin/operations/none").await.expect(404);
    host.client.get("/admin/operations/none/events").await.expect(404);
    host.client.get("/admin/database/consistency-check?deep=maybe").await.expect(400);
    host.client.get("/admin/database/consistency-check?depth=1").await.expect(400);
    host.client.post("/admin/database/consistency-fix", json!({"dry": true})).await.expect(400);
    host.stop().await;
}

#[tokio::test]
async fn a_store_that_is_off_takes_part_in_nothing() {
    let host = Host::start(Behind::Embedded, &["--redis-url", "off", "--strategy", "postgres_only"]).await;
    for pair in ["redis-to-postgres", "postgres-to-redis"] {
        let answer = host.client.post(&format!("/admin/database/sync/{pair}"), json!({})).await;
        assert_eq!(answer.expect(409)["code"], "store-off");
    }
    assert_eq!(host.client.get("/admin/database/consistency-check").await.expect(409)["code"], "store-off");
    let cleared = host.client.post("/admin/database/cache/clear", json!({})).await.expect(200);
    assert_eq!(cleared["data"]["clearedKeys"], 0);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_operation_runs_at_a_time_and_a_cancelled_one_stays_so() {
    let (host, _database) = on_filled(3_000, false).await;
    let client = &host.client;
    let begun = client.post("/admin/database/sync/redis-to-postgres", json!({})).await;
    let running = begun.expect(202)["data"].clone();
    let id = running["id"].as_str().unwrap();
    let sync = client.post("/admin/database/sync/postgres-to-redis", json!({})).await.expect(409);
    let check = client.get("/admin/database/consistency-check").await.expect(409);
    for refused in [sync, check] {
        assert_eq!(refused["code"], "operation-running");
        assert!(refused["detail"].as_str().unwrap().contains(id), "{refused}");
    }
    let path = format!("/admin/operations/{id}");
    let cancelled = client.delete(&path).await.expect(200);
    assert_eq!(cancelled["state"], "cancelled", "{cancelled}");
    assert_eq!(client.delete(&path).await.expect(200), cancelled);
    assert_eq!(client.get(&path).await.expect(200), cancelled);
    // The stream of one that has ended tells its end at once.
    let events = client.send(Method::GET, &format!("{path}/events"), &[], Body::None).await;
    let text = events.body.as_str().unwrap().to_owned();
    assert!(text.starts_with("event: end\ndata: {") && text.contains("\"cancelled\""), "{text}");
    // The next one may begin.
    let next = finish(client, Method::POST, "/admin/database/sync/redis-to-postgres", json!({})).await;
    assert_eq!(next["state"], "done");
    let listed = client.get("/admin/operations").await.expect(200)["operations"].clone();
    assert_eq!((&listed[0]["id"], &listed[1]["id"]), (&next["id"], &running["id"]), "{listed}");
    host.stop().await;
}
