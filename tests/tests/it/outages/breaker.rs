//! How soon a store that is away is known to be, that nobody waits for it then, and that it is taken up again.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use switchyard::store::breaker::{Circuit, State};
use switchyard::store::kind::ACCOUNT;
use switchyard::store::side::Side;
use switchyard::store::{Key, Store, StoreError};
use switchyard_tests::host::Client;
use switchyard_tests::servers::{Postgres, Redis};
use switchyard_tests::timing::is_kept_once;

use super::{Stage, is_down, is_up, until};

/// What is promised, of which one of three must keep it, and by how much a busy machine may miss it.
const REFUSED: Duration = Duration::from_millis(500);
const SILENT: Duration = Duration::from_secs(2);
const BUSY: u32 = 4;

/// A call of a store that is down; the fastest of a few, because the machine may be busy.
async fn refusal(side: &Side) -> Duration {
    let key = Key::new(&ACCOUNT, "a").unwrap();
    let mut fastest = Duration::MAX;
    for _ in 0..20 {
        let began = Instant::now();
        let refused = side.get(&key).await;
        fastest = fastest.min(began.elapsed());
        let Err(StoreError::Unavailable(why)) = refused else { panic!("{refused:?}") };
        assert!(why.starts_with(&format!("{} is down: ", side.which.name())), "{why}");
    }
    fastest
}

/// A fault of a store, and its end.
type Fault = (fn(&mut Stage), fn(&mut Stage));

async fn is_noticed(stage: &mut Stage, side: fn(&Stage) -> &Side, fault: Fault, within: Duration) {
    let once = async || {
        fault.0(stage);
        let took = notice(stage, side, within).await;
        fault.1(stage);
        until("up", || is_up(side(stage))).await;
        took
    };
    is_kept_once("a store that is away is noticed", within, once).await;
}

