//! What an admin chooses while a store is lost.

use serde_json::json;

use super::{Servers, activate, in_force, put, status, unpin, until_in_force, until_mode};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_pinned_stays_until_it_is_unpinned() {
    let mut servers = Servers::start();
    let (_node, client) = servers.node("a", &[]).await;
    let pinned = activate(&client, "cache_first", json!({"pin": true})).await.expect(200);
    assert_eq!((&pinned["pinned"], &pinned["in_force"]["name"]), (&json!(true), &json!("cache_first")));
    servers.postgres.kill();
    until_mode(&client, "postgres-lost").await;
    assert_eq!(in_force(&client).await, "cache_first");
    // It does without PostgreSQL by itself, for what Redis alone is worth.
    assert_eq!(put(&client, "a", 1).await.expect(200)["durability"], "redis-2s");
    let unpinned = unpin(&client).await.expect(200);
    assert_eq!(unpinned["data"]["pinned"], false);
    until_in_force(&client, "redis_only").await;
    assert_eq!(unpin(&client).await.expect(200)["data"]["chosen"]["name"], "cache_first");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strategy_whose_store_is_down_has_to_be_forced() {
    let mut servers = Servers::start();
    let (_node, client) = servers.node("a", &[]).await;
    servers.postgres.kill();
    until_in_force(&client, "redis_only").await;
    let refused = activate(&client, "postgres_only", json!({})).await.expect(409);
    assert_eq!(refused["code"], "store-down");
    let refused = activate(&client, "postgres_only", json!({"pin": true})).await.expect(409);
    assert_eq!(refused["code"], "store-down");
    assert_eq!(status(&client).await["chosen"]["name"], "dual_write");
    let forced =
        client.post("/admin/database/strategy/postgres-only", json!({"force": true})).await.expect(200);
    assert_eq!((&forced["pinned"], &forced["in_force"]["name"]), (&json!(true), &json!("postgres_only")));
    put(&client, "a", 1).await.expect(503);
    assert_eq!(in_force(&client).await, "postgres_only");
    unpin(&client).await.expect(200);
    until_in_force(&client, "redis_only").await;
    put(&client, "a", 1).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_choice_made_while_another_stands_in_is_kept_through_a_crash_and_returns() {
    let mut servers = Servers::start();
    let (mut node, client) = servers.node("a", &[]).await;
    servers.postgres.kill();
    until_in_force(&client, "redis_only").await;
    let generation = status(&client).await["generation"].as_u64().unwrap();
    let chosen = activate(&client, "database_first", json!({})).await.expect(200);
    assert_eq!(chosen["switched"], false);
    assert_eq!(chosen["chosen"]["name"], "database_first");
    assert_eq!(chosen["in_force"]["name"], "redis_only");
    assert!(chosen["in_force"]["cause"].as_str().unwrap().contains("PostgreSQL is lost"), "{chosen}");

    node.kill();
    node.start_again();
    client.until_ready().await;
    until_in_force(&client, "redis_only").await;
    let now = status(&client).await;
    assert_eq!(now["chosen"]["name"], "database_first");
    assert!(now["generation"].as_u64().unwrap() > generation, "{now}");
    servers.postgres.restart();
    until_in_force(&client, "database_first").await;
    assert_eq!(status(&client).await["chosen"]["name"], "database_first");
    assert_eq!(put(&client, "a", 1).await.expect(200)["durability"], "both");
}
