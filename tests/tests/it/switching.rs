//! Every strategy on every backend, and every switch between two of them under load.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::{Value, json};
use switchyard_tests::host::{Behind, Client, Host};

const STRATEGIES: [&str; 5] = ["dual_write", "cache_first", "database_first", "redis_only", "postgres_only"];

/// get, find, scan, put, delete and add through one strategy.
async fn every_operation(client: &Client, strategy: &str) {
    client.activate(strategy).await;
    let fields = json!({"fields": {"name": "n", "apiKey": format!("hash-{strategy}")}});
    let path = format!("/store/v1/records/api_key/{strategy}");
    let put = client.put(&path, fields.clone()).await;
    assert!(put.header("x-switchyard-strategy").is_some_and(|h| h.starts_with(&format!("{strategy}@"))));
    let put = put.expect(200);
    let durability = put["durability"].as_str().expect("a durability").to_owned();

    let got = client.get(&path).await;
    assert_eq!(got.header("etag"), Some(format!("\"{}\"", put["version"]).as_str()));
    let got = got.expect(200);
    assert_eq!((&got["fields"], &got["version"]), (&fields["fields"], &put["version"]));

    let found = client.get(&format!("/store/v1/records/api_key?index=hash&value=hash-{strategy}")).await;
    assert_eq!(found.expect(200)["id"], strategy);

    let page = client.get("/store/v1/records/api_key?limit=1000").await.expect(200);
    let ids: Vec<_> = page["records"].as_array().expect("records").iter().map(|r| r["id"].clone()).collect();
    assert!(ids.contains(&json!(strategy)), "{strategy}: {ids:?}");

    client.delete(&path).await.expect(200);
    client.get(&path).await.expect(404);
    let found = client.get(&format!("/store/v1/records/api_key?index=hash&value=hash-{strategy}")).await;
    found.expect(404);

    let events = json!({"events": [event(&format!("{strategy}-1"), strategy), event(&format!("{strategy}-2"), strategy)]});
    let added = client.post("/store/v1/usage", events.clone()).await.expect(200);
    assert_eq!((&added["recorded"], &added["duplicates"]), (&json!(2), &json!(0)), "{strategy}");
    let again = client.post("/store/v1/usage", events).await.expect(200);
    assert_eq!((&again["recorded"], &again["duplicates"]), (&json!(0), &json!(2)), "{strategy}");
    assert_eq!(added["durability"], durability.as_str(), "{strategy}");
    for window in ["total", "monthly:2026-01", "daily:2026-01-02", "hourly:2026-01-02T03"] {
        let usage = client.get(&format!("/store/v1/usage/{strategy}?window={window}")).await.expect(200);
        assert_eq!(
            (&usage["requests"], &usage["input_tokens"]),
            (&json!(2), &json!(20)),
            "{strategy} {window}"
        );
    }
}

fn event(id: &str, key_id: &str) -> Value {
    json!({
        "id": id, "key_id": key_id, "model": "claude", "at": "2026-01-02T03:04:05Z",
        "input_tokens": 10, "output_tokens": 5, "cache_creation_5m_tokens": 1,
        "cache_creation_1h_tokens": 2, "cache_read_tokens": 3, "cost_micro_usd": 7
    })
}

async fn matrix(behind: Behind) {
    let host = Host::start(behind, &[]).await;
    for strategy in STRATEGIES {
        every_operation(&host.client, strategy).await;
    }
    host.stop().await;
}

#[tokio::test]
async fn every_strategy_does_every_operation_on_the_embedded_stores() {
    matrix(Behind::Embedded).await;
}

#[tokio::test]
async fn every_strategy_does_every_operation_on_real_servers() {
    matrix(Behind::RealServers).await;
}

/// What a writer was promised: the last acknowledged value of each of its records, none if deleted.
type Promises = BTreeMap<String, Option<u64>>;

/// Writes, deletes and counts until told to stop, and reads back each write through whatever is active.
async fn write(
    client: Client,
    writer: usize,
    stop: Arc<AtomicBool>,
    steps: Arc<AtomicU64>,
) -> (Promises, u64) {
    let (mut promises, mut events) = (Promises::new(), 0);
    for n in 0.. {
        if stop.load(Ordering::Acquire) {
            break;
        }
        let id = format!("w{writer}-{}", n % 5);
        let path = format!("/store/v1/records/account/{id}");
        let promised = if n % 7 == 6 {
            client.delete(&path).await.expect(200);
            None
        } else {
            client.put(&path, json!({"fields": {"n": n.to_string()}})).await.expect(200);
            Some(n)
        };
        promises.insert(id.clone(), promised);
        check(&client, &id, promised).await;
        let event = event(&format!("w{writer}-e{n}"), &format!("w{writer}"));
        let added = client.post("/store/v1/usage", json!({"events": [event]})).await.expect(200);
        assert_eq!(added["recorded"], 1);
        events += 1;
        steps.fetch_add(1, Ordering::AcqRel);
    }
    (promises, events)
}

