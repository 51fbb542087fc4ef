//! A database of Claude Relay Service: looked at, taken over, given back, and taken over again.

mod looking;
mod starting;

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};
use switchyard::demo::{Demo, Options};
use switchyard_tests::host::{Client, Host};
use switchyard_tests::relay_service::{
    ACCOUNTS, BROKEN, DAY, ENCRYPTION_KEY, GROUP, KEYS, PROXY, RelayService, Request, SESSION, USED,
    key_fields, week_key,
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
    let (status, without, _) = run_with(&redis, &["import", "--check"], "", Path::new("/nonexistent"));
    assert!(
        status == Some(1) && without.contains("without ENCRYPTION_KEY the clients of 5 keys"),
        "{without}"
    );
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
    assert_eq!(survey["api_keys"]["expired"], 2, "what the relay refuses as expired: {survey}");
    let account = format!("claude_console_account:{}", ACCOUNTS[1].0);
    for (key, reason) in [
        (&*format!("apikey:{}", KEYS[0].id), "in no index"),
        (&format!("apikey:{}", KEYS[1].id), "leads to another key"),
        ("apikey:hash_map", "which is no key"),
        ("apikey:list", "a hash"),
        (&format!("apikey:{}", KEYS[3].id), "tags"),
        (&format!("apikey:{}", KEYS[4].id), "no-such-account"),
        (&format!("apikey:{}", KEYS[5].id), "expiresAt is no time"),
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

/// What a key has used: requests and micro-dollars.
async fn used(client: &Client, id: &str) -> (u64, u64) {
    let used = client.get(&format!("/store/v1/usage/{id}?window=total")).await.expect(200);
    (used["requests"].as_u64().expect("a number"), used["cost_micro_usd"].as_u64().expect("a number"))
}

/// Whether both stores hold the same.
async fn consistent(client: &Client) -> bool {
    let check = finish(client, Method::GET, "/admin/database/consistency-check?deep=true", json!({})).await;
    check["result"]["consistent"] == json!(true)
}

/// Relays a message for a key; answers the status and the error's code.
async fn relay(client: &Client, key: usize, model: &str) -> (u16, Value) {
    let message =
        json!({ "model": model, "max_tokens": 64, "messages": [{ "role": "user", "content": "Hi." }] });
    let request = reqwest::Client::new().post(format!("{}/v1/messages", client.base));
    let answer = request.header("x-api-key", KEYS[key].plain).json(&message).send().await.expect("an answer");
    let status = answer.status().as_u16();
    (status, answer.json::<Value>().await.expect("JSON")["code"].clone())
}

/// What that program itself counts of a key: requests, dollars in total, those paid, and those of its week.
async fn theirs(database: &RelayService, id: &str, week: &str) -> (u64, u64, u64, u64) {
    let requests: u64 = database.0.ask(&["HGET", &format!("usage:{id}"), "totalRequests"]).await;
    let [total, paid] = ["usage:cost:total:", "usage:cost:real:total:"].map(|key| format!("{key}{id}"));
    (requests, database.paid(&total).await, database.paid(&paid).await, database.paid(week).await)
}

const SONNET: &str = "claude-sonnet-4-5";

/// Keys, limits and totals of the first key, at every step in both stores and in what that program reads.
#[tokio::test(flavor = "multi_thread")]
async fn both_programs_may_run_in_turns_and_agree() {
    let redis = Redis::start();
    let postgres = Postgres::shared().database().await;
    let demo = Demo::start(([127, 0, 0, 1], 0).into(), Options::default()).await.expect("an upstream");
    let database = RelayService::open(&redis.url()).await;
    database.write().await;
    for (id, ..) in &ACCOUNTS {
        database.run(&["HSET", &format!("claude_console_account:{id}"), "apiUrl", &demo.url()]).await;
    }
    let [kept, limited, deleted] = [0, 4, 5].map(|n| KEYS[n].id);
    let record = format!("apikey:{kept}");
    // Its week begins on a Wednesday at five.
    database.run(&["HSET", &record, "weeklyResetDay", "3", "weeklyResetHour", "5"]).await;
    let (at, week) = (Timestamp::now(), week_key(kept, Timestamp::now(), 3, 5));
    let request = Request { key: kept, account: ACCOUNTS[0].0, model: SONNET, at, input: 100, dollars: 0.25 };
    database.count(request, (3, 5)).await;
    let mut expected = (USED.0 + 1, 1_500_000);

    let host = serve(&redis, &postgres, tempfile::tempdir().expect("a folder")).await;
    let client = &host.client;
    sync(client, "redis-to-postgres").await;
    assert_eq!(used(client, kept).await, expected, "goes on from what was counted");
    let (_, _, why) = run(&redis, &["give-back", "--force"]);
    assert!(why.contains("end it first"), "{why}");
    let fields = client.get(&format!("/store/v1/records/api_key/{kept}")).await.expect(200)["fields"].clone();
    let mut all_fields = key_fields(0);
    (all_fields["weeklyResetDay"], all_fields["weeklyResetHour"]) = (json!("3"), json!("5"));
    assert_eq!(fields, all_fields);
    let event = json!({ "id": "e", "key_id": kept, "model": "m", "at": format!("{DAY}T10:00:00Z"),
                        "input_tokens": 30, "cost_micro_usd": 500_000 });
    client.post("/store/v1/usage", json!({ "events": [event] })).await.expect(200);
    assert_eq!(relay(client, 0, SONNET).await.0, 200);
    client.until("it is counted", async |client| used(client, kept).await.0 == expected.0 + 2).await;
    let relayed = used(client, kept).await.1 - expected.1 - 500_000;
    assert!(relayed > 0);
    expected = (expected.0 + 2, expected.1 + 500_000 + relayed);
    // The window that was begun has room for one more request.
    assert_eq!(relay(client, 4, SONNET).await.0, 200);
    assert_eq!(relay(client, 4, SONNET).await, (429, json!("rate_limit_exceeded")));
    client.post("/admin/accounts/rewrap", json!({})).await.expect(200);
    let account = format!("claude_console_account:{}", ACCOUNTS[1].0);
    let sealed: Vec<String> = database.0.ask(&["HVALS", &account]).await;
    assert!(!sealed.concat().contains(PROXY.1), "the proxy's password is sealed with the credential");
    client.until("both stores hold the same", consistent).await;
    let data = host.stop().await;
    // That program reads what it would have counted itself.
    let (all, _) = expected;
    let of_the_week = 250_000 + relayed;
    assert_eq!(theirs(&database, kept, &week).await, (all, expected.1, 750_000 + relayed, of_the_week));

    let give_back = || run_with(&redis, &["give-back", "--force", "--json"], ENCRYPTION_KEY, data.path());
    let (status, said, why) = give_back();
    assert_eq!((status, &*why), (Some(0), ""), "{said}");
    let said: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!((&said["api_keys"], &said["accounts"], &said["groups"]), (&json!(6), &json!(2), &json!(1)));
    is_given_back(&redis, &database, kept).await;
    assert_eq!(theirs(&database, kept, &week).await, (all, expected.1, 750_000 + relayed, of_the_week));
    let begun: u64 = database.0.ask(&["GET", &format!("rate_limit:requests:{limited}")]).await;
    assert_eq!(begun, 100);
    let before = contents(&database).await;
    assert_eq!(give_back().0, Some(0), "again it changes nothing");
    assert_eq!(contents(&database).await, before);

    // That program disables a key, deletes one for good, makes its lists anew, and counts a request.
    database.run(&["HSET", &format!("apikey:{limited}"), "isActive", "false"]).await;
    database.run(&["DEL", &format!("apikey:{deleted}")]).await;
    database.run(&["HDEL", "apikey:hash_map", KEYS[5].hash]).await;
    database.run(&["SET", "apikey:index:version", "2"]).await;
    database.run(&["SADD", &format!("account_group_members:{GROUP}"), ACCOUNTS[1].0]).await;
    database.count(Request { dollars: 0.5, ..request }, (3, 5)).await;
    expected = (expected.0 + 1, expected.1 + 500_000);
    let of_the_week = of_the_week + 500_000;

    let host = serve(&redis, &postgres, data).await;
    let client = &host.client;
    sync(client, "redis-to-postgres").await;
    client.until("both stores hold the same", consistent).await;
    for strategy in ["postgres_only", "redis_only", "dual_write"] {
        client.activate(strategy).await;
        assert_eq!(field(client, kept, "isActive").await, "true", "{strategy}");
        assert_eq!(field(client, limited, "isActive").await, "false", "{strategy}");
        assert_eq!(field(client, deleted, "isActive").await, 404, "{strategy}");
        let group = client.get(&format!("/store/v1/records/account_group/{GROUP}")).await.expect(200);
        let members = group["fields"]["memberIds"].as_str().expect("members").to_owned();
        assert!(ACCOUNTS.iter().all(|(id, ..)| members.contains(id)), "{strategy}: {members}");
        assert_eq!(used(client, kept).await, expected, "{strategy}");
    }
    // The limit of its week counts what both programs have counted since it began, and nothing older.
    let limit = |micro: u64| json!({ "weeklyOpusCostLimit": micro as f64 / 1e6 });
    let path = format!("/admin/api-keys/{kept}");
    client.put(&path, limit(of_the_week)).await.expect(200);
    assert_eq!(relay(client, 0, SONNET).await, (402, json!("weekly_opus_cost_limit_exceeded")));
    assert_eq!(relay(client, 0, "another-model").await.0, 200, "it is a limit of Claude's models");
    client.put(&path, limit(of_the_week + 1)).await.expect(200);
    assert_eq!(relay(client, 0, SONNET).await.0, 200);
    host.stop().await;
}

/// That everything is as that program keeps it.
async fn is_given_back(redis: &Redis, database: &RelayService, kept: &str) {
    let (status, survey, _) = run(redis, &["import", "--check", "--json"]);
    assert_eq!(status, Some(0), "its key opens all accounts again: {survey}");
    for (n, (id, _, before)) in ACCOUNTS.iter().enumerate() {
        let account = format!("claude_console_account:{id}");
        let sealed: String = database.0.ask(&["HGET", &account, "apiKey"]).await;
        assert!(!sealed.starts_with("sy1") && sealed != *before, "{sealed}");
        let proxy: String = database.0.ask(&["HGET", &account, "proxy"]).await;
        let json = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
        assert_eq!(json(&proxy), json(if n == 1 { PROXY.0 } else { "" }), "with its password, as it was");
    }
    let members: Vec<String> = database.0.ask(&["SMEMBERS", &format!("account_group_members:{GROUP}")]).await;
    assert_eq!(members, [ACCOUNTS[0].0]);
    let tagged: u64 = database.0.ask(&["SCARD", "apikey:tag:team"]).await;
    assert_eq!(tagged, 5, "all but the deleted one");
    let lists: u64 = database.0.ask(&["EXISTS", "apikey:index:version"]).await;
    assert_eq!(lists, 0, "it makes its lists anew");
    let life: i64 = database.0.ask(&["TTL", &format!("apikey:{kept}")]).await;
    assert!((31_000_000..=31_536_000).contains(&life), "{life}");
    let ours: i64 = database.0.ask(&["HEXISTS", &format!("apikey:{kept}"), "_version"]).await;
    assert_eq!(ours, 0);
    let session: i64 = database.0.ask(&["TTL", &format!("session:{SESSION}")]).await;
    assert!((1..=86_400).contains(&session), "{session}");
    let dollars = database.paid(&format!("usage:cost:daily:{kept}:{DAY}")).await;
    assert_eq!(dollars, 1_750_000, "of a day before");
}
