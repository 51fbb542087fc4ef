//! What was used and what it cost, as an admin reads it.

use serde_json::{Value, json};
use switchyard::server::Server;
use switchyard_tests::host::{Behind, Client, Host, config};
use switchyard_tests::relay_database::RelayDatabase;
use switchyard_tests::servers;

fn event(id: &str, key: &str, model: &str, at: &str) -> Value {
    json!({
        "id": id, "key_id": key, "account_id": "acc", "model": model, "at": at,
        "input_tokens": 5, "cost_micro_usd": 7, "request_id": "req_1", "partial": true,
    })
}

async fn count(client: &Client, events: &[Value]) {
    let counted = client.post("/store/v1/usage", json!({ "events": events })).await.expect(200);
    assert_eq!(counted["recorded"], events.len(), "{counted}");
}

async fn data(client: &Client, path: &str) -> Value {
    let answer = client.get(path).await.expect(200);
    assert_eq!(answer["success"], true);
    answer["data"].clone()
}

#[tokio::test]
async fn usage_is_told_by_key_account_and_model_on_the_embedded_stores() {
    usage_is_told_by_key_account_and_model(Behind::Embedded).await;
}

#[tokio::test]
async fn usage_is_told_by_key_account_and_model_on_real_servers() {
    usage_is_told_by_key_account_and_model(Behind::RealServers).await;
}

async fn usage_is_told_by_key_account_and_model(behind: Behind) {
    let host = Host::start(behind, &["--timezone-offset", "8"]).await;
    let client = &host.client;
    // What Redis does not have, PostgreSQL answers once it is known to be complete.
    let nobody = "/admin/usage?subject=model&id=nobody";
    client.until("the stores can say", async |client| client.get(nobody).await.status == 200).await;
    let events = [
        event("e1", "k1", "claude-opus-4-5", "2026-01-31T15:59:59Z"),
        event("e2", "k1", "claude-opus-4-5", "2026-01-31T16:00:00Z"),
        event("e3", "k1", "us.anthropic.odd/model-v1:0", "2026-01-31T16:00:00Z"),
        event("e4", "k2", "claude-opus-4-5", "2026-02-01T16:00:00Z"),
    ];
    count(client, &events).await;

    let daily = "/admin/usage?window=daily&from=2026-01-01&to=2026-02-10";
    let of = async |query: &str| {
        let told = data(client, &format!("{daily}&{query}")).await;
        let rows = told["rows"].as_array().unwrap().iter();
        let rows: Vec<_> =
            rows.map(|row| json!([row["window"], row["requests"], row["cost_micro_usd"]])).collect();
        (Value::from(rows), told["total"]["requests"].clone())
    };
    let first = json!(["daily:2026-01-31", 1, 7]);
    assert_eq!(of("id=k1").await, (json!([first, ["daily:2026-02-01", 2, 14]]), json!(3)));
    assert_eq!(of("id=k1&model=claude-opus-4-5").await.1, 2);
    assert_eq!(of("subject=key&id=k1&model=odd/model").await.0, json!([["daily:2026-02-01", 1, 7]]));
    assert_eq!(of("subject=account&id=acc").await.1, 4);
    assert_eq!(of("subject=model&id=claude-opus-4-5").await.1, 3);
    assert_eq!(of("subject=model&id=us.anthropic.odd/model-v1:0").await.1, 1);
    assert_eq!(of("subject=model&id=nobody").await, (json!([]), json!(0)));
    let weekly = data(client, "/admin/usage?id=k2&window=weekly&from=2026-02-01&to=2026-02-03").await;
    assert_eq!(weekly["rows"][0]["window"], "weekly:2026-W06");

    let ids = async |query: &str| {
        let told = data(client, &format!("/admin/usage?{query}")).await;
        let ids = told["rows"].as_array().unwrap().iter().map(|row| row["id"].clone());
        (Value::from(ids.collect::<Vec<_>>()), told["next"].as_str().map(str::to_owned))
    };
    assert_eq!(ids("").await, (json!(["k1", "k2"]), None));
    assert_eq!(ids("subject=account").await.0, json!(["acc"]));
    assert_eq!(ids("subject=model").await.0, json!(["claude-opus-4-5", "odd/model"]));
    let (page, next) = ids("subject=model&limit=1").await;
    assert_eq!(page, json!(["claude-opus-4-5"]));
    let next = format!("subject=model&limit=1&cursor={}", next.unwrap());
    assert_eq!(ids(&next).await.0, json!(["odd/model"]));

    let summary = data(client, "/admin/usage/summary").await;
    assert_eq!((&summary["total"]["requests"], &summary["total"]["cost_micro_usd"]), (&json!(4), &json!(28)));
    let priced: Vec<_> =
        summary["models"].as_array().unwrap().iter().map(|row| row["priced"].clone()).collect();
    assert_eq!(priced, [true, false], "a model without a price is flagged: {summary}");
    assert_eq!((&summary["held"], &summary["prices"]["source"]), (&json!(0), &json!("shipped")));
    host.stop().await;
}

