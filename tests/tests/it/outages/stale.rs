//! An answer that may be old says so.

use serde_json::json;
use switchyard_tests::host::Client;

use super::{Stage, is_up, until};

const LOOKUPS: [(&str, u16); 5] = [
    ("/store/v1/records/account/a", 200),
    ("/store/v1/records/account/none", 404),
    ("/store/v1/records/api_key?index=hash&value=h", 200),
    ("/store/v1/records/api_key?index=hash&value=none", 404),
    ("/store/v1/usage/k", 200),
];

/// Lists, which PostgreSQL is asked for first by every strategy of two stores.
const LISTS: [(&str, u16); 1] = [("/store/v1/records/account", 200)];

/// Whether reads say that they may be old: all of them, or none.
async fn are_marked(stage: &Stage, reads: &[(&str, u16)]) -> bool {
    let mut marked = Vec::new();
    for &(path, status) in reads {
        // A store to which the connection was lost is compared before it is read.
        let told = async |client: &Client| client.get(path).await.status != 503;
        stage.client.until("it is answered", told).await;
        let answer = stage.client.get(path).await;
        marked.push(answer.header("x-switchyard-stale") == Some("true"));
        answer.expect(status);
    }
    assert!(marked.iter().all(|is| *is == marked[0]), "{marked:?}");
    marked[0]
}

async fn pin(stage: &Stage, strategy: &str) {
    let path = format!("/admin/strategies/{strategy}/activate");
    stage.client.post(&path, json!({ "pin": true })).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_redis_answers_in_place_of_postgres_is_marked() {
    let mut stage = Stage::start().await;
    let client = &stage.client;
    client.put("/store/v1/records/account/a", json!({ "fields": { "n": "1" } })).await.expect(200);
    client.put("/store/v1/records/api_key/k", json!({ "fields": { "apiKey": "h" } })).await.expect(200);
    pin(&stage, "database_first").await;
    assert!(!are_marked(&stage, &LOOKUPS).await, "PostgreSQL has answered");
    stage.postgres.pause();
    assert!(are_marked(&stage, &LOOKUPS).await, "from the first one on");
    assert!(are_marked(&stage, &LISTS).await, "lists, too");
    stage.postgres.resume();
    until("up", || is_up(stage.postgres_side())).await;
    assert!(!are_marked(&stage, &LOOKUPS).await, "PostgreSQL answers again");
    assert!(!are_marked(&stage, &LISTS).await, "lists, too");
    // Redis decides, and PostgreSQL is not missed.
    pin(&stage, "dual_write").await;
    stage.postgres.pause();
    assert!(!are_marked(&stage, &LOOKUPS).await, "Redis has all that was acknowledged");
    stage.postgres.resume();
    until("up", || is_up(stage.postgres_side())).await;
    pin(&stage, "database_first").await;
    stage.redis.kill();
    assert!(!are_marked(&stage, &LOOKUPS).await, "PostgreSQL decides");
    stage.server.shutdown().await;
}
