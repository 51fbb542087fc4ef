//! The commands that are clients of the admin API, run as a person or a script runs them.

mod every;
mod fake;
mod following;
mod help;
mod program;
mod refusals;
mod served;
mod shapes;

use serde_json::{Value, json};

use self::fake::{Fake, Reply};
use self::program::run;

const HEALTH: &str = "GET /admin/database/health";
const STATUS: &str = "GET /admin/database/status";
const METRICS: &str = "GET /admin/database/metrics";
const TO_POSTGRES: &str = "POST /admin/database/sync/redis-to-postgres";
const CHECK: &str = "GET /admin/database/consistency-check";
const FIX: &str = "POST /admin/database/consistency-fix";
const OPERATION: &str = "GET /admin/operations/op-1";
const EVENTS: &str = "GET /admin/operations/op-1/events";

async fn one(line: &'static str, data: Value) -> Fake {
    Fake::start(&[(line, Reply::Data(data))]).await
}

async fn degraded() -> Fake {
    let replies =
        [(HEALTH, shapes::health("degraded")), (STATUS, shapes::status()), (METRICS, shapes::metrics())];
    Fake::start(&replies.map(|(line, data)| (line, Reply::Data(data)))).await
}

#[tokio::test]
async fn health_says_at_a_glance_how_it_stands() {
    let fake = degraded().await;
    let ran = run(&fake.url, &["health"]).await.with(1);
    ran.says(&["DEGRADED", "redis-lost", "redis: refused", "dual_write in force (generation 7)"]);
    ran.says(&["cache_first chosen, pinned", "of 2 nodes, 1 FAILED"]);
    let line =
        |store: &str| ran.stdout.lines().find(|line| line.starts_with(store)).expect("a line").to_owned();
    let (redis, postgres) = (line("redis"), line("postgres"));
    for word in
        ["DOWN", "open", "days ago", "12 records, 3 usage, oldest ", "17 ms", "no", "connection refused"]
    {
        assert!(redis.contains(word), "no {word} in {redis}");
    }
    assert!(
        postgres.contains(" up ") && postgres.contains("closed") && postgres.contains("23 ms"),
        "{postgres}"
    );
    assert!(!ran.stdout.contains("P99"), "{ran:?}");
}

#[tokio::test]
async fn health_in_detail_has_latencies_transitions_and_nodes() {
    let fake = degraded().await;
    let ran = run(&fake.url, &["health", "--verbose"]).await.with(1);
    ran.says(&["P99", "42 ms", "CHANGED AT", "2023-11-14 22:13:20", "cannot load the component", "in-force"]);
    let json = run(&fake.url, &["--json", "health", "-v"]).await.with(1).json();
    assert_eq!(json["status"], "degraded");
    assert_eq!(json["details"], json!({ "status": shapes::status(), "metrics": shapes::metrics() }));
}

#[tokio::test]
async fn health_for_a_script_is_what_the_server_says() {
    let fake = one(HEALTH, shapes::health("healthy")).await;
    let ran = run(&fake.url, &["health", "--json"]).await.with(0);
    assert_eq!(ran.json(), shapes::health("healthy"));
    assert_eq!(ran.stderr, "");
    // What else a server cannot say is no failure of what it can.
    let ran = run(&fake.url, &["health"]).await.with(0);
    ran.says(&["Status    healthy", "dual_write in force"]);
    ran.complains(&["not-found"]);
    let fake = one(HEALTH, shapes::health("unhealthy")).await;
    run(&fake.url, &["health", "--json"]).await.with(1);
}