/// PostgreSQL is new and has not taken over yet what Claude Relay Service has counted in Redis.
#[tokio::test]
async fn what_one_store_lacks_is_told_by_the_other_one() {
    let redis = servers::Redis::start();
    let crs = RelayDatabase::open(&redis.url()).await;
    crs.fill(3).await;
    let (url, postgres) = (redis.url(), servers::Postgres::shared().database().await);
    let flags = ["--redis-url", &url, "--postgres-url", &postgres, "--database-sync-on-startup", "false"];
    let host = Host::start_in(tempfile::tempdir().unwrap(), Some(redis), &flags).await;
    let client = &host.client;
    count(client, &[event("e1", "key-0", "claude-opus-4-5", "2026-01-31T12:00:00Z")]).await;
    client
        .until("Redis is known to have all", async |client| client.get("/admin/usage").await.status == 200)
        .await;
    let rows = data(client, "/admin/usage").await["rows"].clone();
    let mut requests: Vec<_> =
        rows.as_array().unwrap().iter().map(|row| row["requests"].as_u64().unwrap()).collect();
    requests.sort_unstable();
    assert_eq!(requests, [2, 2, 3], "{rows}");
    let summary = data(client, "/admin/usage/summary").await;
    assert_eq!(summary["total"]["requests"], 7, "{summary}");
    assert_eq!(summary["complete"], false, "nobody has counted its models: {summary}");
    // Nobody else has it.
    let refused = client.post("/admin/strategies/postgres_only/activate", json!({ "force": true })).await;
    if refused.status == 200 {
        client.get("/admin/usage").await.expect(503);
        client.get("/admin/usage/summary").await.expect(503);
    }
    host.stop().await;
}

#[tokio::test]
async fn a_wrong_question_is_answered_by_what_is_wrong_with_it_on_the_embedded_stores() {
    a_wrong_question_is_answered_by_what_is_wrong_with_it(Behind::Embedded).await;
}

#[tokio::test]
async fn a_wrong_question_is_answered_by_what_is_wrong_with_it_on_real_servers() {
    a_wrong_question_is_answered_by_what_is_wrong_with_it(Behind::RealServers).await;
}

async fn a_wrong_question_is_answered_by_what_is_wrong_with_it(behind: Behind) {
    let host = Host::start(behind, &[]).await;
    for (query, code, says) in [
        ("subject=person", "invalid-query", "person"),
        ("id=a/b", "invalid-id", "A-Z"),
        ("id=k&window=yearly", "invalid-query", "yearly"),
        ("id=k&window=daily&from=yesterday", "invalid-query", "from is a day"),
        ("id=k&window=daily&from=2026-02-02&to=2026-02-01", "invalid-query", "from is after to"),
        ("id=k&window=hourly&from=2020-01-01", "invalid-query", "800 windows"),
        ("subject=model&id=m&model=n", "invalid-query", "subject=key only"),
        ("window=daily", "invalid-query", "give its id"),
        ("limit=0", "invalid-query", "1 to 1000"),
        ("cursor=%00", "invalid-query", "as next"),
        ("cursor=%00:total", "invalid-query", "as next"),
        ("cursor=k", "invalid-query", "as next"),
        ("tokens=1", "invalid-query", "tokens"),
    ] {
        let refused = host.client.get(&format!("/admin/usage?{query}")).await.expect(400);
        assert_eq!(refused["code"], code, "{query}: {refused}");
        assert!(refused["detail"].as_str().unwrap().contains(says), "{query}: {refused}");
    }
    host.stop().await;
}

