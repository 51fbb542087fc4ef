//! Redis is lost while it has what PostgreSQL lacks: nobody is given what is older.

use std::time::{Duration, Instant};

use sqlx::{Connection as _, PgConnection};
use switchyard_tests::host::Client;
use switchyard_tests::proxy::{Fault, Proxy};

use super::{Servers, get, in_force, path, put, status, until_in_force};

/// Keeps PostgreSQL from taking a new version of a record, and lets everyone read the one it has.
async fn hold(servers: &Servers, id: &str) -> PgConnection {
    let mut connection = PgConnection::connect(&servers.postgres.url()).await.expect("a connection");
    sqlx::raw_sql("begin").execute(&mut connection).await.expect("a transaction");
    for _ in 0..1_200 {
        let lock = sqlx::query("select id from account where id = $1 for update").bind(id.to_owned());
        if lock.fetch_optional(&mut connection).await.expect("an answer").is_some() {
            return connection;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{id} is not in PostgreSQL");
}

async fn until_read(client: &Client, id: &str, status: u16) {
    let what = format!("{id} answers {status}");
    client.until(&what, async |client| get(client, id).await.status == status).await;
}

/// Asks for so long, and is given what is deleted at no time.
async fn never_found(client: &Client, id: &str, time: Duration) {
    let began = Instant::now();
    while began.elapsed() < time {
        let answer = get(client, id).await;
        assert!([404, 503].contains(&answer.status.as_u16()), "after {:?}: {}", began.elapsed(), answer.body);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn until_held_up(client: &Client) {
    let held_up = async |client: &Client| {
        let health = client.get("/admin/database/health").await.expect(200);
        let oldest = health["data"]["stores"][0]["backlog"]["oldest_ms"].as_i64();
        oldest.is_some_and(|oldest| jiff::Timestamp::now().as_millisecond() - oldest > 1_000)
    };
    client.until("what waits in Redis has waited for a second", held_up).await;
}

async fn rescued(client: &Client) -> bool {
    let text = client.get("/metrics").await.body;
    text.as_str().is_some_and(|text| text.lines().any(|line| line == "switchyard_rescued_total 1"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_redis_took_before_it_was_lost_is_carried_over_from_memory() {
    let mut servers = Servers::start();
    let (_writer, writer) = servers.node("writer", &[]).await;
    let (_reader, reader) = servers.node("reader", &[]).await;
    writer.activate("cache_first").await;
    until_in_force(&reader, "cache_first").await;
    put(&writer, "a", 1).await.expect(200);
    get(&reader, "a").await.expect(200);

    let held = hold(&servers, "a").await;
    let deleted = writer.delete(&path("a")).await.expect(200);
    assert_eq!(deleted["durability"], "redis-2s", "{deleted}");
    until_held_up(&reader).await;
    servers.redis.kill();
    never_found(&reader, "a", Duration::from_millis(1_500)).await;
    held.close().await.expect("the record is free again");
    let found = tokio::spawn({
        let reader = reader.clone();
        async move { never_found(&reader, "a", Duration::from_secs(4)).await }
    });
    writer.until("it was carried over from memory", rescued).await;
    until_read(&writer, "a", 404).await;
    until_read(&reader, "a", 404).await;
    found.await.expect("never found");
    // Redis has the very same, and nobody owes anybody anything in the end.
    servers.redis.restart();
    let drained = async |client: &Client| {
        let health = client.get("/admin/database/health").await.expect(200);
        let stores = health["data"]["stores"].as_array().cloned().unwrap_or_default();
        stores.len() == 2 && stores.iter().all(|store| store["backlog"]["records"] == 0)
    };
    reader.until("nothing waits", drained).await;
    until_read(&reader, "a", 404).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_is_not_read_while_redis_has_the_last_word_and_is_lost() {
    let mut servers = Servers::start();
    let (to_redis, to_postgres) = (
        Proxy::start(servers.redis.port()).await.unwrap(),
        Proxy::start(servers.postgres.port()).await.unwrap(),
    );
    let through = |url: String, from: u16, to: u16| url.replace(&from.to_string(), &to.to_string());
    let postgres = through(servers.postgres.url(), servers.postgres.port(), to_postgres.port());
    let redis = through(servers.redis.url(), servers.redis.port(), to_redis.port());
    let (mut writing, writer) = servers.node_on("writer", &postgres, &[]).await;
    let (_reader, reader) = servers.node_at("reader", &redis, &servers.postgres.url(), &[]).await;
    put(&writer, "a", 1).await.expect(200);
    until_read(&reader, "a", 200).await;
    // What is in force on the reader has just changed, so that it does not change again for a while.
    to_redis.set(Fault::Refuse);
    until_in_force(&reader, "postgres_only").await;
    to_redis.set(Fault::Pass);
    until_in_force(&reader, "dual_write").await;

    to_postgres.set(Fault::Refuse);
    until_in_force(&writer, "redis_only").await;
    assert_eq!(in_force(&reader).await, "dual_write");
    let held = hold(&servers, "a").await;
    writer.delete(&path("a")).await.expect(200);
    let knows = async |client: &Client| status(client).await["mode"] == "postgres-lost";
    reader.until("the other node's loss is known", knows).await;
    until_read(&reader, "a", 404).await;
    // Nobody is left who could carry it over from memory.
    writing.kill();
    servers.redis.kill();
    never_found(&reader, "a", Duration::from_secs(6)).await;
    assert_eq!(get(&reader, "a").await.status, 503);
    held.close().await.expect("the record is free again");
    servers.redis.restart();
    until_read(&reader, "a", 404).await;
}

/// What it knew of Redis has ended with it, but not that there was something to know.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_starts_again_without_redis_does_not_believe_postgres() {
    let mut servers = Servers::start();
    let (mut node, client) = servers.node("a", &[]).await;
    put(&client, "old", 1).await.expect(200);
    servers.postgres.kill();
    until_in_force(&client, "redis_only").await;
    client.delete(&path("old")).await.expect(200);
    put(&client, "new", 1).await.expect(200);
    node.kill();
    servers.redis.kill();
    servers.postgres.restart();
    node.start_again();
    let up = async |client: &Client| {
        let stores = status(client).await["stores"].take();
        stores.as_array().is_some_and(|all| all.iter().any(|s| s["store"] == "postgres" && s["up"] == true))
    };
    client.until("PostgreSQL is up", up).await;
    never_found(&client, "old", Duration::from_secs(2)).await;
    for id in ["old", "new"] {
        assert_eq!(get(&client, id).await.status, 503, "{id}");
    }
    servers.redis.restart();
    until_read(&client, "old", 404).await;
    until_read(&client, "new", 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_stands_in_for_a_strategy_that_uses_redis_alone() {
    let mut servers = Servers::start();
    let (_node, client) = servers.node("a", &[]).await;
    client.activate("redis_only").await;
    put(&client, "a", 1).await.expect(200);
    servers.redis.kill();
    super::until_mode(&client, "redis-lost").await;
    let refused = put(&client, "a", 2).await;
    assert!(refused.header("retry-after").is_some());
    assert_eq!(refused.expect(503)["code"], "store-unavailable");
    assert_eq!(get(&client, "a").await.status, 503);
    let event = serde_json::json!({
        "id": "e", "key_id": "k", "model": "m", "at": jiff::Timestamp::now(), "input_tokens": 1
    });
    let body = serde_json::json!({ "events": [event] });
    let kept = client.post("/store/v1/usage", body).await.expect(200);
    assert_eq!(kept["durability"], "local", "{kept}");
    assert_eq!(in_force(&client).await, "redis_only");
    servers.redis.restart();
    until_read(&client, "a", 200).await;
    assert_eq!(in_force(&client).await, "redis_only");
    assert!(status(&client).await["transitions"].as_array().is_some_and(Vec::is_empty));
}