#[tokio::test]
async fn metrics_are_shown_once_or_again_and_again() {
    let fake = one(METRICS, shapes::metrics()).await;
    let ran = run(&fake.url, &["metrics"]).await.with(0);
    ran.says(&[
        "90 s",
        "97.5 %",
        "P95",
        "1.5 ms",
        "1234",
        "carried 55",
        "75.0 % of reads",
        "reads closed, writes open",
    ]);
    assert_eq!(run(&fake.url, &["metrics", "--json"]).await.with(0).json(), shapes::metrics());
    let mut child = program::command(&fake.url, &["metrics", "--watch", "--interval", "1", "--json"]);
    let child = child.spawn().expect("the program");
    let pid = child.id().expect("its id");
    for _ in 0..3_000 {
        if fake.lines().len() >= 4 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    program::interrupt(pid);
    let ran = program::end(child).await.with(0);
    let lines: Vec<Value> =
        ran.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(lines.len() >= 2 && lines.iter().all(|line| *line == shapes::metrics()), "{lines:?}");
}

#[tokio::test]
async fn a_sync_says_what_it_did_and_what_it_skipped() {
    let fake = one(TO_POSTGRES, shapes::synced(0)).await;
    let sync = ["sync", "--source", "redis", "--target", "postgres", "--force"];
    let ran = run(&fake.url, &sync).await.with(0);
    ran.says(&["sync redis to postgres", "Copied 990", "unchanged 10", "usage balances 4", "Took 2.5 s"]);
    let fake = one("POST /admin/database/sync/postgres-to-redis", shapes::synced(60)).await;
    let sync = ["sync", "--source", "postgres", "--target", "redis", "--force"];
    let ran = run(&fake.url, &sync).await.with(1);
    ran.says(&["skipped 60", "api_key/broken", "a field is no text", "10 more"]);
    let json = run(&fake.url, &[&sync[..], &["--json"]].concat()).await.with(1);
    assert_eq!(json.json(), shapes::synced(60));
}

#[tokio::test]
async fn a_check_names_what_differs_and_why() {
    let fake = one(CHECK, shapes::checked(true)).await;
    run(&fake.url, &["check-consistency"]).await.with(0).says(&["Consistent: 1000 records compared"]);
    let fake = one("GET /admin/database/consistency-check?deep=true", shapes::checked(false)).await;
    let ran = run(&fake.url, &["check-consistency", "--deep"]).await.with(1);
    ran.says(&["INCONSISTENT: 1 differences", "api_key/one", "older", "4", "9", "Usage totals: 10 compared"]);
    let json = run(&fake.url, &["check-consistency", "--deep", "--json"]).await.with(1).json();
    assert_eq!(json, shapes::checked(false));
}

#[tokio::test]
async fn a_repair_is_shown_before_it_is_made() {
    let replies = [
        (FIX, Reply::Data(shapes::repair(true, &[]))),
        (FIX, Reply::Data(shapes::repair(false, &[json!({ "key": "api_key/two", "action": "look" })]))),
    ];
    let fake = Fake::start(&replies).await;
    let ran = run(&fake.url, &["check-consistency", "--fix", "--force"]).await.with(1);
    ran.says(&["Would repair 1", "Repaired 1; 1 need a person", "api_key/two"]);
    let bodies: Vec<Value> =
        fake.asked().iter().map(|asked| serde_json::from_slice(&asked.body).expect("JSON")).collect();
    assert_eq!(bodies, [json!({ "dry_run": true }), json!({ "dry_run": false })]);
    let fake = one(
        FIX,
        shapes::operation(
            "fix",
            "done",
            json!({ "dry_run": true, "result": shapes::checked(true)["result"] }),
        ),
    )
    .await;
    run(&fake.url, &["check-consistency", "--fix", "--force"]).await.with(0).says(&["Consistent"]);
    assert_eq!(fake.lines().len(), 1);
}

#[tokio::test]
async fn a_switch_takes_both_spellings_and_says_how_each_node_took_it() {
    let activate = "POST /admin/strategies/cache_first/activate";
    let fake = Fake::start(&[
        (activate, Reply::Plain(200, shapes::switched("cache_first", &[shapes::node("a", "in-force")]))),
        (activate, Reply::Plain(200, shapes::switched("cache_first", &[shapes::node("b", "failed")]))),
    ])
    .await;
    let ran = run(&fake.url, &["switch-strategy", "cache-first", "--pin", "--force"]).await.with(0);
    ran.says(&["cache_first has taken over from dual_write (generation 8)", "pinned", "in-force", "1.25 ms"]);
    let arguments = ["strategy", "activate", "cache_first", "--digest", "ab", "--even-if-down", "--force"];
    run(&fake.url, &arguments).await.with(1).says(&["failed", "cannot load the component"]);
    let bodies: Vec<Value> =
        fake.asked().iter().map(|asked| serde_json::from_slice(&asked.body).expect("JSON")).collect();
    assert_eq!(bodies, [json!({ "pin": true }), json!({ "digest": "ab", "force": true })]);
    for left in ["waiting", "gone"] {
        let nodes = [shapes::node("a", "in-force"), shapes::node("b", left)];
        let fake =
            Fake::start(&[(activate, Reply::Plain(200, shapes::switched("cache_first", &nodes)))]).await;
        run(&fake.url, &["switch-strategy", "cache_first", "--force"]).await.with(1).says(&[left]);
    }
    let fake = Fake::start(&[(activate, Reply::Plain(200, shapes::switched("postgres_only", &[])))]).await;
    let ran = run(&fake.url, &["switch-strategy", "cache_first", "--force"]).await.with(1);
    ran.says(&[
        "cache_first is chosen, and not in force yet",
        "postgres_only stands in for it: Redis is lost",
    ]);
}

#[tokio::test]
async fn an_upload_is_sent_with_its_digest() {
    let kept = json!({ "name": "mine", "digest": "ab", "size": 3, "created": true });
    let fake = Fake::start(&[("PUT /admin/strategies/mine", Reply::Plain(201, kept))]).await;
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), b"abc").expect("a file");
    let path = file.path().to_str().expect("UTF-8");
    run(&fake.url, &["strategy", "upload", path, "mine"]).await.with(0).says(&["mine is kept", "3 bytes"]);
    let asked = &fake.asked()[0];
    let digest = "sha-256=:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:";
    assert_eq!(
        (&asked.body[..], &asked.headers["content-digest"]),
        (&b"abc"[..], &digest.parse().expect("a header"))
    );
}

