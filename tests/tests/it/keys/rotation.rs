//! A new key in place of the old one, and what becomes of that.

use serde_json::json;
use switchyard::keys::Refusal;
use switchyard_tests::host::{Behind, Host};

use super::{PATH, issue, refusal};

async fn regenerate(host: &Host, id: &str, grace: u64) -> String {
    let path = format!("{PATH}/{id}/regenerate");
    let data = host.client.post(&path, json!({ "graceSeconds": grace })).await.expect(200)["data"].clone();
    assert_eq!(data["id"], id);
    data["apiKey"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_old_key_ends_at_once_unless_it_has_a_grace() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let (id, first) = issue(&host.client, json!({ "name": "a" })).await;
    let second = regenerate(&host, &id, 0).await;
    assert_eq!(refusal(&host, &first).await, Refusal::Unknown);
    let third = regenerate(&host, &id, 3_600).await;
    for key in [&second, &third] {
        assert_eq!(host.keys().authenticate(key).await.unwrap().id(), id);
    }
    let shown = host.client.get(&format!("{PATH}/{id}")).await.expect(200);
    assert_eq!(shown["data"]["previousKeysUntil"].as_array().unwrap().len(), 1);
    // Without a grace all older ones end, too.
    let last = regenerate(&host, &id, 0).await;
    for key in [&second, &third] {
        assert_eq!(refusal(&host, key).await, Refusal::Unknown);
    }
    host.keys().authenticate(&last).await.unwrap();
    host.stop().await;
}

#[tokio::test]
async fn a_key_is_sent_back_as_it_was_answered_and_the_ends_of_graces_are_no_field() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let (id, _) = issue(&host.client, json!({ "name": "a" })).await;
    regenerate(&host, &id, 3_600).await;
    let path = format!("{PATH}/{id}");
    let shown = host.client.get(&path).await.expect(200)["data"].clone();
    assert_eq!(shown["previousKeysUntil"].as_array().unwrap().len(), 1);
    host.client.put(&path, shown.clone()).await.expect(200);
    let mut again = host.client.get(&path).await.expect(200)["data"].clone();
    again["updatedAt"] = shown["updatedAt"].clone();
    assert_eq!(again, shown);
    let record = host.client.get(&format!("/store/v1/records/api_key/{id}")).await.expect(200);
    assert_eq!(record["fields"].get("previousKeysUntil"), None, "{record}");
    let other = json!({ "previousKeysUntil": ["2999-01-01T00:00:00Z"] });
    let refused = host.client.put(&path, other).await.expect(400);
    assert_eq!(refused["code"], "invalid-field", "{refused}");
    host.stop().await;
}

#[tokio::test]
async fn no_grace_ends_early_for_another_one() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let (id, first) = issue(&host.client, json!({ "name": "a" })).await;
    let mut last = String::new();
    for _ in 0..8 {
        last = regenerate(&host, &id, 3_600).await;
    }
    let path = format!("{PATH}/{id}/regenerate");
    let refused = host.client.post(&path, json!({ "graceSeconds": 60 })).await.expect(409);
    assert_eq!(refused["code"], "too-many-graces", "{refused}");
    for key in [&first, &last] {
        assert_eq!(host.keys().authenticate(key).await.unwrap().id(), id);
    }
    let only = regenerate(&host, &id, 0).await;
    assert_eq!(refusal(&host, &first).await, Refusal::Unknown);
    host.keys().authenticate(&only).await.unwrap();
    host.stop().await;
}

#[tokio::test]
async fn a_grace_ends_by_itself() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let (id, old) = issue(&host.client, json!({ "name": "a" })).await;
    regenerate(&host, &id, 1).await;
    host.keys().authenticate(&old).await.unwrap();
    let ended = async |_: &_| host.keys().authenticate(&old).await == Err(Refusal::Unknown);
    host.client.until("the end of the grace", ended).await;
    host.stop().await;
}

#[tokio::test]
async fn both_keys_let_in_through_every_strategy_and_a_restart() {
    let host = Host::start(Behind::RealServers, &[]).await;
    let (id, old) = issue(&host.client, json!({ "name": "a" })).await;
    let new = regenerate(&host, &id, 3_600).await;
    for strategy in ["cache_first", "database_first", "redis_only", "postgres_only", "dual_write"] {
        host.client.activate(strategy).await;
        for key in [&old, &new] {
            assert_eq!(host.keys().authenticate(key).await.unwrap().id(), id, "{strategy}");
        }
    }
    let postgres = host.postgres_url().unwrap();
    let (data, redis) = host.stop_all().await;
    let url = redis.url();
    let flags = ["--redis-url", &url, "--postgres-url", &postgres];
    let host = Host::start_in(data, Some(redis), &flags).await;
    for key in [&old, &new] {
        assert_eq!(host.keys().authenticate(key).await.unwrap().id(), id);
    }
    // What is refused is refused by every key that it has.
    super::act(&host.client, &id, "disable").await;
    for key in [&old, &new] {
        assert_eq!(refusal(&host, key).await, Refusal::Disabled);
    }
    host.stop().await;
}

#[tokio::test]
async fn a_key_is_hashed_anew_when_the_secret_has_changed() {
    let (old, new) = ("o".repeat(32), "n".repeat(32));
    let host = Host::start(Behind::Embedded, &["--secret", &old]).await;
    let (id, key) = issue(&host.client, json!({ "name": "a" })).await;
    let data = host.stop().await;
    let host = Host::start_in(data, None, &["--secret", &new, "--old-secrets", &old]).await;
    let record = format!("/store/v1/records/api_key/{id}");
    let hash = async |host: &Host| host.client.get(&record).await.expect(200)["fields"]["apiKey"].clone();
    let before = hash(&host).await;
    host.keys().authenticate(&key).await.unwrap();
    host.client.until("another hash", async |_| hash(&host).await != before).await;
    host.keys().authenticate(&key).await.unwrap();
    let data = host.stop().await;
    // The old secret is not needed for it any more.
    let host = Host::start_in(data, None, &["--secret", &new]).await;
    host.keys().authenticate(&key).await.unwrap();
    host.stop().await;
}
