//! PostgreSQL is put back from an earlier copy.

use serde_json::json;
use sqlx::{Connection as _, PgConnection};

use switchyard_tests::host::Client;

use super::{Reader, Stage};

fn restored(id: u32) -> Option<u64> {
    (id < 80).then_some(2)
}

async fn execute(stage: &Stage, statement: &'static str) {
    let mut connection = PgConnection::connect(&stage.postgres.url()).await.expect("a connection");
    sqlx::query(statement).execute(&mut connection).await.expect("executed");
}

/// A copy of PostgreSQL as it is now, made by a restart that loses nothing.
async fn keep(stage: &mut Stage) {
    stage.postgres.stop();
    stage.postgres.keep();
    stage.postgres.start_again();
    stage.until_written("first", 2).await;
    assert_eq!(stage.events().await, [""; 0], "a restart without a loss");
}

fn put_back(stage: &mut Stage) {
    stage.postgres.stop();
    stage.postgres.put_back();
    stage.postgres.start_again();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_postgres_gets_back_from_redis_what_it_lost() {
    let mut stage = Stage::start(&[]).await;
    stage.write(0..50, 1).await;
    stage.write(80..100, 1).await;
    let event = |id: &str| {
        json!({"events": [{"id": id, "key_id": "k", "model": "m", "at": "2026-01-02T03:04:05Z",
            "input_tokens": 5}]})
    };
    stage.client.post("/store/v1/usage", event("before")).await.expect(200);
    keep(&mut stage).await;
    stage.write(0..80, 2).await;
    stage.delete(80..100).await;
    stage.client.post("/store/v1/usage", event("after")).await.expect(200);

    let reader = Reader::start(&stage.client, 0..100, restored);
    stage.until_remembered().await;
    put_back(&mut stage);
    stage.until_whole(1).await;
    reader.end().await;
    let events = stage.events().await;
    assert!(events[1].contains("postgres lost its data: it holds older data"), "{events:?}");
    stage.each_store_has(0..100, restored).await;
    // Nobody can give back an event that its totals lack, but Redis has counted it: a sync begins by itself.
    let total = "/store/v1/usage/k?window=total";
    assert_eq!(stage.client.get(total).await.expect(200)["requests"], 2);
    stage.client.activate("postgres_only").await;
    let counted = async |client: &Client| client.get(total).await.status == 200;
    stage.client.until("PostgreSQL has what Redis had counted", counted).await;
    assert_eq!(stage.client.get(total).await.expect(200)["requests"], 2);
    stage.client.activate("dual_write").await;
    stage.host.stop().await;
}

/// Redis forgets a tombstone after a day, and the backup is older than that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_deleted_long_ago_does_not_come_back_with_a_backup() {
    let mut stage = Stage::start(&[]).await;
    stage.write(0..6, 1).await;
    // A record that PostgreSQL still owed to Redis would be carried over.
    let settled =
        async |_: &_| stage.in_postgres("select count(*) from account where dirty").await == Some(0);
    stage.client.until("nothing is owed", settled).await;
    let two_days = "update account set version = version - 172800000000 where id in ('r0', 'r2')";
    execute(&stage, two_days).await;
    keep(&mut stage).await;
    let client = redis::Client::open(stage.redis.url()).expect("a URL");
    let mut connection = client.get_multiplexed_async_connection().await.expect("a connection");
    redis::cmd("DEL").arg("claude_console_account:r0").exec_async(&mut connection).await.expect("deleted");
    stage.until_remembered().await;
    put_back(&mut stage);
    stage.until_whole(1).await;
    let events = stage.events().await;
    assert!(
        events.iter().any(|event| event.contains("deleted again in postgres, 1: account/r0")),
        "{events:?}"
    );
    stage.each_store_has(0..6, |id| (id != 0).then_some(1)).await;
    stage.host.stop().await;
}

/// Neither can say what the other lacks: what either has is kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_stores_that_both_lost_data_keep_what_either_has() {
    let mut stage = Stage::start(&[]).await;
    stage.write(0..50, 1).await;
    keep(&mut stage).await;
    stage.write(0..80, 2).await;
    stage.delete(80..100).await;
    stage.until_remembered().await;
    stage.redis.kill();
    put_back(&mut stage);
    stage.redis.start_again();
    stage.until_whole(1).await;
    stage.each_store_has(0..100, restored).await;
    stage.host.stop().await;
}