fn table(price: &str) -> String {
    let rest = r#""output":1,"cache_creation_5m":1,"cache_creation_1h":1,"cache_read":1"#;
    format!(r#"{{"models":[{{"match":"m","input":{price},{rest}}}]}}"#)
}

#[tokio::test]
async fn a_bad_price_table_is_said_to_be_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("prices.json");
    let flags = ["--prices", file.to_str().unwrap()];
    std::fs::write(&file, table("-1")).unwrap();
    let data_folder = tempfile::tempdir().unwrap();
    let refused = Server::start(config(data_folder.path(), &flags)).await.err().map(|e| format!("{e:#}"));
    assert!(refused.as_ref().is_some_and(|why| why.contains("models[0]: input is -1")), "{refused:?}");

    std::fs::write(&file, table("3")).unwrap();
    let host = Host::start(Behind::Embedded, &flags).await;
    let status = data(&host.client, "/admin/usage/prices").await;
    assert_eq!((&status["patterns"], &status["refused"]), (&json!(1), &Value::Null));
    std::fs::write(&file, table("-30")).unwrap();
    let says = async |client: &Client, what: &str| {
        let status = data(client, "/admin/usage/prices").await;
        status["refused"].as_str().unwrap_or_default().contains(what)
    };
    host.client.until("it is refused", async |client| says(client, "input is -30").await).await;
    std::fs::write(&file, table("300")).unwrap();
    let taken = async |client: &Client| data(client, "/admin/usage/prices").await["refused"].is_null();
    host.client.until("it is taken over", taken).await;
    host.stop().await;
}

/// What a process that was killed has left in its journal, the next one records: once, as partial.
#[tokio::test]
async fn what_a_killed_process_has_left_is_recorded_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("attempts");
    std::fs::create_dir_all(&journal).unwrap();
    let mut event = event("left", "k", "claude-opus-4-5", "2026-01-31T12:00:00Z");
    event["output_tokens"] = json!(9);
    let entry = json!({ "holds": event }).to_string();
    let mut frame = (entry.len() as u32).to_le_bytes().to_vec();
    frame.extend(crc32(entry.as_bytes()).to_le_bytes());
    frame.extend(entry.as_bytes());
    std::fs::write(journal.join("000000000007.journal"), &frame).unwrap();
    let mut folder = folder;
    for _ in 0..2 {
        let host = Host::start_in(folder, None, &[]).await;
        let counted = async |client: &Client| {
            let used = client.get("/store/v1/usage/k").await.expect(200);
            used["requests"] == 1 && used["output_tokens"] == 9
        };
        host.client.until("it is recorded", counted).await;
        let gone = async |client: &Client| data(client, "/admin/usage/summary").await["held"] == 0;
        host.client.until("it is no longer held", gone).await;
        folder = host.stop().await;
        std::fs::write(journal_in(&folder), &frame).unwrap();
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    let bit = |sum: u32| if sum & 1 == 1 { (sum >> 1) ^ 0xedb8_8320 } else { sum >> 1 };
    !bytes.iter().fold(u32::MAX, |sum, byte| (0..8).fold(sum ^ u32::from(*byte), |sum, _| bit(sum)))
}

fn journal_in(folder: &tempfile::TempDir) -> std::path::PathBuf {
    folder.path().join("attempts").join("000000000099.journal")
}