/// Nobody asks for anything meanwhile: it is the probe that notices.
async fn notice(stage: &Stage, side: fn(&Stage) -> &Side, within: Duration) -> Duration {
    let name = side(stage).which.name();
    let opened = until("both circuits are open", || is_down(side(stage))).await;
    assert!(opened <= within * BUSY, "{name} was noticed after {opened:?}");
    let refused = refusal(side(stage)).await;
    assert!(refused < Duration::from_millis(1), "{name} refused after {refused:?}");
    let health = stage.client.get("/admin/database/health").await.expect(200)["data"].clone();
    let stores = health["stores"].as_array().expect("the stores");
    let store = stores.iter().find(|store| store["store"] == name).expect("the store");
    assert_eq!(health["databases"][name], false);
    assert_eq!((&health["status"], &store["up"]), (&json!("degraded"), &json!(false)));
    assert!(["open", "half-open"].iter().any(|state| store["writes"] == *state), "{store}");
    assert!(store["error"].is_string() && store["since"].is_i64(), "{store}");
    opened
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_away_is_noticed_and_taken_up_again() {
    let mut stage = Stage::start().await;
    let dead: Fault = (|s| s.redis.kill(), |s| s.redis.restart());
    is_noticed(&mut stage, Stage::redis_side, dead, REFUSED).await;
    let frozen: Fault = (|s| s.redis.pause(), |s| s.redis.resume());
    is_noticed(&mut stage, Stage::redis_side, frozen, SILENT).await;
    stage.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_is_away_is_noticed_and_taken_up_again() {
    let mut stage = Stage::start().await;
    let dead: Fault = (|s| s.postgres.kill(), |s| s.postgres.restart());
    is_noticed(&mut stage, Stage::postgres_side, dead, REFUSED).await;
    let frozen: Fault = (|s| s.postgres.pause(), |s| s.postgres.resume());
    is_noticed(&mut stage, Stage::postgres_side, frozen, SILENT).await;
    stage.server.shutdown().await;
}

/// Sends one command on a connection of its own and answers the first line.
fn redis(stage: &Stage, command: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", stage.redis.port())).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    stream.write_all(format!("{command}\r\n").as_bytes()).expect("sent");
    let mut answer = [0; 512];
    let length = stream.read(&mut answer).expect("an answer");
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

/// Down for writes, with this reason, while reads go on; up again when the cause is gone.
async fn refuses_writes(stage: &Stage, side: &Side, reason: &str, heal: impl AsyncFnOnce()) {
    until(reason, || !side.breaker().up_for_writes()).await;
    let writes = side.breaker().state(Circuit::Writes);
    assert!(writes.reason.as_ref().is_some_and(|why| why.contains(reason)), "{reason}: {writes:?}");
    assert_eq!(side.breaker().state(Circuit::Reads).state, State::Closed, "{reason}");
    // Whether they count is another question: other nodes' writes are in the other store alone now.
    assert!(side.backend.get(&Key::new(&ACCOUNT, "a").unwrap()).await.unwrap().is_some());
    let written = stage.client.put("/store/v1/records/account/b", json!({ "fields": {} })).await.expect(200);
    assert_ne!(written["durability"], side.which.name(), "{written}");
    heal().await;
    until("up", || is_up(side)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_refuses_writes_is_down_for_writes() {
    let redis_server = Redis::start_with(&["--enable-protected-configs", "yes"]);
    let stage = Stage::start_on(redis_server, Postgres::start()).await;
    stage.client.put("/store/v1/records/account/a", json!({ "fields": {} })).await.expect(200);
    let side = stage.redis_side();
    let ask = |command: &str| {
        let answer = redis(&stage, command);
        assert!(answer.starts_with('+'), "{command}: {answer}");
    };
    ask("CONFIG SET maxmemory 1");
    refuses_writes(&stage, side, "OOM", async || ask("CONFIG SET maxmemory 0")).await;
    // A snapshot that cannot be written.
    let folder = redis(&stage, "CONFIG GET dir");
    let folder = folder.lines().nth(4).expect("a folder").trim().to_owned();
    ask("CONFIG SET save \"3600 1000000\"");
    ask("CONFIG SET dir /proc");
    redis(&stage, "BGSAVE");
    refuses_writes(&stage, side, "MISCONF", async || {
        ask(&format!("CONFIG SET dir {folder}"));
        ask("CONFIG SET save \"\"");
    })
    .await;
    // A replica may lag behind its primary, so that it is not asked at all.
    ask("REPLICAOF 127.0.0.1 1");
    until("a replica is down", || !side.breaker().up_for_writes()).await;
    ask("REPLICAOF NO ONE");
    until("up", || is_up(side)).await;
    stage.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_is_read_only_is_down_for_writes() {
    let stage = Stage::start().await;
    stage.client.put("/store/v1/records/account/a", json!({ "fields": {} })).await.expect(200);
    let set = async |value: &'static str| {
        let mut connection = PgConnection::connect(&stage.postgres.url()).await.expect("a connection");
        for statement in [value, "select pg_reload_conf()"] {
            sqlx::raw_sql(statement).execute(&mut connection).await.expect(statement);
        }
    };
    set("alter system set default_transaction_read_only = on").await;
    let heal = async || set("alter system reset default_transaction_read_only").await;
    refuses_writes(&stage, stage.postgres_side(), "read-only", heal).await;
    stage.server.shutdown().await;
}

/// Mean and percentiles are of the calls that were tried, and rates of all of them.
#[tokio::test]
async fn the_metrics_of_the_stores_are_true() {
    let mut stage = Stage::start().await;
    let client = &stage.client;
    client.post("/admin/strategies/dual_write/activate", json!({ "pin": true })).await.expect(200);
    for id in ["a", "b"] {
        let path = format!("/store/v1/records/account/{id}");
        client.put(&path, json!({ "fields": {} })).await.expect(200);
        client.get(&path).await.expect(200);
    }
    client.get("/store/v1/records/account/none").await.expect(404);
    let metrics = client.get("/admin/database/metrics").await.expect(200)["data"].clone();
    let redis = &metrics["stores"]["redis"];
    assert_eq!(redis["hit_rate"], json!(2.0 / 3.0), "{redis}");
    assert_eq!((&redis["error_rate"], &redis["errors"]), (&json!(0.0), &json!(0)));
    assert_eq!(redis["operations"]["get"]["calls"], 3);
    let of = |name: &str| redis["operations"]["put"][name].as_f64().unwrap();
    assert!(of("mean_ms") > 0.0 && of("p50_ms") > 0.0, "{redis}");
    assert!(of("p50_ms") <= of("p95_ms") && of("p95_ms") <= of("p99_ms"), "{redis}");
    assert_eq!((&redis["breaker"]["reads"], &redis["up"]), (&json!("closed"), &json!(true)));
    assert_eq!((&metrics["mode"], &metrics["strategy"]), (&json!("normal"), &json!("dual_write")));
    let health = client.get("/admin/database/health").await.expect(200)["data"].clone();
    assert_eq!((&health["stats"]["redisHits"], &health["stats"]["redisMisses"]), (&json!(2), &json!(1)));

    stage.redis.kill();
    until("down", || is_down(stage.redis_side())).await;
    for _ in 0..7 {
        stage.client.get("/store/v1/records/account/a").await.expect(200);
    }
    let lost = async |client: &Client| {
        client.get("/admin/database/metrics").await.body["data"]["mode"] == "redis-lost"
    };
    stage.client.until("the mode is told", lost).await;
    let metrics = stage.client.get("/admin/database/metrics").await.expect(200)["data"].clone();
    let redis = &metrics["stores"]["redis"];
    assert_eq!((&metrics["mode"], &redis["errors"]), (&json!("redis-lost"), &json!(7)), "{redis}");
    assert_eq!(redis["operations"]["get"]["calls"], 10);
    let status = stage.client.get("/admin/database/status").await.expect(200)["data"].clone();
    assert_eq!((&status["mode"], &status["active"]["name"]), (&json!("redis-lost"), &json!("dual_write")));
    let text = stage.client.get("/metrics").await.body;
    let gauge = "switchyard_redis_writes_breaker_open 1";
    assert!(matches!(&text, Value::String(text) if text.contains(gauge)), "{text}");
    stage.server.shutdown().await;
}
