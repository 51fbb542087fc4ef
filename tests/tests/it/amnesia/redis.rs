//! Redis loses its data, or some of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use switchyard_tests::servers::Kept;
use switchyard_tests::servers::Redis;

use super::{Reader, Stage, fields, path};

async fn flush(redis: &Redis) {
    let client = redis::Client::open(redis.url()).expect("a URL");
    let mut connection = client.get_multiplexed_async_connection().await.expect("a connection");
    redis::cmd("FLUSHALL").query_async::<()>(&mut connection).await.expect("flushed");
}

fn live_below_80(id: u32) -> Option<u64> {
    (id < 80).then_some(2)
}

/// Records that had n = 1, have n = 2, and the last 20 of which were deleted; Redis as it was in between.
async fn written_and_deleted(flags: &[&str]) -> (Stage, Kept) {
    let mut stage = Stage::start(flags).await;
    stage.write(0..100, 1).await;
    stage.redis.stop();
    let kept = stage.redis.keep();
    stage.redis.start_again();
    stage.until_whole(1).await;
    stage.until_written("first", 2).await;
    stage.write(0..100, 2).await;
    stage.delete(80..100).await;
    (stage, kept)
}

async fn redis_comes_back(change: impl FnOnce(&mut Redis, &Kept), reason: &str) {
    let (mut stage, kept) = written_and_deleted(&[]).await;
    let reader = Reader::start(&stage.client, 0..100, live_below_80);
    stage.until_remembered().await;
    change(&mut stage.redis, &kept);
    stage.until_whole(2).await;
    reader.end().await;
    let events = stage.events().await;
    assert!(events[1].contains(reason), "{events:?}");
    stage.each_store_has(0..100, live_below_80).await;
    stage.host.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_redis_is_compared_before_it_is_read() {
    let change = |redis: &mut Redis, _: &Kept| {
        redis.kill();
        redis.start_again();
    };
    redis_comes_back(change, "it restarted").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_starts_with_nothing_is_filled_again() {
    let change = |redis: &mut Redis, _: &Kept| {
        redis.kill();
        redis.put_back(None);
        redis.start_again();
    };
    redis_comes_back(change, "it is empty").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_with_older_data_brings_back_neither_values_nor_deleted_records() {
    let change = |redis: &mut Redis, kept: &Kept| {
        redis.kill();
        redis.put_back(Some(kept));
        redis.start_again();
    };
    redis_comes_back(change, "it holds older data").await;
}

/// Redis serves on, so that nothing but its data says what happened.
async fn flushed_under_load(strategy: &str) {
    let stage = Stage::start(&[]).await;
    stage.write(0..100, 2).await;
    stage.delete(80..100).await;
    stage.client.activate(strategy).await;
    let reader = Reader::start(&stage.client, 0..100, live_below_80);
    let (ended, client) = (Arc::new(AtomicBool::new(false)), stage.client.clone());
    let writer = tokio::spawn({
        let ended = ended.clone();
        async move {
            let (mut id, mut acknowledged) = (1_000, Vec::new());
            while !ended.load(Ordering::Acquire) {
                let put = client.put(&path(id), fields(id, 3)).await;
                // What only Redis had is lost with it; that class is not promised here.
                if put.status == 200 && put.body["durability"] != "redis" {
                    acknowledged.push(id);
                }
                id += 1;
            }
            acknowledged
        }
    });
    flush(&stage.redis).await;
    stage.until_whole(1).await;
    ended.store(true, Ordering::Release);
    let acknowledged = writer.await.expect("the writer");
    reader.end().await;
    let events = stage.events().await;
    assert!(events.iter().any(|event| event.contains("redis lost its data: it is empty")), "{events:?}");
    stage.each_store_has(0..100, live_below_80).await;
    for id in acknowledged {
        stage.each_store_has(id..id + 1, |_| Some(3)).await;
    }
    stage.host.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flushed_redis_is_filled_again_under_load() {
    flushed_under_load("dual_write").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flushed_redis_denies_nothing_while_it_is_read_alone() {
    flushed_under_load("redis_only").await;
}

/// Something else has taken the record's place in Redis.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_record_that_redis_cannot_take_does_not_keep_it_from_being_read() {
    let mut stage = Stage::start(&[]).await;
    stage.write(0..10, 2).await;
    stage.until_written("bad", 1).await;
    let mut replace = ::redis::pipe();
    replace.cmd("DEL").arg("claude_console_account:bad").ignore();
    replace.cmd("SET").arg("claude_console_account:bad").arg("x").ignore();
    let client = ::redis::Client::open(stage.redis.url()).expect("a URL");
    let mut connection = client.get_multiplexed_async_connection().await.expect("a connection");
    replace.query_async::<()>(&mut connection).await.expect("replaced");
    stage.until_remembered().await;
    stage.redis.stop();
    stage.redis.start_again();
    stage.until_whole(1).await;
    let events = stage.events().await;
    assert!(events.iter().any(|event| event.contains("account/bad")), "{events:?}");
    stage.client.activate("redis_only").await;
    for id in 0..10 {
        super::eventually(&stage.client, &path(id)).await.expect(200);
    }
    assert_eq!(stage.client.get("/store/v1/records/account/none").await.status, 404);
    let bad = stage.client.get("/store/v1/records/account/bad").await;
    assert!(bad.status.is_server_error(), "{}", bad.status);
    stage.host.stop().await;
}
