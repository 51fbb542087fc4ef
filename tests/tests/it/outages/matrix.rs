//! Every built-in strategy in every outage: what is answered, how soon, and what is owed. The same run makes
//! `docs/outages.md`, so that the page cannot say anything else than what happens.

mod observed;
mod page;
mod promise;
mod stale;

use std::path::Path;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;
use switchyard::store::kind::{ACCOUNT, API_KEY};
use switchyard::store::side::Side;
use switchyard::store::{Key, Version};
use switchyard_tests::host::{Answer, Body, Client};
use switchyard_tests::timing;

use self::observed::{Observed, Said};
use self::promise::{AFTERWARDS, ALL_BY_POSTGRES, ALL_BY_REDIS, Lost, OUTAGES, Outage, promised};
use super::{Stage, is_down, until};

const STRATEGIES: [&str; 5] = ["dual_write", "cache_first", "database_first", "redis_only", "postgres_only"];
const OPERATIONS: [&str; 5] = ["get", "find", "put", "delete", "add"];
/// How often everything is asked once the breaker is open, and how often at most until all of it was prompt: the
/// fastest counts, because machines are busy.
const TRIES: usize = 3;
const MOST_TRIES: usize = 9;
/// By how much a busy machine may miss what is promised, as long as it is kept once of three times.
const BUSY: u32 = 4;

fn account(id: &str) -> String {
    format!("/store/v1/records/account/{id}")
}

/// Ids of what one round of questions writes and deletes: all of them exist before the outage.
fn ids(strategy: &str, round: usize) -> [String; 2] {
    ["put", "delete"].map(|what| format!("{what}-{strategy}-{round}"))
}

/// The version that was acknowledged, if it was.
fn version(answer: &Answer) -> Option<Version> {
    answer.status.is_success().then(|| answer.body["version"].as_u64())?
}

/// One answer of each operation, asked all at once.
async fn ask(client: &Client, strategy: &str, round: usize) -> [Said; 5] {
    let [put, delete] = ids(strategy, round);
    let event = json!({
        "id": format!("event-{strategy}-{round}"), "key_id": "k", "model": "m",
        "at": jiff::Timestamp::now().to_string(), "input_tokens": 1,
    });
    let one = async |operation: &str| {
        let (method, path, body) = match operation {
            "get" => (Method::GET, account("held"), Body::None),
            "find" => (Method::GET, "/store/v1/records/api_key?index=hash&value=h".to_owned(), Body::None),
            "put" => (Method::PUT, account(&put), Body::Json(json!({ "fields": { "n": "2" } }))),
            "delete" => (Method::DELETE, account(&delete), Body::None),
            _ => {
                (Method::POST, "/store/v1/usage".to_owned(), Body::Json(json!({ "events": [event.clone()] })))
            }
        };
        let began = Instant::now();
        let answer = client.send(method, &path, &[], body).await;
        let took = began.elapsed();
        let status = answer.status.as_u16();
        assert!(status != 503 || answer.header("retry-after").is_some(), "{operation}: {answer:?}");
        let acknowledged = match operation {
            "put" => version(&answer).map(|version| (put.clone(), version)),
            "delete" => version(&answer).map(|version| (delete.clone(), version)),
            _ => None,
        };
        let said = match (operation, status) {
            ("get" | "find", 200) => {
                assert_eq!(answer.body["fields"]["n"], "1", "{strategy} {operation}: what was written last");
                "200".to_owned()
            }
            (_, 200) => format!("200 {}", answer.body["durability"].as_str().unwrap_or_default()),
            _ => status.to_string(),
        };
        Said { status: said, took, acknowledged, marked_stale: stale::is_marked(&answer) }
    };
    let [get, find, put, delete, add] = OPERATIONS;
    tokio::join!(one(get), one(find), one(put), one(delete), one(add)).into()
}

