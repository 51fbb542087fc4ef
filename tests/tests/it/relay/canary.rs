//! Secrets that are planted everywhere and must be found nowhere.

use std::path::Path;

use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use switchyard::demo::{Act, Demo, Options};
use switchyard_tests::host::Client;
use switchyard_tests::relay_database::RelayDatabase;
use switchyard_tests::servers::{Postgres, Redis, Switchyard};

use super::message;

const CREDENTIAL: &str = "sk-ant-canary-1-of-an-account";
const OTHER: &str = "canary-2-bearer-of-an-account";
const PROXY: &str = "canary-3-of-a-proxy";
const STRANGER: &str = "cr_canary4000000000000000000000000000000000000000000000000000000000";
const SECRET: &str = "canary-5-secret-of-the-installation-0123";
const IN_HEADER: &str = "canary-6-in-a-cookie";
const IN_BODY: &str = "canary-7-in-a-prompt";
const IN_BROKEN: &str = "canary-8-in-a-broken-body";
const IN_URL: &str = "canary-9-in-a-query";
const IN_GOOGLE: &str = "canary-10-in-x-goog-api-key";
const IN_DRAFT: &str = "canary-11-in-a-refused-account";

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_a_log_a_metric_an_error_an_answer_or_a_store() {
    let demo = Demo::start(([127, 0, 0, 1], 0).into(), Options::default()).await.unwrap();
    let (redis, postgres) = (Redis::start(), Postgres::shared().database().await);
    let url = redis.url();
    let stores = ["--redis-url", &*url, "--postgres-url", &*postgres];
    let server = Switchyard::start(&[&["--log", "debug", "--secret", SECRET][..], &stores].concat());
    server.client().until_ready().await;
    // Ready comes before it is known that new stores hold everything.
    let is_whole = async |client: &Client| client.get("/admin/accounts").await.status == 200;
    server.client().until("the stores are whole", is_whole).await;
    let (client, http) = (server.client(), reqwest::Client::new());
    let mut told = String::new();
    let created = client.post("/admin/api-keys", json!({ "name": "Ada" })).await.expect(201);
    let key = created["data"]["apiKey"].as_str().unwrap().to_owned();
    accounts(&client, &demo, &mut told).await;
    let faults = ["401", "echo", "garbage", "cut", "nothing", "529", "error-first", "ok"];
    for fault in faults {
        let act = Act::parse(fault).unwrap();
        demo.script(CREDENTIAL, [act]);
        demo.script(OTHER, [act]);
        rested(&client).await;
        for stream in [false, true] {
            let mut body = message(stream);
            body["system"] = IN_BODY.into();
            let post = http.post(format!("{}/v1/messages", client.base)).bearer_auth(&key);
            let post = post.header("cookie", IN_HEADER).json(&body);
            told += &seen(post.send().await.unwrap()).await;
        }
    }
    told += &refusals(&client, &http, &key).await;
    for path in ["/admin/accounts", "/admin/api-keys", "/metrics", "/admin/database/status", "/healthz"] {
        told += &client.get(path).await.body.to_string();
    }
    for kind in ["api_key", "account", "session"] {
        told += &client.get(&format!("/store/v1/records/{kind}")).await.expect(200).to_string();
    }
    told += &server.log();
    assert!(told.contains("canary-free"), "the search sees nothing at all");
    let (redis, tables) = (in_redis(&url).await, in_tables(&postgres).await);
    for (place, held) in [("Redis", &redis), ("PostgreSQL", &tables)] {
        assert!(held.contains("canary-free"), "the search sees nothing in {place}");
    }
    let files = in_files(&server.data());
    assert!(files.contains("attempts/"), "{files:.500}");
    told += &[redis, tables, files].concat();
    for secret in [
        &key, CREDENTIAL, OTHER, PROXY, STRANGER, SECRET, IN_HEADER, IN_BODY, IN_BROKEN, IN_URL, IN_GOOGLE,
        IN_DRAFT,
    ] {
        assert!(!told.contains(secret), "{secret} is in {}", around(&told, secret));
    }
}

/// All keys of Redis and what they hold.
async fn in_redis(url: &str) -> String {
    let database = RelayDatabase::open(url).await;
    let mut held = String::new();
    for key in database.ask::<Vec<String>>(&["KEYS", "*"]).await {
        let kind: String = database.ask(&["TYPE", &key]).await;
        let ask: &[&str] = match &*kind {
            "string" => &["GET", &key],
            "hash" => &["HGETALL", &key],
            "list" => &["LRANGE", &key, "0", "-1"],
            "set" => &["SMEMBERS", &key],
            "zset" => &["ZRANGE", &key, "0", "-1"],
            "stream" => &["XRANGE", &key, "-", "+"],
            // It has expired meanwhile.
            "none" => continue,
            other => panic!("{key} is a {other}"),
        };
        held += &key;
        texts(&database.ask(ask).await, &mut held);
    }
    held
}

