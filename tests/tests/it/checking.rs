//! The consistency check finds what differs and nothing else, and the repair goes by version.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};
use switchyard_tests::host::{Behind, Client, Host};
use switchyard_tests::relay_database::RelayDatabase;

use crate::syncing::finish;

mod clearing;

async fn check(client: &Client, deep: bool) -> Value {
    let path = format!("/admin/database/consistency-check?deep={deep}");
    let ended = finish(client, Method::GET, &path, Value::Null).await;
    assert_eq!(ended["state"], "done", "{ended}");
    ended["result"].clone()
}

async fn repair(client: &Client, body: Value) -> Value {
    let ended = finish(client, Method::POST, "/admin/database/consistency-fix", body).await;
    assert_eq!(ended["state"], "done", "{ended}");
    ended["result"].clone()
}

/// The differing keys and why.
fn reasons(report: &Value) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let differences = report["differences"].as_array().unwrap();
    differences.iter().map(|d| (text(&d["key"]), text(&d["reason"]))).collect()
}

/// A host with ten keys, sessions and a little usage in both stores, and its Redis.
async fn filled() -> (Host, RelayDatabase) {
    let host = Host::start(Behind::RealServers, &["--database-sync-on-startup", "false"]).await;
    let client = &host.client;
    for n in 0..10 {
        let fields = json!({"fields": {"apiKey": format!("h{n}"), "n": n.to_string()}});
        client.put(&format!("/store/v1/records/api_key/k{n}"), fields).await.expect(200);
        let fields = json!({"fields": {"user": n.to_string()}});
        client.put(&format!("/store/v1/records/session/s{n}"), fields).await.expect(200);
    }
    let event =
        json!({"id": "e", "key_id": "k1", "model": "m", "at": "2026-01-02T03:04:05Z", "input_tokens": 1});
    client.post("/store/v1/usage", json!({"events": [event]})).await.expect(200);
    settled(client).await;
    let database = RelayDatabase::open(&host.redis.as_ref().unwrap().url()).await;
    (host, database)
}

/// Until no store owes the other anything.
async fn settled(client: &Client) {
    let none = async |client: &Client| {
        let stores = client.get("/readyz").await.body["stores"].clone();
        let owes = |store: &Value| store["backlog"]["records"] != 0 || store["backlog"]["usage"] != 0;
        !stores.as_array().unwrap().iter().any(owes)
    };
    client.until("settled", none).await;
}

/// One of each difference, by the hand of another.
async fn plant(host: &Host, database: &RelayDatabase) {
    let version = async |id: &str| {
        host.client.get(&format!("/store/v1/records/api_key/{id}")).await.expect(200)["version"]
            .as_u64()
            .unwrap()
    };
    let (newer, older) = (version("k1").await + 5, version("k2").await - 5);
    database.ask::<redis::Value>(&["HSET", "apikey:k1", "_version", &newer.to_string(), "n", "newer"]).await;
    database.ask::<redis::Value>(&["HSET", "apikey:k2", "_version", &older.to_string(), "n", "older"]).await;
    database.ask::<redis::Value>(&["HSET", "apikey:k3", "n", "another"]).await;
    database.ask::<redis::Value>(&["DEL", "apikey:k4"]).await;
    database.ask::<redis::Value>(&["HSET", "apikey:theirs", "n", "1"]).await;
    database.ask::<redis::Value>(&["ZADD", "switchyard:ids:api_key", "0", "theirs"]).await;
    database.ask::<redis::Value>(&["DEL", "apikey:k5"]).await;
    let tombstone = (version_of_k5(host).await + 5).to_string();
    database.ask::<redis::Value>(&["SET", "switchyard:tombstone:api_key:k5", &tombstone]).await;
    database.ask::<redis::Value>(&["HDEL", "apikey:hash_map", "h6"]).await;
    database.ask::<redis::Value>(&["HINCRBY", "usage:k1", "totalInputTokens", "7"]).await;
}

async fn version_of_k5(host: &Host) -> u64 {
    host.client.get("/store/v1/records/api_key/k0").await.expect(200)["version"].as_u64().unwrap()
        + 60_000_000
}