/// No automatic change of the strategy, where there is one.
async fn pin(client: &Client, strategy: &str) {
    let path = format!("/admin/strategies/{strategy}/activate");
    for body in [json!({ "pin": true }), json!({})] {
        for _ in 0..100 {
            match client.post(&path, body.clone()).await.status.as_u16() {
                200 => return,
                // This host knows of no pins.
                400 => break,
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
    panic!("{strategy} cannot be activated");
}

/// What both stores hold before the outage, and nothing owed.
async fn prepare(stage: &Stage, strategy: &str) {
    pin(&stage.client, "dual_write").await;
    let held =
        (0..=MOST_TRIES).flat_map(|round| ids(strategy, round)).chain(["held", "other"].map(str::to_owned));
    for id in held {
        let put = async |client: &Client| {
            let written = client.put(&account(&id), json!({ "fields": { "n": "1" } })).await;
            written.body["durability"] == "both"
        };
        stage.client.until("a write into both", put).await;
    }
    let key = json!({ "fields": { "apiKey": "h", "n": "1" } });
    stage.client.put("/store/v1/records/api_key/k", key).await.expect(200);
    until_nothing_is_owed(stage).await;
    pin(&stage.client, strategy).await;
}

async fn until_nothing_is_owed(stage: &Stage) {
    let nothing = async |_: &Client| {
        owes(stage.redis_side()).await == Some(false) && owes(stage.postgres_side()).await == Some(false)
    };
    stage.client.until("nothing is owed", nothing).await;
}

/// Whether a store owes anything to the other; none when it does not answer.
async fn owes(side: &Side) -> Option<bool> {
    side.backend.backlog().await.ok().map(|backlog| !backlog.is_empty())
}

/// What is owed now, in words.
async fn owed(stage: &Stage, lost: Lost) -> &'static str {
    let by_redis = lost != Lost::Redis && owes(stage.redis_side()).await == Some(true);
    let by_postgres = lost != Lost::Postgres && owes(stage.postgres_side()).await == Some(true);
    match (by_redis, by_postgres) {
        (true, false) => ALL_BY_REDIS.1,
        (false, true) => ALL_BY_POSTGRES.1,
        (false, false) => "nothing",
        (true, true) => "by each to the other",
    }
}

/// One strategy in one outage.
async fn observe(stage: &mut Stage, outage: &Outage, strategy: &str) -> Observed {
    prepare(stage, strategy).await;
    let alone = stale::acknowledging(stage, strategy).await;
    tokio::task::block_in_place(|| (outage.begin)(stage));
    let first = ask(&stage.client, strategy, 0).await;
    let lost = |stage: &Stage| {
        let redis = outage.lost == Lost::Postgres || is_down(stage.redis_side());
        redis && (outage.lost == Lost::Redis || is_down(stage.postgres_side()))
    };
    let place = format!("{strategy}, {}", outage.name);
    until("the breaker is open", || lost(stage)).await;
    let mut fastest = [Duration::MAX; 5];
    let mut acknowledged: Vec<_> = first.iter().filter_map(|said| said.acknowledged.clone()).collect();
    for round in 1..=MOST_TRIES {
        if round > TRIES && fastest.iter().all(|took| *took <= AFTERWARDS.0) {
            break;
        }
        for (at, said) in ask(&stage.client, strategy, round).await.into_iter().enumerate() {
            let (now, before) =
                ((said.status, said.marked_stale), (&first[at].status, first[at].marked_stale));
            let same = (&now.0, now.1) == before;
            assert!(same, "{place}: {} was {before:?}, and {now:?} with the breaker open", OPERATIONS[at]);
            fastest[at] = said.took.min(fastest[at]);
            acknowledged.extend(said.acknowledged);
        }
    }
    let longest = first.each_ref().map(|said| said.took);
    for at in 0..OPERATIONS.len() {
        let (longest, fastest) = (longest[at], fastest[at]);
        assert!(longest <= outage.until_open.0 * BUSY, "{place}: {} took {longest:?}", OPERATIONS[at]);
        assert!(fastest <= AFTERWARDS.0 * BUSY, "{place}: {} took {fastest:?} afterwards", OPERATIONS[at]);
    }
    let owed = owed(stage, outage.lost).await;
    let stale = stale::observe(stage, outage.lost, &first, &alone).await;
    tokio::task::block_in_place(|| (outage.end)(stage));
    stage.until_up().await;
    is_in_both(stage, strategy, &acknowledged).await;
    Observed { answers: first.map(|said| said.status), owed, stale, longest, fastest }
}

/// Nobody has done anything but take up a strategy of two stores again, where that was not in force.
async fn is_in_both(stage: &Stage, strategy: &str, acknowledged: &[(String, Version)]) {
    if strategy.ends_with("_only") {
        pin(&stage.client, "dual_write").await;
    }
    until_nothing_is_owed(stage).await;
    let held = async |side: &Side, key: &Key| side.backend.get(key).await.expect("an answer");
    for id in (0..=MOST_TRIES).flat_map(|round| ids(strategy, round)) {
        let key = Key::new(&ACCOUNT, &id).expect("a key");
        let (redis, postgres) =
            (held(stage.redis_side(), &key).await, held(stage.postgres_side(), &key).await);
        let of = |held: &Option<_>| {
            held.as_ref()
                .map(|record: &std::sync::Arc<switchyard::store::Record>| (record.version, record.deleted))
        };
        assert_eq!(of(&redis), of(&postgres), "{id}");
        let promised = acknowledged
            .iter()
            .filter(|(acknowledged, _)| *acknowledged == id)
            .map(|(_, version)| *version)
            .max();
        assert!(of(&redis).map(|(version, _)| version) >= promised, "{id}: {promised:?} was acknowledged");
    }
    let key = Key::new(&API_KEY, "k").expect("a key");
    assert!(
        held(stage.redis_side(), &key).await.is_some() && held(stage.postgres_side(), &key).await.is_some()
    );
}

/// Every strategy in one outage, one after the other on the same stage.
async fn observe_all(outage: &'static Outage) -> Vec<Observed> {
    let mut stage = Stage::start().await;
    let mut rows = Vec::new();
    for strategy in STRATEGIES {
        let mut observed = observe(&mut stage, outage, strategy).await;
        for _ in 1..timing::TRIES {
            if !observed.is_prompt(outage) {
                observed = observe(&mut stage, outage, strategy).await.or(&observed);
            }
        }
        let Observed { longest, fastest, .. } = &observed;
        let took = format!("{strategy}, {}: {longest:?} at first, {fastest:?} afterwards", outage.name);
        assert!(observed.is_prompt(outage), "{took}, the best of {} times", timing::TRIES);
        rows.push(observed);
    }
    stage.server.shutdown().await;
    rows
}

/// The outages at the same time, each in a runtime of its own: ending a server blocks.
fn observe_everything() -> Vec<Vec<Observed>> {
    let run = |outage: &'static Outage| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.expect("a runtime").block_on(observe_all(outage))
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = OUTAGES.iter().map(|outage| scope.spawn(move || run(outage))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic in the outage")).collect()
    })
}

#[test]
fn every_strategy_answers_in_every_outage_as_the_page_says() {
    let observed = observe_everything();
    for (outage, rows) in OUTAGES.iter().zip(&observed) {
        for (strategy, observed) in STRATEGIES.iter().zip(rows) {
            let (promised, then_owed) = promised(strategy, outage.lost);
            let place = format!("{strategy}, {}", outage.name);
            assert_eq!(
                (&observed.answers, observed.owed),
                (&promised.map(str::to_owned), then_owed),
                "{place}"
            );
            assert_eq!(observed.stale, stale::promised(strategy, outage.lost), "{place}");
        }
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/outages.md");
    let made = page::page(&observed);
    if std::env::var_os("SWITCHYARD_WRITE_DOCS").is_some() {
        std::fs::write(&file, &made).expect("the page");
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    let how =
        "docs/outages.md is not what was observed; SWITCHYARD_WRITE_DOCS=1 with this test makes it anew";
    assert_eq!(committed, made, "{how}");
}
