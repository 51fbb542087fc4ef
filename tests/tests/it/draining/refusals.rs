//! What a store cannot hold, whatever it is asked: it stops nothing but itself.

use serde_json::json;
use sqlx::{Connection as _, PgConnection};

use super::*;

async fn is_trusted(node: &Host) -> bool {
    let health = node.client.get("/admin/database/health").await.body;
    let stores = health["data"]["stores"].as_array();
    stores.is_some_and(|stores| stores.iter().all(|store| store["trusted"] == true))
}

/// PostgreSQL takes no NUL.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_store_cannot_hold_makes_no_switch_incomplete() {
    let stores = Stores::start().await;
    let node = stores.node("redis_only").await;
    until("both are trusted", async || is_trusted(&node).await).await;
    stores.write(&stores.redis, &account("nul"), "a\0b").await;
    stores.write(&stores.redis, &account("good"), "1").await;
    let report = node.client.activate("postgres_only").await;
    assert_eq!(report["caught_up"].get("incomplete"), None, "{report}");
    assert!(report["caught_up"]["refused"].as_str().is_some_and(|it| it.contains("account/nul")), "{report}");
    let record = async |id: &str| node.client.get(&format!("/store/v1/records/account/{id}")).await.status;
    assert_eq!(record("good").await, 200);
    assert_eq!(record("nul").await, 503, "it is not absent");
    assert_eq!(record("none").await, 404);
    let unknown = "/store/v1/records/api_key?index=hash&value=nobody";
    assert_eq!(node.client.get(unknown).await.status, 404, "nobody's key is refused for that");
    let status = node.client.get("/admin/database/status").await.expect(200)["data"].take();
    let waiting = &status["refused"][0];
    assert_eq!((&waiting["store"], &waiting["key"]), (&json!("postgres"), &json!("account/nul")), "{status}");
    assert!(waiting["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{status}");
    // A version that it can hold ends it.
    stores.write(&stores.redis, &account("nul"), "2").await;
    node.client.activate("dual_write").await;
    until("it is there", async || n(&stores.postgres, &account("nul")).await.as_deref() == Some("2")).await;
    assert_eq!(record("nul").await, 200);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_with_a_nul_is_not_taken_in() {
    let stores = Stores::start().await;
    stores.command(&["HSET", "claude_console_account:nul", "name", "a\0b"]).await;
    let (mut skipped, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let adopted = stores.redis.adopt(cursor.as_deref()).await.expect("a step");
        skipped.extend(adopted.skipped);
        match adopted.next {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    let skipped: Vec<_> = skipped.iter().map(|it| (&*it.key, &*it.reason)).collect();
    assert_eq!(skipped, [("claude_console_account:nul", "a field holds a NUL character")]);
    assert_eq!(stores.redis.backlog().await.expect("a backlog").records, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_store_cannot_hold_does_not_stop_the_first_contact() {
    let stores = Stores::start().await;
    stores.command(&["DEL", "switchyard:complete"]).await;
    let mut postgres = PgConnection::connect(&stores.urls[1]).await.expect("a connection");
    sqlx::query("delete from complete_kind").execute(&mut postgres).await.expect("deleted");
    let key = Key::new(&kind::API_KEY, "nul").expect("a valid id");
    write(&stores.redis, &key, stores.clock.next(), Some("a\0b")).await;
    let node = stores.node("postgres_only").await;
    let get = async |path: &str| node.client.get(&format!("/store/v1/records/{path}")).await.status;
    for path in ["account/none", "session/none", "api_key/none"] {
        until(path, async || get(path).await == 404).await;
    }
    until("it is known to be there", async || get("api_key/nul").await == 503).await;
    node.stop().await;
}

/// There are more of them than the drain looks at in one step.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_refused_events_stop_no_other() {
    let stores = Stores::start().await;
    let node = stores.node("dual_write").await;
    let complete = async || stores.redis.complete(&kind::USAGE).await.expect("an answer");
    until("the first contact is over", async || complete().await && is_trusted(&node).await).await;
    stores.command(&["SET", "usage:bad", "x"]).await;
    add(&stores.postgres, (0..600).map(|n| event(100_000 + n, "bad")).collect()).await;
    add(&stores.postgres, (0..3).map(|n| event(200_000 + n, "good")).collect()).await;
    let counted = async || total(&stores.redis, "good").await.is_some_and(|total| total[0] == "3");
    until("the others are counted", counted).await;
    assert_eq!(stores.postgres.backlog().await.expect("a backlog").usage, 600);
    node.stop().await;
}