#[tokio::test]
async fn nodes_and_conflicts_are_findings_when_they_are_bad() {
    let fake = one(STATUS, shapes::status()).await;
    let ran = run(&fake.url, &["nodes"]).await.with(1);
    ran.says(&["NODE", "in-force", "failed", "cannot load the component", "120 ms"]);
    assert_eq!(run(&fake.url, &["nodes", "--json"]).await.with(1).json(), shapes::status()["nodes"]);
    let conflicts = "GET /admin/database/conflicts";
    let kept = json!({ "store": "postgres", "version": 9, "deleted": false });
    let dropped = json!({ "store": "redis", "version": 4, "deleted": true, "fields": {} });
    let conflict =
        json!({ "key": "api_key/one", "at": 1_700_000_000_000_i64, "kept": kept, "dropped": dropped });
    let data = json!({ "conflicts": [conflict], "total": 1 });
    let fake = one(conflicts, data.clone()).await;
    let ran = run(&fake.url, &["conflicts"]).await.with(1);
    ran.says(&["api_key/one", "postgres 9", "redis 4 (deleted)", "2023-11-14 22:13:20"]);
    assert_eq!(run(&fake.url, &["conflicts", "--json"]).await.with(1).json(), data);
    let first = json!({ "conflicts": data["conflicts"], "total": 2, "next": "c" });
    let second = json!({ "conflicts": data["conflicts"], "total": 2, "next": null });
    let pages =
        [(conflicts, Reply::Data(first)), ("GET /admin/database/conflicts?cursor=c", Reply::Data(second))];
    let fake = Fake::start(&pages).await;
    run(&fake.url, &["conflicts"]).await.with(1).says(&["2 of 2"]);
    let fake = one(conflicts, json!({ "conflicts": [], "total": 0 })).await;
    run(&fake.url, &["conflicts"]).await.with(0).says(&["No conflicts."]);
}

#[tokio::test]
async fn the_cache_is_cleared_and_the_pin_taken_out() {
    let data = json!({ "clearedKeys": 42, "message": "cached copies dropped" });
    let fake = Fake::start(&[
        ("POST /admin/database/cache/clear", Reply::Data(data.clone())),
        ("DELETE /admin/database/pin", Reply::Data(json!({ "pinned": false }))),
    ])
    .await;
    run(&fake.url, &["clear-cache", "--force"]).await.with(0).says(&["cached copies dropped", "42 keys"]);
    let ran = run(&fake.url, &["clear-cache", "--force", "--json", "--pattern", "session:*"]).await.with(0);
    assert_eq!(ran.json(), data);
    let bodies: Vec<_> = fake.asked().iter().map(|asked| asked.body.clone()).collect();
    assert_eq!(bodies, [&b""[..], br#"{"pattern":"session:*"}"#]);
    run(&fake.url, &["strategy", "unpin", "--force"]).await.with(0);
}

#[tokio::test]
async fn operations_are_listed_shown_and_cancelled() {
    let running = shapes::operation("check", "running", json!({ "done": 400 }));
    let failed = shapes::operation("check", "failed", json!({ "error": "PostgreSQL is gone" }));
    let cancelled = shapes::operation("check", "cancelled", json!({ "done": 400 }));
    let fake = Fake::start(&[
        ("GET /admin/operations", Reply::Plain(200, json!({ "operations": [running] }))),
        (OPERATION, Reply::Plain(200, running.clone())),
        (OPERATION, Reply::Plain(200, failed)),
        ("DELETE /admin/operations/op-1", Reply::Plain(200, cancelled.clone())),
    ])
    .await;
    run(&fake.url, &["operation", "list"]).await.with(0).says(&["op-1", "running", "400 of 1000"]);
    run(&fake.url, &["operation", "show", "op-1"]).await.with(0).says(&["op-1", "running"]);
    run(&fake.url, &["operation", "show", "op-1"]).await.with(1).says(&["PostgreSQL is gone"]);
    for _ in 0..2 {
        run(&fake.url, &["operation", "cancel", "op-1"]).await.with(0).says(&["op-1: cancelled"]);
    }
    let json = run(&fake.url, &["operation", "cancel", "op-1", "--json"]).await.with(0).json();
    assert_eq!(json, cancelled);
    let ran = run(&fake.url, &["operation", "show", "unknown"]).await.with(2);
    ran.complains(&["not-found", "the detail of not-found"]);
}

#[tokio::test]
async fn completions_come_for_every_shell_and_without_a_server() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = run("http://127.0.0.1:1", &["completions", shell]).await.with(0);
        ran.says(&["check-consistency", "rollback"]);
    }
}
