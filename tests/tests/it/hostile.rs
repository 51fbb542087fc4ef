//! Whatever is uploaded: the right answer, neighbours unharmed, and no acknowledged write lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::{Value, json};
use switchyard::strategy::catalogue::BUILT_IN;
use switchyard_tests::host::{Answer, Behind, Client, Host};
use switchyard_tests::hostile::{component, contract, encode, module};

const RECURSE: &str = "(drop (call $recurse (i32.const 0)))";
const GROW: &str = "(drop (memory.grow (i32.const 65534)))";
const LOOP: &str = "(loop (br 0))";
const MILLION_CALLS: &str = "
    (loop (call $get (local.get 0) (local.get 1) (local.get 2) (local.get 3) (i32.const 16))
          (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
          (br_if 0 (i32.lt_u (global.get $calls) (i32.const 1000000))))";
/// The list is [h, h] where it was [h].
const TWICE: &str = "(i32.store offset=4 (i32.load (i32.const 24)) (i32.load (i32.load (i32.const 24))))
                     (i32.store (i32.const 28) (i32.const 2))";
/// An answer of zeros: ok, or none.
const ZEROS: &str = "(return (i32.const 64))";
/// Asks for "bb" instead.
const OTHER: &str = "(local.set 2 (i32.const 512)) (local.set 3 (i32.const 2))";

/// An answer that is a problem with this status and code, and a sentence with these words.
#[track_caller]
fn problem(answer: &Answer, status: u16, code: &str, words: &str) {
    let (body, detail) = (&answer.body, answer.body["detail"].as_str().unwrap_or_default());
    assert_eq!((answer.status.as_u16(), body["code"].as_str()), (status, Some(code)), "{body}");
    assert!(detail.contains(words), "{words:?} is not in {detail:?}");
}

/// What is refused at once: its bytes, the code and words of the answer.
fn refused() -> Vec<(&'static str, Vec<u8>, &'static str, &'static str)> {
    let noise: Vec<u8> = (0..5_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let whole = BUILT_IN[0].1;
    let text = |text: &str| wat::parse_str(text).expect("a component");
    let importing = |name: &str| text(&format!("(component (import \"{name}\" (instance)))"));
    let old = |text: String| text.replace("@0.1.0", "@0.0.9");
    let greedy = module(&[]).replace("\"memory\") 2)", "\"memory\") 65536)");
    let inserted = |place, code| component(&[(place, code)]);
    vec![
        ("nothing", vec![], "not-a-component", "not WebAssembly"),
        ("random bytes", noise, "not-a-component", "not WebAssembly"),
        ("a truncated one", whole[..whole.len() / 2].to_vec(), "not-a-component", "damaged"),
        ("a core module", text(&module(&[])), "not-a-component", "encode it as a component"),
        ("a WASI import", importing("wasi:cli/environment@0.2.6"), "import-not-allowed", "environment"),
        ("an unknown import", importing("switchyard:storage/secrets@0.1.0"), "import-not-allowed", "secrets"),
        ("no export", text("(component)"), "missing-export", "store"),
        ("another contract", encode(&old(module(&[])), &old(contract())), "contract-mismatch", "0.0.9"),
        ("4 GiB declared", encode(&greedy, &contract()), "needs-more-memory", "4294967296"),
        ("a loop in get", inserted("get", LOOP), "smoke-failed", "CPU"),
        ("a loop in start", inserted("start", LOOP), "smoke-failed", "CPU"),
        ("a loop in realloc", inserted("realloc", LOOP), "smoke-failed", "CPU"),
        ("4 GiB grown", inserted("get", GROW), "smoke-failed", "4294967296 bytes of memory"),
        ("endless recursion", inserted("get", RECURSE), "smoke-failed", "recursed"),
        ("a million store calls", inserted("get", MILLION_CALLS), "smoke-failed", "64 calls"),
        ("a handle twice", inserted("scanned", TWICE), "smoke-failed", "handle"),
        ("ok without storing", inserted("put", ZEROS), "smoke-failed", "put"),
        ("absent although stored", inserted("get", ZEROS), "smoke-failed", "absent"),
        ("another record", inserted("get", OTHER), "smoke-failed", "get"),
        ("a trap at once", inserted("get", "unreachable"), "smoke-failed", "panicked"),
    ]
}

#[tokio::test]
async fn a_bad_upload_is_refused_with_a_reason_and_changes_nothing() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let client = &host.client;
    client.put("/store/v1/records/account/a", json!({"fields": {"n": "1"}})).await.expect(200);
    for (what, bytes, code, words) in refused() {
        let answer = client.upload("bad", &bytes).await;
        problem(&answer, 422, code, words);
        client.get("/admin/strategies/bad").await.expect(404);
        let newest = client.get("/admin/strategies/events?limit=1").await.expect(200)["events"][0].clone();
        let detail = newest["detail"].as_str().unwrap_or_default();
        assert!(newest["action"] == "refused" && detail.contains(code), "{what}: {newest}");
        assert_eq!(client.get("/store/v1/records/account/a").await.expect(200)["fields"]["n"], "1");
    }
    problem(&client.upload("bad", &vec![0; 100 << 20]).await, 413, "too-large", "8 MiB");
    let answer = client.get("/store/v1/records/account/a").await;
    assert_eq!(answer.header("x-switchyard-strategy"), Some("dual_write@1"));
    host.stop().await;
}

/// Well-behaved but for records whose id begins with one of these letters.
const MOODS: [(&str, &str, &str); 7] = [
    ("t", "unreachable", "it panicked"),
    ("l", LOOP, "100 ms of CPU"),
    ("m", GROW, "4294967296 bytes of memory"),
    ("r", RECURSE, "recursed past its stack"),
    ("c", MILLION_CALLS, "more than 64 calls"),
    ("a", ZEROS, "absent, which no store has said"),
    ("o", OTHER, "another record than it was asked for"),
];

/// Behaves in the checks, and with every other id.
fn moody() -> Vec<u8> {
    let mood = |(letter, code, _): &(&str, &str, &str)| {
        let letter = letter.as_bytes()[0];
        format!("(if (i32.eq (i32.load8_u (local.get 2)) (i32.const {letter})) (then {code}))")
    };
    let accounts = "(i32.eq (i32.load8_u offset=1 (local.get 0)) (i32.const 99))";
    let twice = format!("(if {accounts} (then {TWICE}))");
    let moods: String = MOODS.iter().map(mood).collect();
    component(&[("get", &moods), ("scanned", &twice)])
}

async fn activate(client: &Client, name: &str, bytes: &[u8]) -> u64 {
    client.upload(name, bytes).await.expect(201);
    client.activate(name).await["generation"].as_u64().expect("a generation")
}

/// Calls of a generation with an outcome, as the metrics count them.
async fn calls(client: &Client, name: &str, generation: u64, outcome: &str) -> u64 {
    let metrics = client.get("/metrics").await.expect(200);
    let prefix = format!(
        "switchyard_strategy_calls_total{{strategy=\"{name}\",generation=\"{generation}\",outcome=\"{outcome}\"}} "
    );
    let text = metrics.as_str().expect("text").to_owned();
    let line = text.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or_else(|| panic!("{text}"));
    line.parse().expect("a number")
}

fn path(id: &str) -> String {
    format!("/store/v1/records/account/{id}")
}

async fn put(client: &Client, id: &str, n: u64) -> Answer {
    client.put(&path(id), json!({"fields": {"n": n.to_string()}})).await
}

/// Writes and reads back until told to stop; answers the last acknowledged value.
async fn neighbour(client: Client, id: String, stop: Arc<AtomicBool>, steps: Arc<AtomicU64>) -> u64 {
    for n in 0.. {
        put(&client, &id, n).await.expect(200);
        assert_eq!(client.get(&path(&id)).await.expect(200)["fields"]["n"], n.to_string());
        steps.fetch_add(1, Ordering::AcqRel);
        if stop.load(Ordering::Acquire) {
            return n;
        }
    }
    unreachable!("the loop ends by returning")
}

async fn harms_only_its_own_calls(behind: Behind) {
    let host = Host::start(behind, &[]).await;
    let client = &host.client;
    for (letter, ..) in MOODS {
        put(client, &format!("{letter}-1"), 7).await.expect(200);
    }
    put(client, "bb", 7).await.expect(200);
    let generation = activate(client, "moody", &moody()).await;
    let (stop, steps) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let neighbours: Vec<_> = (0..4)
        .map(|i| tokio::spawn(neighbour(client.clone(), format!("good-{i}"), stop.clone(), steps.clone())))
        .collect();
    let mut failed = 0;
    for _ in 0..3 {
        for (letter, _, words) in MOODS {
            problem(&client.get(&path(&format!("{letter}-1"))).await, 502, "strategy-failed", words);
        }
        problem(&client.get("/store/v1/records/account").await, 502, "strategy-failed", "handle");
        failed += MOODS.len() as u64 + 1;
        let before = steps.load(Ordering::Acquire);
        client.until("neighbours go on", async |_| steps.load(Ordering::Acquire) >= before + 4).await;
    }
    assert_eq!(calls(client, "moody", generation, "failed").await, failed);
    client.activate("dual_write").await;
    stop.store(true, Ordering::Release);
    for (i, neighbour) in neighbours.into_iter().enumerate() {
        let last = neighbour.await.expect("a neighbour that was not harmed");
        let read = client.get(&path(&format!("good-{i}"))).await.expect(200);
        assert_eq!(read["fields"]["n"], last.to_string());
    }
    for (letter, ..) in MOODS {
        assert_eq!(client.get(&path(&format!("{letter}-1"))).await.expect(200)["fields"]["n"], "7");
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_moody_strategy_harms_only_its_own_calls_on_the_embedded_stores() {
    harms_only_its_own_calls(Behind::Embedded).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_moody_strategy_harms_only_its_own_calls_on_real_servers() {
    harms_only_its_own_calls(Behind::RealServers).await;
}

const COUNT: &str = "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))";

/// From the second call of an instance on, which is never the one of the check.
fn later(code: &str) -> String {
    format!("{COUNT} (if (i32.gt_u (global.get $calls) (i32.const 1)) (then {code}))")
}

/// Writes one record twenty times, and looks after each that the last acknowledged value is there. Answers how
/// many writes were acknowledged.
async fn writes(client: &Client, id: &str) -> u64 {
    let (mut acknowledged, mut last) = (0, None);
    for n in 0..20 {
        let answer = put(client, id, n).await;
        match answer.status.as_u16() {
            200 => (acknowledged, last) = (acknowledged + 1, Some(n)),
            _ => problem(&answer, 502, "strategy-failed", "it "),
        }
        let read = client.get(&path(id)).await;
        match last {
            Some(n) => assert_eq!(read.expect(200)["fields"]["n"], n.to_string()),
            None => assert_eq!(read.status, 404),
        }
    }
    client.activate("dual_write").await;
    let last = last.map(|n: u64| json!(n.to_string()));
    assert_eq!(client.get(&path(id)).await.body["fields"].get("n"), last.as_ref());
    // A version that the strategy has spoiled would show here.
    for n in 100..103 {
        put(client, id, n).await.expect(200);
        assert_eq!(client.get(&path(id)).await.expect(200)["fields"]["n"], n.to_string());
    }
    acknowledged
}

async fn acknowledges_only_what_is_stored(behind: Behind) {
    let host = Host::start(behind, &[]).await;
    let client = &host.client;
    let drop_it = "(call $drop-record (local.get 0))";
    let conflict = "(i32.store8 (i32.const 16) (i32.const 1)) (i32.store8 (i32.const 24) (i32.const 2))
                    (i64.store (i32.const 32) (i64.const 9007199254740991)) (return (i32.const 16))";
    let cases: [(&str, &str, String, bool); 5] = [
        ("lies", "put", later(&format!("{drop_it} {ZEROS}")), false),
        ("stores_then_traps", "done", later("unreachable"), true),
        ("keeps_a_borrow", "done", later("(return (i32.const 16))"), true),
        ("invents_conflicts", "put", later(&format!("{drop_it} {conflict}")), false),
        ("stores_then_denies", "done", later(&format!("{drop_it} {conflict}")), true),
    ];
    for (name, place, code, stores) in cases {
        activate(client, name, &component(&[(place, &code)])).await;
        let acknowledged = writes(client, name).await;
        assert!(if stores { acknowledged == 20 } else { (1..20).contains(&acknowledged) }, "{name}");
    }
    host.stop().await;
}

#[tokio::test]
async fn a_lying_strategy_acknowledges_only_what_is_stored_in_the_embedded_stores() {
    acknowledges_only_what_is_stored(Behind::Embedded).await;
}

#[tokio::test]
async fn a_lying_strategy_acknowledges_only_what_is_stored_in_real_servers() {
    acknowledges_only_what_is_stored(Behind::RealServers).await;
}

/// Each instance works twice and then traps, so of calls one after the other every third fails.
#[tokio::test]
async fn a_strategy_that_traps_on_every_third_call_serves_the_others() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let client = &host.client;
    put(client, "x", 7).await.expect(200);
    let third =
        format!("{COUNT} (if (i32.eqz (i32.rem_u (global.get $calls) (i32.const 3))) (then unreachable))");
    let generation = activate(client, "thirds", &component(&[("get", &third)])).await;
    for call in 1..=30 {
        let answer = client.get(&path("x")).await;
        match call % 3 {
            0 => problem(&answer, 502, "strategy-failed", "it panicked"),
            _ => assert_eq!(answer.expect(200)["fields"]["n"], "7"),
        }
    }
    assert_eq!(calls(client, "thirds", generation, "failed").await, 10);
    assert_eq!(calls(client, "thirds", generation, "ok").await, 20);
    client.post("/admin/strategies/rollback", Value::Null).await.expect(200);
    assert_eq!(client.get(&path("x")).await.header("x-switchyard-strategy"), Some("dual_write@3"));
    host.stop().await;
}

/// 50 handles in each of 2,000 calls.
#[tokio::test]
async fn a_strategy_that_leaks_a_hundred_thousand_handles_goes_on() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let client = &host.client;
    put(client, "x", 7).await.expect(200);
    let get = "(call $get (local.get 0) (local.get 1) (local.get 2) (local.get 3) (i32.const 16))";
    let generation = activate(client, "leaks", &component(&[("get", &get.repeat(50))])).await;
    for _ in 0..2_000 {
        assert_eq!(client.get(&path("x")).await.expect(200)["fields"]["n"], "7");
    }
    assert_eq!(calls(client, "leaks", generation, "failed").await, 0);
    assert_eq!(client.activate("dual_write").await["drain"]["drained"], true);
    host.stop().await;
}
