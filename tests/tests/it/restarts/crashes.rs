//! Killed with writes in flight, again and again: what was acknowledged is there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use reqwest::Method;
use serde_json::json;
use switchyard_tests::host::{Behind, Body, Client};

use super::{Stage, activate, active, eventually, path};

const KILLS: usize = 20;
const WRITERS: usize = 6;
const STRATEGIES: [&str; 3] = ["dual_write", "database_first", "postgres_only"];

/// What a writer knows: of each record the values it may have, which is the last acknowledged one and those
/// that were asked for since then; and how many usage events were acknowledged, and how many not.
#[derive(Default)]
struct Ledger {
    records: BTreeMap<String, Vec<Option<u64>>>,
    acknowledged: u64,
    unanswered: u64,
}

/// Whether a write is kept through a crash of the program.
async fn kept(client: &Client, method: Method, path: &str, body: Body) -> bool {
    let Ok(answer) = client.try_send(method, path, &[], body).await else {
        // The program is being started again.
        eventually(client, Method::GET, "/livez").await;
        return false;
    };
    answer.status == 200 && ["both", "postgres"].map(Some).contains(&answer.body["durability"].as_str())
}

fn usage(writer: usize, n: u64) -> Body {
    let event = json!({
        "id": format!("w{writer}-{n}"), "key_id": format!("w{writer}"), "model": "claude",
        "at": "2026-01-02T03:04:05Z", "input_tokens": 3, "output_tokens": 0, "cache_creation_5m_tokens": 0,
        "cache_creation_1h_tokens": 0, "cache_read_tokens": 0, "cost_micro_usd": 1
    });
    Body::Json(json!({"events": [event]}))
}

/// Writes, deletes and counts until told to stop.
async fn write(client: Client, writer: usize, stop: Arc<AtomicBool>, steps: Arc<AtomicU64>) -> Ledger {
    let mut ledger = Ledger::default();
    for n in 0.. {
        if stop.load(Ordering::Acquire) {
            break;
        }
        let id = format!("w{writer}-{}", n % 7);
        let asked = (n % 5 != 4).then_some(n);
        let kept_record = match asked {
            Some(n) => {
                let body = Body::Json(json!({"fields": {"n": n.to_string()}}));
                kept(&client, Method::PUT, &path(&id), body).await
            }
            None => kept(&client, Method::DELETE, &path(&id), Body::None).await,
        };
        let allowed = ledger.records.entry(id).or_insert_with(|| vec![None]);
        if kept_record {
            allowed.clear();
        }
        allowed.push(asked);
        match kept(&client, Method::POST, "/store/v1/usage", usage(writer, n)).await {
            true => ledger.acknowledged += 1,
            false => ledger.unanswered += 1,
        }
        steps.fetch_add(u64::from(kept_record), Ordering::AcqRel);
    }
    ledger
}

/// Everything the writers know, through one strategy.
async fn verify(client: &Client, strategy: &str, ledgers: &[Ledger], counted: bool) {
    activate(client, strategy).await;
    for (writer, ledger) in ledgers.iter().enumerate() {
        for (id, allowed) in &ledger.records {
            let read = eventually(client, Method::GET, &path(id)).await;
            let found = match read.status.as_u16() {
                404 => None,
                _ => read.expect(200)["fields"]["n"].as_str().and_then(|n| n.parse().ok()),
            };
            assert!(allowed.contains(&found), "{id} through {strategy}: {found:?} is not of {allowed:?}");
        }
        let usage = format!("/store/v1/usage/w{writer}?window=total");
        if !counted {
            client.get(&usage).await.expect(503);
            continue;
        }
        let usage = eventually(client, Method::GET, &usage).await.expect(200);
        let requests = usage["requests"].as_u64().expect("a number");
        let most = ledger.acknowledged + ledger.unanswered;
        assert!((ledger.acknowledged..=most).contains(&requests), "w{writer} through {strategy}: {usage}");
        assert_eq!(usage["input_tokens"], requests * 3, "w{writer} through {strategy}");
    }
}

async fn kills_lose_nothing(behind: Behind) {
    let mut stage = Stage::start(behind, &[]).await;
    let client = stage.client.clone();
    let (stop, steps) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| tokio::spawn(write(client.clone(), writer, stop.clone(), steps.clone())))
        .collect();
    for kill in 0..KILLS {
        let strategy = STRATEGIES[kill % STRATEGIES.len()];
        activate(&client, strategy).await;
        let before = steps.load(Ordering::Acquire);
        let enough = before + 20 + kill as u64;
        client.until("writers go on", async |_| steps.load(Ordering::Acquire) >= enough).await;
        stage.node.kill();
        stage.node.start_again();
        assert_eq!(active(&client).await["name"], strategy);
    }
    stop.store(true, Ordering::Release);
    let mut ledgers = Vec::new();
    for writer in writers {
        ledgers.push(writer.await.expect("a writer"));
    }
    assert!(ledgers.iter().any(|ledger| ledger.unanswered > 0), "no kill has met a request");
    for strategy in ["dual_write", "database_first", "postgres_only", "redis_only"] {
        // The embedded cache has lost its counters with the process: it knows, and does not make them up.
        let counted = behind == Behind::RealServers || strategy != "redis_only";
        verify(&client, strategy, &ledgers, counted).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_kills_lose_nothing_on_the_embedded_stores() {
    kills_lose_nothing(Behind::Embedded).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_kills_lose_nothing_on_real_servers() {
    kills_lose_nothing(Behind::RealServers).await;
}
