//! Faults that come and go.

use std::time::Duration;

use switchyard_tests::host::Client;

use super::{Servers, in_both_stores, in_force, put, status, until_in_force};

/// A store that is away for 700 ms of every second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_flaps_makes_few_transitions_and_loses_nothing() {
    let mut servers = Servers::start();
    let (_node, client) = servers.node("a", &[]).await;
    let mut written = Vec::new();
    for n in 0..12 {
        servers.redis.pause();
        let paused = tokio::time::sleep(Duration::from_millis(700));
        let id = format!("r{n}");
        // A write may find neither store ready to say that it has it; then it is not acknowledged.
        let (answer, ()) = tokio::join!(put(&client, &id, n), paused);
        servers.redis.resume();
        tokio::time::sleep(Duration::from_millis(300)).await;
        if answer.status == 200 {
            written.push((id, n));
        }
    }
    assert!(!written.is_empty());
    let transitions = status(&client).await["transitions"].as_array().unwrap().clone();
    let at: Vec<i64> = transitions.iter().map(|transition| transition["at"].as_i64().unwrap()).collect();
    assert!(!at.is_empty() && at.windows(2).all(|pair| pair[0] - pair[1] >= 9_900), "{transitions:?}");
    until_in_force(&client, "dual_write").await;
    in_both_stores(&client, &written).await;
}

/// A node that sleeps while the others move on must not acknowledge under the rules of before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_slept_through_a_move_acknowledges_nothing_under_the_old_epoch() {
    let mut servers = Servers::start();
    let (_awake, awake) = servers.node("awake", &[]).await;
    let (mut sleeper, sleepy) = servers.node("sleeper", &[]).await;
    put(&sleepy, "before", 1).await.expect(200);
    sleeper.pause();
    servers.postgres.pause();
    until_in_force(&awake, "redis_only").await;
    assert_eq!(servers.epoch().await, 1);
    // PostgreSQL is there again, so that nothing but the epoch keeps a write from being acknowledged.
    servers.postgres.resume();
    let writes = (0..16).map(|n| {
        let client = sleepy.clone();
        tokio::spawn(async move {
            let id = format!("slept-{n}");
            // A node that does not know yet how things stand does not acknowledge.
            let mut answer = put(&client, &id, n).await;
            for _ in 0..10 {
                if answer.status == 503 {
                    answer = put(&client, &id, n).await;
                }
            }
            (answer, id, n)
        })
    });
    let writes: Vec<_> = writes.collect();
    sleeper.resume();
    let mut written = Vec::new();
    for write in writes {
        let (answer, id, n) = write.await.expect("a writer");
        let strategy = answer.header("x-switchyard-strategy").unwrap_or_default().to_owned();
        let answer = answer.expect(200);
        // Redis, which has the last word now, has taken it: PostgreSQL's word alone would be that of before.
        let durability = answer["durability"].as_str().expect("a durability");
        assert!(["both", "redis", "redis-2s"].contains(&durability), "{id}: {answer} through {strategy}");
        written.push((id, n));
    }
    until_in_force(&awake, "dual_write").await;
    until_in_force(&sleepy, "dual_write").await;
    assert_eq!(servers.epoch().await, 2);
    in_both_stores(&awake, &written).await;
}

/// What the nodes had agreed on is told again to a Redis that has forgotten it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_epoch_that_redis_has_forgotten_is_told_again() {
    let mut servers = Servers::start();
    let (_node, client) = servers.node("a", &[]).await;
    servers.postgres.kill();
    until_in_force(&client, "redis_only").await;
    servers.redis_command(&["DEL", "switchyard:control"]).await;
    let told = async |_: &Client| servers.epoch().await >= 1;
    client.until("Redis knows the epoch", told).await;
    assert_eq!(in_force(&client).await, "redis_only");
    assert_eq!(put(&client, "a", 1).await.expect(200)["durability"], "redis");
}
