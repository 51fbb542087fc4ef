//! The admin API, on the embedded stores.

use reqwest::Method;
use serde_json::json;
use switchyard::engine::Digest;
use switchyard::server::Server;
use switchyard::strategy::catalogue::BUILT_IN;
use switchyard_tests::host::{Behind, Body, Client, Host, config};

fn component(name: &str) -> &'static [u8] {
    BUILT_IN.iter().find(|(built_in, _)| *built_in == name).unwrap().1
}

async fn upload(
    client: &Client,
    path: &str,
    headers: &[(&str, &str)],
    bytes: &[u8],
) -> (u16, serde_json::Value) {
    let answer = client.send(Method::PUT, path, headers, Body::Bytes(bytes.to_vec())).await;
    (answer.status.as_u16(), answer.body)
}

#[tokio::test]
async fn an_upload_is_idempotent_and_activates_only_when_asked() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let (bytes, path) = (component("redis_only"), "/admin/strategies/mine");
    let (status, report) = upload(&host.client, path, &[], bytes).await;
    assert_eq!((status, &report["created"]), (201, &json!(true)));
    assert_eq!(report["needs"], json!({ "redis": true, "postgres": false }));
    assert_eq!(report["digest"], Digest::of(bytes).to_string());
    let (status, report) = upload(&host.client, path, &[], bytes).await;
    assert_eq!((status, &report["created"]), (200, &json!(false)));
    assert_eq!(host.client.get("/admin/strategies").await.expect(200)["active"]["name"], "dual_write");

    let (status, report) = upload(&host.client, "/admin/strategies/mine?activate=true", &[], bytes).await;
    assert_eq!((status, &report["activation"]["generation"]), (200, &json!(2)));
    let listed = host.client.get("/admin/strategies/mine").await.expect(200);
    assert_eq!((&listed["active"], listed["versions"].as_array().unwrap().len()), (&json!(true), 1));
    host.stop().await;
}

#[tokio::test]
async fn of_uploads_at_once_exactly_one_creates() {
    let host = Host::start(Behind::Embedded, &[]).await;
    for name in ["one", "two", "three"] {
        let upload = async || host.client.upload(name, component("redis_only")).await.status.as_u16();
        let mut statuses: [u16; 4] = tokio::join!(upload(), upload(), upload(), upload()).into();
        statuses.sort();
        assert_eq!(statuses, [200, 200, 200, 201], "{name}");
    }
    host.stop().await;
}

#[tokio::test]
async fn a_built_in_version_stays() {
    let host = Host::start(Behind::Embedded, &[]).await;
    for name in ["redis_only", "dual_write"] {
        let path = format!("/admin/strategies/{name}/versions/{}", Digest::of(component(name)));
        assert_eq!(host.client.delete(&path).await.expect(409)["code"], "built-in", "{name}");
    }
    host.stop().await;
}

#[tokio::test]
async fn the_store_that_is_on_decides_the_first_strategy() {
    for (flag, strategy) in [("--redis-url", "postgres_only"), ("--postgres-url", "redis_only")] {
        let host = Host::start(Behind::Embedded, &[flag, "off"]).await;
        assert_eq!(host.client.get("/admin/strategies").await.expect(200)["active"]["name"], strategy);
        let written = host.client.put("/store/v1/records/api_key/a", json!({ "fields": {} })).await;
        written.expect(200);
        let data = host.stop().await;
        let both = config(data.path(), &[flag, "off", "--strategy", "dual_write"]);
        let refusal = Server::start(both).await.err().unwrap().to_string();
        assert!(refusal.contains("--strategy dual_write (DATABASE_STRATEGY) needs"), "{refusal}");
    }
}

#[tokio::test]
async fn a_content_digest_is_verified() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let wrong = format!("sha-256=:{}=:", "A".repeat(43));
    for digest in [&*wrong, "garbage"] {
        let headers = [("content-digest", digest)];
        let (status, refused) =
            upload(&host.client, "/admin/strategies/mine", &headers, component("redis_only")).await;
        assert_eq!((status, &refused["code"]), (400, &json!("digest-mismatch")));
    }
    assert_eq!(host.client.get("/admin/strategies/mine").await.expect(404)["code"], "unknown-strategy");
    host.stop().await;
}

#[tokio::test]
async fn a_race_of_two_activations_has_one_winner() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let activate = async |name: &str, generation: &str| {
        let path = format!("/admin/strategies/{name}/activate");
        host.client.send(Method::POST, &path, &[("if-match", generation)], Body::None).await
    };
    let won = activate("cache_first", "\"1\"").await.expect(200);
    assert_eq!((&won["generation"], &won["drain"]["drained"]), (&json!(2), &json!(true)));
    assert_eq!(activate("redis_only", "\"1\"").await.expect(412)["code"], "generation-changed");
    assert_eq!(activate("redis_only", "1").await.expect(400)["code"], "invalid-precondition");
    assert_eq!(activate("none", "\"2\"").await.expect(404)["code"], "unknown-strategy");
    host.stop().await;
}

#[tokio::test]
async fn a_rollback_goes_back_and_what_is_in_use_stays() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let client = &host.client;
    let rollback = async || client.post("/admin/strategies/rollback", json!({})).await;
    assert_eq!(rollback().await.expect(409)["code"], "nothing-before");
    let bytes = component("redis_only");
    upload(client, "/admin/strategies/mine?activate=true", &[], bytes).await;
    let version = format!("/admin/strategies/mine/versions/{}", Digest::of(bytes));
    assert_eq!(client.delete(&version).await.expect(409)["code"], "version-in-use");
    assert_eq!(rollback().await.expect(200)["strategy"], "dual_write");
    assert_eq!(client.delete(&version).await.expect(409)["code"], "version-in-use");
    client.activate("cache_first").await;
    client.delete(&version).await.expect(204);
    assert_eq!(client.delete(&version).await.expect(404)["code"], "unknown-strategy");
    let bad = client.delete("/admin/strategies/mine/versions/xyz").await;
    assert_eq!(bad.expect(400)["code"], "invalid-digest");

    let events = client.get("/admin/strategies/events?limit=2").await.expect(200);
    let actions: Vec<_> = events["events"].as_array().unwrap().iter().map(|event| &event["action"]).collect();
    assert_eq!(actions, ["deleted", "activated"]);
    host.stop().await;
}

#[tokio::test]
async fn the_older_routes_switch_by_their_hyphenated_names() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let names = ["cache-first", "database-first", "redis-only", "postgres-only", "dual-write"];
    for (generation, name) in (2..).zip(names) {
        let path = format!("/admin/database/strategy/{name}");
        let answer = host.client.send(Method::POST, &path, &[], Body::None).await.expect(200);
        assert_eq!(answer["success"], true);
        assert_eq!(answer["newStrategy"], name.replace('-', "_"));
        assert_eq!(answer["generation"], generation);
        assert!(answer["message"].is_string() && answer["timestamp"].is_string());
        let status = host.client.get("/admin/database/status").await.expect(200);
        assert_eq!(status["data"]["strategy"], name.replace('-', "_"));
    }
    let refused = host.client.post("/admin/database/strategy/redis_only", json!({})).await.expect(404);
    assert_eq!((&refused["success"], &refused["code"]), (&json!(false), &json!("unknown-strategy")));
    assert!(refused["error"].is_string() && refused["message"].is_string());
    let health = host.client.get("/admin/database/health").await.expect(200);
    assert_eq!((&health["success"], &health["data"]["status"]), (&json!(true), &json!("healthy")));
    host.stop().await;
}