/// Claude Relay Service takes a deleted key out of its index.
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_key_need_not_be_found() {
    let (host, database) = filled().await;
    let gone = json!({"fields": {"apiKey": "h-gone", "isDeleted": "true"}});
    host.client.put("/store/v1/records/api_key/gone", gone).await.expect(200);
    settled(&host.client).await;
    let taken = database.ask::<i64>(&["HDEL", "apikey:hash_map", "h-gone"]).await;
    let found = check(&host.client, true).await;
    assert_eq!((taken, &found["consistent"]), (1, &json!(true)), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_planted_difference_is_found_with_its_reason_and_repaired_by_version() {
    let (host, database) = filled().await;
    let client = &host.client;
    let clean = check(client, true).await;
    assert_eq!((&clean["consistent"], &clean["differences_total"]), (&json!(true), &json!(0)), "{clean}");
    assert!(clean["compared"].as_u64().unwrap() >= 20, "{clean}");

    plant(&host, &database).await;
    let planted = [
        ("api_key/k1", "older"),
        ("api_key/k2", "older"),
        ("api_key/k3", "different"),
        ("api_key/k4", "missing"),
        ("api_key/k5", "deleted"),
        ("api_key/k6", "index"),
        ("api_key/theirs", "only-in-redis"),
    ];
    let planted: BTreeMap<_, _> = planted.map(|(key, why)| (key.to_owned(), why.to_owned())).into();
    let found = check(client, true).await;
    assert_eq!((reasons(&found), &found["consistent"]), (planted.clone(), &json!(false)), "{found}");
    let usage = &found["usage"]["differing"];
    assert_eq!((&usage[0]["key"], usage.as_array().unwrap().len()), (&json!("usage/k1:total"), 1), "{found}");
    // The same number of records in both says nothing: the shallow check finds all but the index.
    let shallow = reasons(&check(client, false).await);
    assert_eq!(shallow.len(), planted.len() - 1, "{shallow:?}");

    let dry = repair(client, json!({"deep": true})).await;
    assert_eq!(dry["repaired"].as_array().unwrap().len(), 6, "{dry}");
    assert_eq!(reasons(&check(client, true).await), planted, "a dry run changes nothing");

    let done = repair(client, json!({"dry_run": false, "deep": true})).await;
    let keys = |list: &Value| -> Vec<Value> {
        list.as_array().unwrap().iter().map(|advice| advice["key"].clone()).collect()
    };
    assert_eq!(keys(&done["needs_person"]), ["api_key/k3", "usage/k1:total"], "{done}");
    settled(client).await;
    let left = check(client, true).await;
    assert_eq!(reasons(&left), BTreeMap::from([("api_key/k3".to_owned(), "different".to_owned())]), "{left}");
    for strategy in ["redis_only", "postgres_only"] {
        client.activate(strategy).await;
        let field = async |id: &str| {
            client.get(&format!("/store/v1/records/api_key/{id}")).await.expect(200)["fields"]["n"].clone()
        };
        assert_eq!((field("k1").await, field("k2").await), (json!("newer"), json!("2")), "{strategy}");
        assert_eq!((field("k4").await, field("theirs").await), (json!("4"), json!("1")), "{strategy}");
        client.get("/store/v1/records/api_key/k5").await.expect(404);
        client.get("/store/v1/records/api_key?index=hash&value=h6").await.expect(200);
    }
    host.stop().await;
}

/// Two sets of the same size are not the same set.
#[tokio::test]
async fn equal_counts_of_different_records_are_a_difference() {
    let (host, database) = filled().await;
    database.ask::<redis::Value>(&["DEL", "apikey:k7"]).await;
    database.ask::<redis::Value>(&["HSET", "apikey:other", "_version", "5", "n", "7"]).await;
    database.ask::<redis::Value>(&["ZADD", "switchyard:ids:api_key", "0", "other"]).await;
    let found = reasons(&check(&host.client, false).await);
    let both = [("api_key/k7", "missing"), ("api_key/other", "missing")];
    assert_eq!(found, both.map(|(key, why)| (key.to_owned(), why.to_owned())).into());
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn live_traffic_is_no_difference() {
    let (host, _database) = filled().await;
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (client, stop) = (host.client.clone(), stop.clone());
            tokio::spawn(async move {
                let mut n = 0_u64;
                while !stop.load(std::sync::atomic::Ordering::Acquire) {
                    n += 1;
                    let id = format!("/store/v1/records/api_key/k{}", n % 10);
                    if n.is_multiple_of(5) {
                        client.delete(&id).await;
                    } else {
                        let fields =
                            json!({"fields": {"apiKey": format!("h{}", n % 10), "n": n.to_string()}});
                        client.put(&id, fields).await;
                    }
                    let event = json!({"id": format!("w{writer}-{n}"), "key_id": "k1", "model": "m",
                        "at": "2026-01-02T03:04:05Z", "input_tokens": 1});
                    client.post("/store/v1/usage", json!({"events": [event]})).await;
                }
                n
            })
        })
        .collect();
    for strategy in ["dual_write", "cache_first"] {
        host.client.activate(strategy).await;
        for deep in [false, true] {
            let report = check(&host.client, deep).await;
            assert_eq!(report["consistent"], true, "{strategy}: {report}");
        }
    }
    stop.store(true, std::sync::atomic::Ordering::Release);
    for writer in writers {
        assert!(writer.await.unwrap() > 10);
    }
    host.stop().await;
}
