//! What the use of a key writes, and what it costs.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;
use switchyard::keys::Refusal;
use switchyard_tests::host::{Behind, Host};
use switchyard_tests::relay_database::RelayDatabase;

use super::{PATH, act, issue, refusal};

#[tokio::test]
async fn the_time_of_a_key_begins_with_its_first_use() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let content = json!({ "name": "a", "expirationMode": "activation", "activationDays": 2, "activationUnit": "hours" });
    let (id, key) = issue(&host.client, content).await;
    let path = format!("{PATH}/{id}");
    assert_eq!(host.client.get(&path).await.expect(200)["data"]["expiresAt"], "");
    // It would be overwritten by the first use.
    let early = host.client.put(&path, json!({ "expiresAt": "2999-01-01" })).await.expect(400);
    assert!(early["detail"].as_str().unwrap().contains("expiresAt"), "{early}");
    host.client.put(&path, json!({ "name": "b" })).await.expect(200);
    let uses = (0..8).map(|_| host.keys().authenticate(&key));
    let used = futures::future::join_all(uses).await;
    let until: BTreeSet<_> = used.into_iter().map(|key| key.unwrap().expires_at().unwrap()).collect();
    assert_eq!(until.len(), 1, "it begins once");
    let left = until.first().unwrap().duration_since(Timestamp::now());
    assert!((7_100..=7_200).contains(&left.as_secs()), "{left:?}");
    let first = host.client.get(&path).await.expect(200)["data"].clone();
    host.keys().authenticate(&key).await.unwrap();
    assert_eq!(host.client.get(&path).await.expect(200)["data"], first);
    assert_eq!(first["isActivated"], true);
    let later = host.client.put(&path, json!({ "expiresAt": "9999-12-31T23:59:59.999Z" })).await.expect(200);
    assert_eq!(later["data"]["expiresAt"], "9999-12-30T22:00:00.999Z", "the last moment that there is");
    host.keys().authenticate(&key).await.unwrap();
    host.stop().await;
}

/// Bounds as other programs may have written them: none of them means none.
#[tokio::test]
async fn a_bound_that_cannot_be_read_lets_nobody_in() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let (id, key) = issue(&host.client, json!({ "name": "a" })).await;
    let record = format!("/store/v1/records/api_key/{id}");
    let fields = host.client.get(&record).await.expect(200)["fields"].clone();
    let with = async |name: &str, value: &str| {
        let mut fields = fields.clone();
        fields[name] = json!(value);
        host.client.put(&record, json!({ "fields": fields })).await.expect(200);
        host.keys().authenticate(&key).await
    };
    assert_eq!(with("tokenLimit", "60.0").await.unwrap().limits().window_tokens, 60);
    for name in ["tokenLimit", "dailyCostLimit"] {
        let refused = with(name, "many").await.expect_err("nobody is let in");
        assert_eq!(
            refused,
            Refusal::Unreadable(if name == "tokenLimit" { "tokenLimit" } else { "dailyCostLimit" })
        );
        assert!(refused.to_string().contains(name));
    }
    host.stop().await;
}

#[tokio::test]
async fn a_use_is_written_once_a_minute() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let (id, key) = issue(&host.client, json!({ "name": "a" })).await;
    let record = format!("/store/v1/records/api_key/{id}");
    let seen = async || host.client.get(&record).await.expect(200);
    let issued = seen().await;
    for _ in 0..100 {
        host.keys().used(&host.keys().authenticate(&key).await.unwrap());
    }
    host.client.until("the use", async |_| seen().await["fields"]["lastUsedAt"] != "").await;
    let used = seen().await;
    assert!(used["version"].as_u64() > issued["version"].as_u64());
    for _ in 0..100 {
        host.keys().used(&host.keys().authenticate(&key).await.unwrap());
    }
    // Another key's use is written after whatever there was to write of this one.
    let (other, key) = issue(&host.client, json!({ "name": "b" })).await;
    host.keys().used(&host.keys().authenticate(&key).await.unwrap());
    let other = format!("/store/v1/records/api_key/{other}");
    let is_used = async |_: &_| host.client.get(&other).await.expect(200)["fields"]["lastUsedAt"] != "";
    host.client.until("the use of the other", is_used).await;
    assert_eq!(seen().await, used);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_use_never_undoes_what_an_admin_does_meanwhile() {
    let host = Arc::new(Host::start(Behind::RealServers, &[]).await);
    for round in 0..40 {
        let (id, key) = issue(&host.client, json!({ "name": "a" })).await;
        let let_in = host.keys().authenticate(&key).await.unwrap();
        let path = format!("{PATH}/{id}");
        let (ended, _) = tokio::join!(
            async {
                match round % 3 {
                    0 => drop(act(&host.client, &id, "disable").await),
                    1 => drop(host.client.delete(&path).await.expect(200)),
                    _ => drop(host.client.delete(&format!("{path}?hard=true")).await.expect(200)),
                }
            },
            async { host.keys().used(&let_in) },
        );
        let () = ended;
        // A late use, of a key that was let in before.
        host.keys().used(&let_in);
        let expected = [Refusal::Disabled, Refusal::Deleted, Refusal::Unknown][round % 3].clone();
        for _ in 0..20 {
            assert_eq!(refusal(&host, &key).await, expected, "round {round}");
            tokio::task::yield_now().await;
        }
    }
    Arc::into_inner(host).unwrap().stop().await;
}

#[tokio::test]
async fn a_key_in_use_asks_no_store() {
    let host = Host::start(Behind::RealServers, &[]).await;
    let (_, key) = issue(&host.client, json!({ "name": "a" })).await;
    host.keys().authenticate(&key).await.unwrap();
    let database = RelayDatabase::open(&host.redis.as_ref().unwrap().url()).await;
    let reads = async || {
        let stats: String = database.ask(&["INFO", "commandstats"]).await;
        let calls = |name: &str| {
            let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{name}:calls=")));
            line.and_then(|line| line.split(',').next()?.parse::<u64>().ok()).unwrap_or(0)
        };
        calls("hgetall") + calls("hget")
    };
    let before = reads().await;
    for _ in 0..2_000 {
        host.keys().authenticate(&key).await.unwrap();
    }
    // The probes and the drain ask now and then.
    assert!(reads().await - before < 500);
    host.stop().await;
}
