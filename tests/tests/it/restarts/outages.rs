//! Stores that are not there yet, go away, come back, or stop answering.

use reqwest::Method;
use serde_json::Value;
use switchyard_tests::host::{Answer, Behind, Client};
use switchyard_tests::servers::{Postgres, Redis, Switchyard};

use super::{Stage, activate, eventually, path, put, until_chosen_is_in_force};

fn not_now(answer: Answer) {
    assert!(answer.header("retry-after").is_some(), "{:?}", answer.headers);
    answer.expect(503);
}

/// Which stores are down, whether what is in force uses them or not.
async fn down(client: &Client) -> Vec<Value> {
    let health = client.get("/healthz").await.body;
    let stores = health["stores"].as_array().expect("stores").iter();
    stores.filter(|store| store["up"] == false).map(|store| store["store"].clone()).collect()
}

#[track_caller]
fn is(read: Answer, n: u64) {
    assert_eq!(read.expect(200)["fields"]["n"], n.to_string());
}

#[tokio::test]
async fn a_start_without_stores_serves_when_they_come() {
    let (mut redis, mut postgres) = (Redis::start(), Postgres::start());
    redis.stop();
    postgres.stop();
    let node = Switchyard::start(&["--redis-url", &redis.url(), "--postgres-url", &postgres.url()]);
    let client = node.client();
    client.get("/livez").await.expect(200);
    client.get("/readyz").await.expect(503);
    assert_eq!(down(&client).await, ["redis", "postgres"]);
    not_now(put(&client, "a", 1).await);
    not_now(client.get(&path("a")).await);
    redis.restart();
    postgres.restart();
    client.until_ready().await;
    client.until("both stores", async |client| down(client).await.is_empty()).await;
    client.until("a write", async |client| put(client, "a", 1).await.body["durability"] == "both").await;
    until_chosen_is_in_force(&client).await;
    is(client.get(&path("a")).await, 1);
    for strategy in ["redis_only", "postgres_only"] {
        activate(&client, strategy).await;
        is(eventually(&client, Method::GET, &path("a")).await, 1);
    }
}

/// What is written while one of the two is gone is in both afterwards.
async fn one_is_gone(kill: fn(&mut Stage), restart: fn(&mut Stage), other: &str, returned: &str) {
    let mut stage = Stage::start(Behind::RealServers, &[]).await;
    let client = stage.client.clone();
    for n in 0..20 {
        put(&client, &format!("r{n}"), 1).await.expect(200);
    }
    kill(&mut stage);
    for n in 0..10 {
        let id = format!("r{n}");
        let put = put(&client, &id, 2).await.expect(200);
        // Redis alone is worth more once it syncs each write.
        assert!(put["durability"].as_str().is_some_and(|class| class.starts_with(other)), "{put}");
        is(client.get(&path(&id)).await, 2);
    }
    for n in 10..15 {
        client.delete(&path(&format!("r{n}"))).await.expect(200);
        client.get(&path(&format!("r{n}"))).await.expect(404);
    }
    is(client.get(&path("r19")).await, 1);
    client.until("one is down", async |client| down(client).await.len() == 1).await;
    restart(&mut stage);
    client.until("both stores", async |client| down(client).await.is_empty()).await;
    until_chosen_is_in_force(&client).await;
    assert_eq!(activate(&client, returned).await["caught_up"].get("incomplete"), None);
    for n in 0..20 {
        let read = eventually(&client, Method::GET, &path(&format!("r{n}"))).await;
        match n {
            0..10 => is(read, 2),
            10..15 => assert_eq!(read.status, 404, "r{n} was deleted"),
            _ => is(read, 1),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_go_on_without_redis() {
    one_is_gone(|s| s.redis().kill(), |s| s.redis().restart(), "postgres", "redis_only").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_go_on_without_postgres() {
    one_is_gone(|s| s.postgres().kill(), |s| s.postgres().restart(), "redis", "postgres_only").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_stores_are_given_up_on_and_taken_up_again() {
    let mut stage = Stage::start(Behind::RealServers, &[]).await;
    let client = stage.client.clone();
    put(&client, "a", 1).await.expect(200);
    put(&client, "b", 1).await.expect(200);
    stage.redis().pause();
    stage.postgres().pause();
    not_now(put(&client, "a", 2).await);
    not_now(client.delete(&path("b")).await);
    not_now(client.get(&path("c")).await);
    client.until("it says so", async |client| client.get("/readyz").await.status == 503).await;
    client.get("/livez").await.expect(200);
    stage.redis().resume();
    stage.postgres().resume();
    client.until_ready().await;
    client.until("both stores", async |client| down(client).await.is_empty()).await;
    // Silence is not failure: what was not confirmed may have happened, and is then everywhere.
    let seen = async |id: &str| eventually(&client, Method::GET, &path(id)).await.body["fields"]["n"].clone();
    assert!(["1", "2"].map(Value::from).contains(&seen("a").await));
    assert!([Value::from("1"), Value::Null].contains(&seen("b").await));
    client.until("a write", async |client| put(client, "a", 3).await.body["durability"] == "both").await;
    client.until("a write", async |client| put(client, "b", 3).await.body["durability"] == "both").await;
    until_chosen_is_in_force(&client).await;
    for strategy in ["redis_only", "postgres_only", "dual_write"] {
        activate(&client, strategy).await;
        assert_eq!((seen("a").await, seen("b").await), ("3".into(), "3".into()), "through {strategy}");
    }
}
