//! A database of Claude Relay Service: looked at, taken over, given back, and taken over again.

use std::collections::BTreeMap;
use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};
use switchyard_tests::host::{Client, Host};
use switchyard_tests::relay_service::{
    ACCOUNTS, BROKEN, DAY, ENCRYPTION_KEY, GROUP, KEYS, RelayService, SESSION, USED, key_fields,
};
use switchyard_tests::servers::{Postgres, Redis, Switchyard};

use super::syncing::{finish, sync};

/// The program with these arguments on this Redis: its exit status, and what it said.
fn run(redis: &Redis, arguments: &[&str]) -> (Option<i32>, String, String) {
    run_with(redis, arguments, ENCRYPTION_KEY, Path::new("/nonexistent"))
}

/// With this key of that program, and the secret in this folder.
fn run_with(redis: &Redis, arguments: &[&str], key: &str, data: &Path) -> (Option<i32>, String, String) {
    let mut program = Switchyard::program();
    program.args(arguments).args(["--redis-url", &redis.url()]);
    let output = program.env("ENCRYPTION_KEY", key).env("SWITCHYARD_DATA", data).output();
    let output = output.expect("the program");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// All keys and what is in them.
async fn contents(database: &RelayService) -> BTreeMap<String, Vec<u8>> {
    let mut contents = BTreeMap::new();
    for key in database.0.ask::<Vec<String>>(&["KEYS", "*"]).await {
        let dump = database.0.ask(&["DUMP", &key]).await;
        contents.insert(key, dump);
    }
    contents
}

#[tokio::test(flavor = "multi_thread")]
async fn a_survey_says_what_there_is_and_changes_nothing() {
    let redis = Redis::start();
    let database = RelayService::open(&redis.url()).await;
    database.write().await;
    let before = contents(&database).await;
    let (status, survey, complaints) = run(&redis, &["import", "--check", "--json"]);
    assert_eq!((status, &*complaints), (Some(0), ""), "{survey}");
    let survey: Value = serde_json::from_str(&survey).expect("JSON");
    let keys = json!({ "all": 6, "active": 3, "disabled": 1, "deleted": 1, "expired": 1,
                       "bound_elsewhere": 1, "without_claude": 1, "ours": 0 });
    assert_eq!(survey["api_keys"], keys);
    assert_eq!(survey["accounts"], json!({ "all": 2, "active": 2, "sealed_otherwise": 0 }));
    let names = |list: &str| -> Vec<String> {
        let list = survey[list].as_array().expect("a list");
        list.iter().map(|one| one["what"].as_str().expect("a name").to_owned()).collect()
    };
    let left = names("not_taken_over");
    for what in ["Claude accounts with OAuth tokens", "Bedrock accounts", "OpenAI accounts", "users"] {
        assert!(left.iter().any(|one| one == what), "{what} is not among {left:?}");
    }
    assert!(names("taken_over").contains(&"account groups".to_owned()));
    assert!(!left.contains(&"other keys".to_owned()), "{left:?}");
    assert_eq!(survey["broken"], 0, "{}", survey["findings"]);
    let (status, other, _) =
        run_with(&redis, &["import", "--check", "--json"], "other", Path::new("/nonexistent"));
    let other: Value = serde_json::from_str(&other).expect("JSON");
    assert_eq!((status, &other["accounts"]["sealed_otherwise"]), (Some(1), &json!(2)), "with another key");
    assert_eq!(run_with(&redis, &["import", "--check"], "", Path::new("/nonexistent")).0, Some(0), "without");
    let (status, text, _) = run(&redis, &["import", "--check"]);
    assert_eq!(status, Some(0));
    assert!(text.contains("6 API keys: 3 active") && text.contains("Nothing is broken."), "{text}");
    assert_eq!(contents(&database).await, before);

    let (status, _, why) = run(&redis, &["import"]);
    assert!(status == Some(2) && why.contains("no import is needed"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_survey_names_what_is_broken_and_nothing_that_is_secret() {
    let redis = Redis::start();
    let database = RelayService::open(&redis.url()).await;
    database.write().await;
    database.break_parts().await;
    let (status, survey, _) = run(&redis, &["import", "--check", "--json"]);
    let (_, text, _) = run(&redis, &["import", "--check"]);
    assert_eq!(status, Some(1));
    let secrets = KEYS.iter().flat_map(|key| [key.plain, key.hash]);
    let secrets = secrets.chain(ACCOUNTS.iter().flat_map(|(_, plain, sealed)| [*plain, &sealed[33..60]]));
    for secret in secrets.chain([SESSION]) {
        assert!(!survey.contains(secret) && !text.contains(secret), "{secret}");
    }
    let survey: Value = serde_json::from_str(&survey).expect("JSON");
    let findings = survey["findings"].as_array().expect("a list");
    assert_eq!((findings.len(), &survey["broken"]), (BROKEN, &json!(BROKEN)), "{findings:?}");
    let account = format!("claude_console_account:{}", ACCOUNTS[1].0);
    for (key, reason) in [
        (&*format!("apikey:{}", KEYS[0].id), "in no index"),
        (&format!("apikey:{}", KEYS[1].id), "leads to another key"),
        ("apikey:hash_map", "which is no key"),
        ("apikey:list", "a hash"),
        (&format!("apikey:{}", KEYS[3].id), "tags"),
        (&format!("apikey:{}", KEYS[4].id), "no-such-account"),
        (&account, "cut"),
    ] {
        let found = findings
            .iter()
            .any(|one| one["key"] == key && one["reason"].as_str().is_some_and(|why| why.contains(reason)));
        assert!(found, "{key}: {reason} is not among {findings:?}");
    }
}

/// A server on this Redis and this PostgreSQL, as before.
async fn serve(redis: &Redis, postgres: &str, data: tempfile::TempDir) -> Host {
    let url = redis.url();
    let fixed = ["--redis-url", &url, "--postgres-url", postgres, "--redis-deadline-ms", "5000"];
    let flags = [&fixed[..], &["--encryption-key", ENCRYPTION_KEY]].concat();
    Host::start_in(data, None, &flags).await
}

async fn field(client: &Client, id: &str, name: &str) -> Value {
    let answer = client.get(&format!("/store/v1/records/api_key/{id}")).await;
    if answer.status == 200 { answer.body["fields"][name].clone() } else { json!(answer.status.as_u16()) }
}

async fn used(client: &Client, id: &str) -> (Value, Value) {
    let used = client.get(&format!("/store/v1/usage/{id}?window=total")).await.expect(200);
    (used["requests"].clone(), used["cost_micro_usd"].clone())
}

/// Whether both stores hold the same.
async fn consistent(client: &Client) -> bool {
    let check = finish(client, Method::GET, "/admin/database/consistency-check?deep=true", json!({})).await;
    check["result"]["consistent"] == json!(true)
}

#[tokio::test(flavor = "multi_thread")]
async fn both_programs_may_run_in_turns_and_agree() {
    let redis = Redis::start();
    let postgres = Postgres::shared().database().await;
    let database = RelayService::open(&redis.url()).await;
    database.write().await;
    let [kept, disabled, deleted] = [0, 4, 5].map(|n| KEYS[n].id);

    let host = serve(&redis, &postgres, tempfile::tempdir().expect("a folder")).await;
    sync(&host.client, "redis-to-postgres").await;
    let (_, _, why) = run(&redis, &["give-back", "--force"]);
    assert!(why.contains("end it first"), "{why}");
    let fields =
        host.client.get(&format!("/store/v1/records/api_key/{kept}")).await.expect(200)["fields"].clone();
    assert_eq!(fields, key_fields(0));
    let event = json!({ "id": "e", "key_id": kept, "model": "m", "at": format!("{DAY}T10:00:00Z"),
                        "input_tokens": 30, "cost_micro_usd": 500_000 });
    host.client.post("/store/v1/usage", json!({ "events": [event] })).await.expect(200);
    host.client.post("/admin/accounts/rewrap", json!({})).await.expect(200);
    let data = host.stop().await;

    let give_back = || run_with(&redis, &["give-back", "--force", "--json"], ENCRYPTION_KEY, data.path());
    let (status, said, why) = give_back();
    assert_eq!((status, &*why), (Some(0), ""), "{said}");
    let said: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!((&said["api_keys"], &said["accounts"], &said["groups"]), (&json!(6), &json!(2), &json!(1)));
    let (status, survey, _) = run(&redis, &["import", "--check", "--json"]);
    assert_eq!(status, Some(0), "its key opens all accounts again: {survey}");
    let account = format!("claude_console_account:{}", ACCOUNTS[0].0);
    let sealed: String = database.0.ask(&["HGET", &account, "apiKey"]).await;
    assert!(!sealed.starts_with("sy1") && sealed != ACCOUNTS[0].2, "{sealed}");
    let members: Vec<String> = database.0.ask(&["SMEMBERS", &format!("account_group_members:{GROUP}")]).await;
    assert_eq!(members, [ACCOUNTS[0].0]);
    let tagged: u64 = database.0.ask(&["SCARD", "apikey:tag:team"]).await;
    assert_eq!(tagged, 5, "all but the deleted one");
    let life: i64 = database.0.ask(&["TTL", &format!("apikey:{kept}")]).await;
    assert!((31_000_000..=31_536_000).contains(&life), "{life}");
    let ours: i64 = database.0.ask(&["HEXISTS", &format!("apikey:{kept}"), "_version"]).await;
    assert_eq!(ours, 0);
    let session: i64 = database.0.ask(&["TTL", &format!("session:{SESSION}")]).await;
    assert!((1..=86_400).contains(&session), "{session}");
    let requests: u64 = database.0.ask(&["HGET", &format!("usage:{kept}"), "totalRequests"]).await;
    assert_eq!(requests, USED.0 + 1);
    for window in ["total:".to_owned() + kept, format!("daily:{kept}:{DAY}")] {
        let dollars: f64 = database.0.ask(&["GET", &format!("usage:cost:{window}")]).await;
        assert!((dollars - 1.75).abs() < 1e-9, "{window}: {dollars}");
    }
    let before = contents(&database).await;
    assert_eq!(give_back().0, Some(0), "again it changes nothing");
    assert_eq!(contents(&database).await, before);

    // That program disables a key, deletes one for good, and counts a request.
    database.run(&["HSET", &format!("apikey:{disabled}"), "isActive", "false"]).await;
    database.run(&["DEL", &format!("apikey:{deleted}")]).await;
    database.run(&["HDEL", "apikey:hash_map", KEYS[5].hash]).await;
    database.run(&["SADD", &format!("account_group_members:{GROUP}"), ACCOUNTS[1].0]).await;
    database.run(&["HINCRBY", &format!("usage:{kept}"), "totalRequests", "1"]).await;
    database.run(&["INCRBYFLOAT", &format!("usage:cost:total:{kept}"), "0.25"]).await;

    let host = serve(&redis, &postgres, data).await;
    sync(&host.client, "redis-to-postgres").await;
    host.client.until("both stores hold the same", consistent).await;
    for strategy in ["dual_write", "postgres_only", "redis_only"] {
        host.client.activate(strategy).await;
        assert_eq!(field(&host.client, kept, "isActive").await, "true", "{strategy}");
        assert_eq!(field(&host.client, disabled, "isActive").await, "false", "{strategy}");
        assert_eq!(field(&host.client, deleted, "isActive").await, 404, "{strategy}");
        let group = host.client.get(&format!("/store/v1/records/account_group/{GROUP}")).await.expect(200);
        let members = group["fields"]["memberIds"].as_str().expect("members").to_owned();
        assert!(ACCOUNTS.iter().all(|(id, ..)| members.contains(id)), "{strategy}: {members}");
        assert_eq!(used(&host.client, kept).await, (json!(USED.0 + 2), json!(2_000_000)), "{strategy}");
    }
    host.stop().await;
}
