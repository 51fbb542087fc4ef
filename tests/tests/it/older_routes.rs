//! Every route of `/admin/database` as a script of Claude Relay Service reads its answer: its fields, in its types,
//! with true values.

use reqwest::Method;
use serde_json::{Value, json};
use switchyard_tests::host::{Behind, Body, Client, Host};
use switchyard_tests::servers::{Postgres, Redis};

/// The names of fields and the types of their values: `bool`, `number`, `text`, `texts`.
type Shape<'a> = &'a [(&'a str, &'a str)];

#[track_caller]
fn has_shape(value: &Value, shape: Shape<'_>) {
    for (path, kind) in shape {
        let field = value.pointer(path).unwrap_or_else(|| panic!("no {path} in {value}"));
        let right = match *kind {
            "bool" => field.is_boolean(),
            "number" => field.is_u64(),
            "text" => field.is_string(),
            "texts" => field.as_array().is_some_and(|texts| texts.iter().all(Value::is_string)),
            kind => panic!("{kind}?"),
        };
        assert!(right, "{path} is no {kind}: {field}");
    }
}

async fn ask(client: &Client, method: Method, route: &str, body: Value) -> Value {
    let body = if body.is_null() { Body::None } else { Body::Json(body) };
    let answer = client.send(method, &format!("/admin/database/{route}"), &[], body).await.expect(200);
    has_shape(&answer, &[("/success", "bool"), ("/timestamp", "text")]);
    assert_eq!(answer["success"], true, "{answer}");
    answer
}

const HEALTH: Shape<'_> = &[
    ("/status", "text"),
    ("/databases/redis", "bool"),
    ("/databases/postgres", "bool"),
    ("/strategy", "text"),
    ("/stats/redisHits", "number"),
    ("/stats/redisMisses", "number"),
    ("/stats/postgresQueries", "number"),
    ("/stats/cacheSets", "number"),
    ("/stats/errors", "number"),
    ("/initialized", "bool"),
    ("/syncEnabled", "bool"),
];

const STATUS: Shape<'_> = &[
    ("/strategy", "text"),
    ("/initialized", "bool"),
    ("/connectionPools/redis/connected", "bool"),
    ("/connectionPools/postgres/connected", "bool"),
    ("/connectionPools/postgres/totalCount", "number"),
    ("/connectionPools/postgres/idleCount", "number"),
    ("/connectionPools/postgres/waitingCount", "number"),
];

const COUNTS: Shape<'_> = &[
    ("/consistent", "bool"),
    ("/counts/redis", "number"),
    ("/counts/postgres", "number"),
    ("/counts/difference", "number"),
];

/// What the stores are told to be.
async fn reports(client: &Client) {
    let health = ask(client, Method::GET, "health", Value::Null).await["data"].take();
    has_shape(&health, HEALTH);
    assert_eq!(health["databases"], json!({ "redis": true, "postgres": true }));
    let status = ask(client, Method::GET, "status", Value::Null).await["data"].take();
    has_shape(&status["health"], HEALTH);
    has_shape(&status, STATUS);
    let pool = &status["connectionPools"]["postgres"];
    let count = |name: &str| pool[name].as_u64().unwrap();
    assert!(count("totalCount") >= 2 && count("idleCount") <= count("totalCount"), "{pool}");
    let metrics = ask(client, Method::GET, "metrics", Value::Null).await["data"].take();
    has_shape(&metrics, &[("/requests/answered", "number"), ("/near_cache/hits", "number")]);
}

