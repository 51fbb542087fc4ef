//! Full copies in both directions, of our records and of Claude Relay Service's.

use reqwest::Method;
use serde_json::{Value, json};
use switchyard_tests::host::{Behind, Body, Client, Host};
use switchyard_tests::relay_database::{BROKEN, RelayDatabase, key_fields};

mod balances;
mod refusals;
mod resuming;

/// Does something long, and answers its data when it has ended; a minute at most.
pub(crate) async fn finish(client: &Client, method: Method, path: &str, body: Value) -> Value {
    let body = if method == Method::GET { Body::None } else { Body::Json(body) };
    let answer = client.send(method, path, &[], body).await;
    if answer.status == 200 {
        return answer.body["data"].clone();
    }
    let place = answer.header("location").map(str::to_owned);
    let data = answer.expect(202)["data"].clone();
    let place = place.unwrap_or_else(|| panic!("no location: {data}"));
    for _ in 0..1_200 {
        let operation = client.get(&place).await.expect(200);
        if operation["state"] != "running" {
            return operation;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("{path} does not end");
}

pub(crate) async fn sync(client: &Client, pair: &str) -> Value {
    let ended = finish(client, Method::POST, &format!("/admin/database/sync/{pair}"), json!({})).await;
    assert_eq!(ended["state"], "done", "{ended}");
    ended["result"].clone()
}

/// Every record of a kind.
async fn all(client: &Client, kind: &str) -> Vec<Value> {
    let (mut records, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = client.get(&format!("/store/v1/records/{kind}?limit=1000{cursor}")).await.expect(200);
        records.extend(page["records"].as_array().unwrap().clone());
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return records,
        }
    }
}

/// A host on a Redis that another program has filled before.
async fn on_filled(of_each: usize, broken: bool) -> (Host, RelayDatabase) {
    let redis = switchyard_tests::servers::Redis::start();
    let database = RelayDatabase::open(&redis.url()).await;
    database.fill(of_each).await;
    if broken {
        database.break_parts().await;
    }
    let postgres = switchyard_tests::servers::Postgres::shared().database().await;
    let url = redis.url();
    let flags = ["--redis-url", &url, "--postgres-url", &postgres];
    let host = Host::start_in(tempfile::tempdir().unwrap(), Some(redis), &flags).await;
    (host, database)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_claude_relay_service_is_taken_in_whole_and_once() {
    const EACH: usize = 1_500;
    let (host, _database) = on_filled(EACH, true).await;
    let client = &host.client;
    let first = sync(client, "redis-to-postgres").await;
    let skipped: Vec<_> = first["skipped"].as_array().unwrap().iter().map(|s| s["key"].clone()).collect();
    for broken in BROKEN {
        assert!(skipped.contains(&json!(broken)), "{broken} is not among {skipped:?}");
    }
    assert_eq!(first["skipped_total"], BROKEN.len(), "{first}");
    assert!(first["skipped"].as_array().unwrap().iter().all(|s| !s["reason"].as_str().unwrap().is_empty()));
    // Four windows of each key, and one of a model.
    assert_eq!(first["usage_balances"], 4 * EACH + 1, "{first}");

    let second = sync(client, "redis-to-postgres").await;
    assert_eq!((&second["copied"], &second["usage_balances"]), (&json!(0), &json!(0)), "{second}");
    // Credentials in plain text may be sealed meanwhile.
    let seen = ["unchanged", "newer_in_target"].map(|count| second[count].as_u64().expect("a count"));
    assert_eq!(seen.iter().sum::<u64>(), 3 * EACH as u64, "{second}");

    client.activate("postgres_only").await;
    for (kind, count) in [("api_key", EACH), ("account", EACH), ("session", EACH)] {
        assert_eq!(all(client, kind).await.len(), count, "{kind}");
    }
    let mut fields = key_fields(0);
    fields["tags"] = json!("[\"broken json");
    assert_eq!(client.get("/store/v1/records/api_key/key-0").await.expect(200)["fields"], fields);
    let found = client.get(&format!("/store/v1/records/api_key?index=hash&value={:064x}", 7)).await;
    assert_eq!(found.expect(200)["fields"], key_fields(7));
    let usage = client.get("/store/v1/usage/key-9?window=total").await.expect(200);
    assert_eq!((&usage["requests"], &usage["input_tokens"]), (&json!(10), &json!(100)), "{usage}");
    assert_eq!(usage["cache_creation_5m_tokens"], 30, "{usage}");
    assert_eq!(usage["cost_micro_usd"], 1_250_000, "{usage}");
    client.get("/store/v1/records/account/none").await.expect(404);
    host.stop().await;
}

#[tokio::test]
async fn opening_balances_are_exact_while_usage_is_counted() {
    let (host, _database) = on_filled(50, false).await;
    let client = host.client.clone();
    let counting = tokio::spawn(async move {
        let mut counted = 0;
        for n in 0..400 {
            let event = json!({"id": format!("e{n}"), "key_id": "key-3", "model": "m",
                "at": "2026-01-02T03:04:05Z", "input_tokens": 1});
            let path = "/store/v1/usage";
            loop {
                let answer = client.post(path, json!({"events": [event]})).await;
                if answer.status == 200 {
                    counted += 1;
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        counted
    });
    for _ in 0..3 {
        sync(&host.client, "redis-to-postgres").await;
    }
    assert_eq!(counting.await.unwrap(), 400);
    sync(&host.client, "redis-to-postgres").await;
    // Four requests before, and each event once, in both stores.
    for strategy in ["postgres_only", "redis_only"] {
        host.client.activate(strategy).await;
        let counted = async |client: &Client| {
            let usage = client.get("/store/v1/usage/key-3?window=total").await;
            usage.body["requests"] == 404 && usage.body["input_tokens"] == 440
        };
        host.client.until(strategy, counted).await;
    }
    host.stop().await;
}

#[tokio::test]
async fn a_delete_survives_syncs_in_both_directions() {
    let host = Host::start(Behind::RealServers, &[]).await;
    let client = &host.client;
    for id in ["kept", "gone", "gone-alone"] {
        client
            .put(&format!("/store/v1/records/account/{id}"), json!({"fields": {"n": "1"}}))
            .await
            .expect(200);
    }
    client.delete("/store/v1/records/account/gone").await;
    client.activate("postgres_only").await;
    client.delete("/store/v1/records/account/gone-alone").await;
    for pair in ["redis-to-postgres", "postgres-to-redis", "redis-to-postgres"] {
        sync(client, pair).await;
    }
    let again = sync(client, "postgres-to-redis").await;
    assert_eq!((&again["copied"], &again["newer_in_target"]), (&json!(0), &json!(0)), "{again}");
    for strategy in ["postgres_only", "redis_only", "dual_write"] {
        client.activate(strategy).await;
        client.get("/store/v1/records/account/kept").await.expect(200);
        for gone in ["gone", "gone-alone"] {
            client.get(&format!("/store/v1/records/account/{gone}")).await.expect(404);
        }
    }
    host.stop().await;
}

#[tokio::test]
async fn what_redis_lost_comes_back_by_a_sync() {
    let flags = ["--database-sync-on-startup", "false"];
    let host = Host::start(Behind::RealServers, &flags).await;
    let client = &host.client;
    for n in 0..30 {
        let fields = json!({"fields": {"apiKey": format!("h{n}"), "n": n.to_string()}});
        client.put(&format!("/store/v1/records/api_key/k{n}"), fields).await.expect(200);
    }
    let database = RelayDatabase::open(&host.redis.as_ref().unwrap().url()).await;
    database.ask::<()>(&["FLUSHALL"]).await;
    let report = sync(client, "postgres-to-redis").await;
    // Part of it may be back already: the loss was noticed.
    let copied = report["copied"].as_u64().unwrap() + report["unchanged"].as_u64().unwrap();
    assert_eq!((copied, &report["skipped_total"]), (30, &json!(0)), "{report}");
    let again = sync(client, "postgres-to-redis").await;
    assert_eq!((&again["copied"], &again["unchanged"]), (&json!(0), &json!(30)), "{again}");
    client.activate("redis_only").await;
    let found = client.get("/store/v1/records/api_key?index=hash&value=h7").await.expect(200);
    assert_eq!(found["id"], "k7");
    client.get("/store/v1/records/api_key/none").await.expect(404);
    host.stop().await;
}

#[tokio::test]
async fn a_sync_to_redis_copies_every_field() {
    let host = Host::start(Behind::RealServers, &["--database-sync-on-startup", "false"]).await;
    let client = &host.client;
    let odd = json!({"empty": "", "long": "x".repeat(50_000), "Ü": "\u{1f980}\n\t\"", "n": "-0"});
    for n in 0..20 {
        for (kind, fields) in [("api_key", key_fields(n)), ("account", odd.clone()), ("session", odd.clone())]
        {
            let mut content = json!({ "fields": fields });
            if kind == "session" {
                content["ttl_seconds"] = json!(3_600);
            }
            client.put(&format!("/store/v1/records/{kind}/r{n:02}"), content).await.expect(200);
        }
    }
    client.activate("postgres_only").await;
    let mut before = Vec::new();
    for kind in ["api_key", "account", "session"] {
        before.push(all(client, kind).await);
    }
    let database = RelayDatabase::open(&host.redis.as_ref().unwrap().url()).await;
    // Not all of Redis, whose loss would be noticed and mended without a sync.
    for n in 0..20 {
        for prefix in ["apikey", "claude_console_account", "session"] {
            assert_eq!(database.ask::<i64>(&["DEL", &format!("{prefix}:r{n:02}")]).await, 1, "{prefix}");
        }
    }
    let report = sync(client, "postgres-to-redis").await;
    assert_eq!(report["copied"], 60, "{report}");
    client.activate("redis_only").await;
    for (kind, before) in ["api_key", "account", "session"].into_iter().zip(&before) {
        assert_eq!((before.len(), &all(client, kind).await), (20, before), "{kind}");
    }
    let fields = database.ask::<std::collections::HashMap<String, String>>(&["HGETALL", "apikey:r07"]).await;
    for (name, value) in key_fields(7).as_object().unwrap() {
        assert_eq!(
            fields.get(name).map(String::as_str),
            value.as_str(),
            "{name}, as another program reads it"
        );
    }
    host.stop().await;
}

#[tokio::test]
async fn opening_balances_survive_the_loss_of_redis() {
    let (host, database) = on_filled(20, false).await;
    let client = &host.client;
    sync(client, "redis-to-postgres").await;
    let event = json!({"id": "e", "key_id": "key-9", "model": "m", "at": "2026-01-02T03:04:05Z",
        "cost_micro_usd": 5});
    client.post("/store/v1/usage", json!({ "events": [event] })).await.expect(200);
    database.ask::<()>(&["FLUSHALL"]).await;
    // Only then does the switch ask a Redis that has counted anew.
    let complete =
        async |_: &Client| database.ask::<i64>(&["SISMEMBER", "switchyard:complete", "usage"]).await == 1;
    client.until("Redis has counted anew", complete).await;
    client.activate("redis_only").await;
    let usage = client.get("/store/v1/usage/key-9?window=total").await.expect(200);
    assert_eq!((&usage["requests"], &usage["input_tokens"]), (&json!(11), &json!(100)), "{usage}");
    assert_eq!(usage["cost_micro_usd"], 1_250_005, "{usage}");
    // As Claude Relay Service reads it.
    assert_eq!(database.ask::<String>(&["GET", "usage:cost:total:key-9"]).await, "1.250005");
    let model = &["HGET", "usage:model:daily:claude:2026-01-02", "requests"];
    assert_eq!(database.ask::<String>(model).await, "1");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_says_how_much_there_is_to_do() {
    const EACH: u64 = 1_000;
    let (host, _database) = on_filled(EACH as usize, false).await;
    let client = &host.client;
    let (begun, asked) = (client.clone(), client.clone());
    let syncing = tokio::spawn(async move { sync(&begun, "redis-to-postgres").await });
    // A bar is drawn of what is told on the way.
    asked
        .until("the total is known while it runs", async |client| {
            let operations = client.get("/admin/operations").await.expect(200)["operations"].take();
            let Some((done, total)) = operations[0]["done"].as_u64().zip(operations[0]["total"].as_u64())
            else {
                assert_ne!(operations[0]["state"], "done", "ended without a total: {operations}");
                return false;
            };
            assert!(done <= total, "{operations}");
            operations[0]["state"] == "running" && total == 3 * EACH
        })
        .await;
    syncing.await.expect("a sync");
    let check = finish(client, Method::GET, "/admin/database/consistency-check", Value::Null).await;
    assert_eq!((&check["done"], &check["total"]), (&json!(3 * EACH), &json!(3 * EACH)), "{check}");
    let operations = client.get("/admin/operations").await.expect(200)["operations"].take();
    assert_eq!(operations[1]["done"], operations[1]["total"], "{operations}");
    host.stop().await;
}