#[track_caller]
fn same(id: &str, promised: Option<u64>, answer: switchyard_tests::host::Answer) {
    let label = answer.header("x-switchyard-strategy").unwrap_or_default().to_owned();
    match promised {
        Some(n) => assert_eq!(answer.expect(200)["fields"]["n"], n.to_string(), "{id} through {label}"),
        None => assert_eq!(answer.status, 404, "{id} was deleted; through {label}"),
    }
}

async fn check(client: &Client, id: &str, promised: Option<u64>) {
    let answer = client.get(&format!("/store/v1/records/account/{id}")).await;
    same(id, promised, answer);
}

/// All twenty ordered pairs in one walk: from each strategy to each other one.
fn walk() -> Vec<&'static str> {
    let mut steps = Vec::new();
    for (i, from) in STRATEGIES.iter().enumerate() {
        for to in &STRATEGIES[i + 1..] {
            steps.extend([*from, *to]);
        }
        steps.push(from);
    }
    steps
}

async fn every_switch(behind: Behind) {
    let host = Host::start(behind, &[]).await;
    let (stop, steps) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writers: Vec<_> = (0..8)
        .map(|writer| tokio::spawn(write(host.client.clone(), writer, stop.clone(), steps.clone())))
        .collect();
    let mut pairs = std::collections::BTreeSet::new();
    let mut active = "dual_write";
    for next in walk() {
        // Let every writer do something through what is active before it is replaced.
        let before = steps.load(Ordering::Acquire);
        host.client.until("the writers go on", async |_| steps.load(Ordering::Acquire) >= before + 8).await;
        let report = host.client.activate(next).await;
        if next != active {
            assert_eq!(report["drain"]["drained"], true, "{report}");
            assert!(report["caught_up"].get("incomplete").is_none(), "{report}");
            pairs.insert((active, next));
        }
        active = next;
    }
    assert_eq!(pairs.len(), 20, "every ordered pair");
    stop.store(true, Ordering::Release);
    let mut promised = Vec::new();
    for writer in writers {
        promised.push(writer.await.expect("a writer that was not refused or misled"));
    }
    for strategy in STRATEGIES {
        host.client.activate(strategy).await;
        for (writer, (promises, events)) in promised.iter().enumerate() {
            for (id, promise) in promises {
                check(&host.client, id, *promise).await;
            }
            let usage = host.client.get(&format!("/store/v1/usage/w{writer}?window=total")).await.expect(200);
            assert_eq!(usage["requests"], *events, "usage of w{writer} through {strategy}");
        }
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_switch_under_load_loses_nothing_on_the_embedded_stores() {
    every_switch(Behind::Embedded).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_switch_under_load_loses_nothing_on_real_servers() {
    every_switch(Behind::RealServers).await;
}

/// Callers that send the same events at the same time: each event is new to exactly one of them.
async fn each_event_is_new_once(behind: Behind) {
    let host = Host::start(behind, &[]).await;
    for strategy in STRATEGIES {
        host.client.activate(strategy).await;
        let callers = (0..8).map(|_| {
            let client = host.client.clone();
            tokio::spawn(async move {
                let mut recorded = 0;
                for n in 0..30 {
                    let event = event(&format!("{strategy}-{n}"), strategy);
                    let added = client.post("/store/v1/usage", json!({"events": [event]})).await.expect(200);
                    recorded += added["recorded"].as_u64().expect("a number");
                }
                recorded
            })
        });
        let mut recorded = 0;
        for caller in callers.collect::<Vec<_>>() {
            recorded += caller.await.expect("a caller");
        }
        assert_eq!(recorded, 30, "{strategy}");
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_event_is_new_to_one_caller_on_the_embedded_stores() {
    each_event_is_new_once(Behind::Embedded).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_event_is_new_to_one_caller_on_real_servers() {
    each_event_is_new_once(Behind::RealServers).await;
}