/// What copies and compares.
async fn work(client: &Client) {
    for (route, stores) in
        [("sync/redis-to-postgres", "Redis to PostgreSQL"), ("sync/postgres-to-redis", "PostgreSQL to Redis")]
    {
        let synced = ask(client, Method::POST, route, Value::Null).await["data"].take();
        has_shape(&synced, &[("/message", "text")]);
        let figures = ["synced", "errors", "total"].map(|name| &synced[name]);
        assert_eq!(figures, [&json!(7), &json!(0), &json!(7)], "{synced}");
        assert_eq!(synced["message"], format!("Synced 7/7 records from {stores}"));
    }
    let checked = ask(client, Method::GET, "consistency-check", Value::Null).await["data"].take();
    has_shape(&checked, COUNTS);
    has_shape(&checked, &[("/status", "text"), ("/recommendations", "texts")]);
    assert_eq!(checked["counts"], json!({ "redis": 7, "postgres": 7, "difference": 0 }));
    assert_eq!((&checked["status"], &checked["recommendations"]), (&json!("consistent"), &json!([])));
    let fixed = ask(client, Method::POST, "consistency-fix", json!({})).await["data"].take();
    has_shape(&fixed, COUNTS);
    has_shape(&fixed, &[("/message", "text"), ("/action", "text")]);
    assert_eq!(fixed["action"], "none");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_answers_in_the_shape_that_it_had() {
    let host = Host::start(Behind::RealServers, &[]).await;
    let client = &host.client;
    for n in 0..7 {
        let record = json!({ "fields": { "n": "1" } });
        client.put(&format!("/store/v1/records/account/{n}"), record).await.expect(200);
    }
    let well = async |client: &Client| client.get("/healthz").await.body["status"] == "healthy";
    client.until("both stores are compared", well).await;
    reports(client).await;
    work(client).await;
    for name in ["redis-only", "postgres-only", "dual-write"] {
        let switched = ask(client, Method::POST, &format!("strategy/{name}"), Value::Null).await;
        has_shape(&switched, &[("/message", "text"), ("/newStrategy", "text")]);
    }
    for body in [Value::Null, json!({}), json!({ "pattern": null }), json!({ "pattern": "session:*" })] {
        let cleared = ask(client, Method::POST, "cache/clear", body).await;
        has_shape(&cleared, &[("/message", "text"), ("/clearedKeys", "number")]);
    }
    let refused = client.post("/admin/database/cache/clear", json!({ "pattern": 1 })).await.expect(400);
    has_shape(&refused, &[("/success", "bool"), ("/error", "text"), ("/message", "text")]);
    let reconnected = ask(client, Method::POST, "reconnect", Value::Null).await;
    has_shape(&reconnected, &[("/message", "text")]);
    has_shape(&reconnected["health"], HEALTH);
    host.stop().await;
}

/// A script that asks `if (databases.redis)` is told the truth, and so is one that asks `if (success)`.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_lost_or_fails_is_no_success() {
    let (mut redis, postgres) = (Redis::start(), Postgres::shared().database().await);
    let url = redis.url();
    let flags = ["--redis-url", &url, "--postgres-url", &postgres];
    let host = Host::start_in(tempfile::tempdir().expect("a folder"), None, &flags).await;
    let client = &host.client;
    let well = async |client: &Client| client.get("/healthz").await.body["status"] == "healthy";
    client.until("both stores are compared", well).await;
    // What cannot be read fails at once; that Redis is away passes, perhaps.
    let database = switchyard_tests::relay_database::RelayDatabase::open(&url).await;
    database.ask::<redis::Value>(&["DEL", "switchyard:ids:account"]).await;
    database.ask::<redis::Value>(&["SET", "switchyard:ids:account", "no sorted set"]).await;
    let failed = client.post("/admin/database/sync/redis-to-postgres", json!({})).await.expect(500);
    has_shape(&failed, &[("/success", "bool"), ("/error", "text"), ("/message", "text")]);
    assert_eq!((&failed["success"], &failed["code"]), (&json!(false), &json!("operation-failed")));
    redis.kill();
    let noticed = async |client: &Client| {
        let health = client.get("/admin/database/health").await.expect(200)["data"].take();
        health["databases"] == json!({ "redis": false, "postgres": true })
    };
    client.until("Redis is known to be down", noticed).await;
    // A sync that waits for Redis goes on: it is not done yet, and says so.
    let waits = client.post("/admin/database/sync/redis-to-postgres", json!({})).await.expect(202);
    assert_eq!(waits["success"], false, "{waits}");
    has_shape(&waits["data"], &[("/synced", "number"), ("/errors", "number"), ("/message", "text")]);
    let id = waits["data"]["id"].as_str().expect("its id");
    client.delete(&format!("/admin/operations/{id}")).await.expect(200);
    host.stop().await;
}