fn texts(value: &redis::Value, into: &mut String) {
    match value {
        redis::Value::BulkString(bytes) => *into += &String::from_utf8_lossy(bytes),
        redis::Value::Array(values) | redis::Value::Set(values) => {
            values.iter().for_each(|value| texts(value, into));
        }
        redis::Value::Map(pairs) => {
            pairs.iter().flat_map(|(name, value)| [name, value]).for_each(|value| texts(value, into));
        }
        other => *into += &format!("{other:?}"),
    }
    *into += "\n";
}

/// Every row of every table. Bytes are there as text, too.
async fn in_tables(url: &str) -> String {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let tables = "select format('%I.%I', schemaname, tablename) from pg_tables \
                  where schemaname not in ('pg_catalog', 'information_schema')";
    let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&mut connection).await.unwrap();
    assert!(tables.len() > 5, "{tables:?}");
    let mut held = String::new();
    for table in tables {
        let rows = sqlx::AssertSqlSafe(format!("select row_to_json(t)::text from {table} t"));
        for row in sqlx::query_scalar::<_, String>(rows).fetch_all(&mut connection).await.unwrap() {
            held += &row;
            unhexed(&row, &mut held);
        }
    }
    held
}

/// What a row has in columns of bytes, which JSON writes as `\\x` and digits.
fn unhexed(row: &str, into: &mut String) {
    for digits in row.split("\\\\x").skip(1) {
        let digits: Vec<_> = digits.bytes().take_while(u8::is_ascii_hexdigit).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        let bytes: Vec<_> = digits.chunks_exact(2).map(byte).collect();
        *into += &String::from_utf8_lossy(&bytes);
    }
}

/// The names and the bytes of all files.
fn in_files(folder: &Path) -> String {
    let mut held = String::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => held += &format!("{}/\n{}", path.file_name().unwrap().display(), in_files(&path)),
            false => {
                held += &format!("{}\n", path.display());
                // One that is done with meanwhile has nothing.
                held += &String::from_utf8_lossy(&std::fs::read(&path).unwrap_or_default());
            }
        }
    }
    held
}

/// Two accounts at the demo upstream, one behind a proxy that is not there, and one that is refused.
async fn accounts(client: &Client, demo: &Demo, told: &mut String) {
    let url = demo.url();
    let proxy = json!({ "type": "http", "host": "127.0.0.1", "port": 9, "username": "u", "password": PROXY });
    for draft in [
        json!({ "name": "canary-free", "apiUrl": url, "apiKey": CREDENTIAL, "priority": 2 }),
        json!({ "name": "b", "apiUrl": url, "apiKey": OTHER, "priority": 3 }),
        json!({ "name": "c", "apiUrl": url, "apiKey": OTHER, "priority": 1, "proxy": proxy }),
    ] {
        *told += &client.post("/admin/accounts", draft).await.expect(201).to_string();
    }
    let refused =
        client.post("/admin/accounts", json!({ "name": "d", "apiUrl": 7, "apiKey": IN_DRAFT })).await;
    assert_eq!(refused.status, 400);
    *told += &refused.body.to_string();
}

/// So that what went wrong before keeps no account from being asked.
async fn rested(client: &Client) {
    let accounts = client.get("/admin/accounts").await.expect(200);
    for account in accounts["data"].as_array().unwrap() {
        let path = format!("/admin/accounts/{}/reset-status", account["id"].as_str().unwrap());
        client.post(&path, json!({})).await.expect(200);
    }
}

async fn refusals(client: &Client, http: &reqwest::Client, key: &str) -> String {
    let post = |path: &str| http.post(format!("{}{path}", client.base));
    let ask: Value = message(false);
    let broken = format!("{{\"model\": \"{IN_BROKEN}\", \"messages\": \"{IN_BROKEN}\"");
    let requests = [
        post("/v1/messages").bearer_auth(STRANGER).json(&ask),
        post("/v1/messages").bearer_auth(key).header("x-api-key", STRANGER).json(&ask),
        post("/v1/messages").header("x-goog-api-key", IN_GOOGLE).json(&ask),
        post(&format!("/v1/messages?key={key}&x={IN_URL}")).bearer_auth(key).json(&ask),
        post("/v1/messages").bearer_auth(key).body(broken),
        post(&format!("/v1/nothing?x={IN_URL}")).bearer_auth(key).json(&ask),
        http.get(format!("{}/admin/accounts", client.base)).bearer_auth(key),
    ];
    let mut told = String::new();
    for request in requests {
        let response = request.send().await.unwrap();
        assert!(response.status().is_client_error(), "{}", response.status());
        told += &seen(response).await;
    }
    told
}

/// Head and body; a body that breaks off as far as it came.
async fn seen(mut response: reqwest::Response) -> String {
    let mut seen = format!("{} {:?}", response.status(), response.headers());
    while let Ok(Some(piece)) = response.chunk().await {
        seen += &String::from_utf8_lossy(&piece);
    }
    seen
}

fn around<'a>(text: &'a str, secret: &str) -> &'a str {
    let at = text.find(secret).unwrap_or_default();
    let start = text[..at].char_indices().rev().take(200).last().map_or(0, |(start, _)| start);
    &text[start..at]
}
