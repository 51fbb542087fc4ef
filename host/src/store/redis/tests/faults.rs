//! A server that is away, silent, full, read-only or the wrong one.

use super::server::Server;
use super::*;
use crate::store::kind::SESSION;
use crate::store::{Backend, Store, StoreError};

fn unavailable<T>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Unavailable(_)))
}

#[tokio::test]
async fn a_server_that_is_away_is_no_error_and_is_found_when_it_comes() {
    let mut server = Server::start(&[]).await;
    server.kill();
    let store = connect(&server).await;
    let reason = store.probe().await.unwrap_err();
    assert!(reason.to_string().contains("refused"), "{reason}");
    server.start_again().await;
    eventually("a probe", async || store.probe().await.ok()).await;
    eventually("a scan", async || store.scan(&SESSION, None, 1).await.ok()).await;
}

#[tokio::test]
async fn a_silent_server_is_a_timeout_and_no_late_answer_meets_the_next_question() {
    let server = Server::start(&[]).await;
    let quick = RedisSettings { deadline: Duration::from_millis(500), ..settings(&server) };
    let store = Redis::connect(quick).await.unwrap();
    let keys: Vec<_> = (0..50).map(|number| key(&SESSION, &format!("s{number}"))).collect();
    let fill = async |store: &Redis| {
        for key in &keys {
            store.put(&clean(record(key, 5, &[("own", &key.id)]))).await?;
        }
        Ok::<_, StoreError>(())
    };
    eventually("all written", async || fill(&store).await.ok()).await;

    server.pause();
    let asked = futures::future::join_all(keys.iter().map(|key| store.get(key))).await;
    assert!(asked.iter().all(|answer| *answer == Err(StoreError::Timeout)), "{asked:?}");
    let write = store.put(&clean(record(&keys[0], 6, &[("own", &keys[0].id)]))).await;
    assert!(unavailable(&write), "while it is silent nothing waits: {write:?}");
    server.go_on();
    for key in &keys {
        let record = eventually("an answer", async || store.get(key).await.ok()).await.unwrap();
        assert_eq!((record.fields["own"].as_str(), record.version), (&*key.id, 5));
    }
}

#[tokio::test]
async fn a_server_that_refuses_writes_is_unavailable() {
    let server = Server::start(&["--maxmemory", "1", "--maxmemory-policy", "noeviction"]).await;
    let store = connect(&server).await;
    let s = key(&SESSION, "s");
    assert!(unavailable(&store.probe().await));
    let put = store.put(&dirty(record(&s, 5, &[]))).await;
    assert!(matches!(&put, Err(StoreError::Unavailable(reason)) if reason.contains("OOM")), "{put:?}");
    assert!(unavailable(&store.put(&dirty(tombstone(&s, 5))).await));
    assert_eq!(store.get(&s).await, Ok(None), "nothing was written");
    assert_eq!(server.other().await.number("DBSIZE").await, 0);
}

#[tokio::test]
async fn a_primary_that_becomes_a_replica_is_unavailable() {
    let server = Server::start(&[]).await;
    let store = connect(&server).await;
    let mut other = server.other().await;
    other.run("REPLICAOF 127.0.0.1 1").await;
    assert!(unavailable(&store.put(&dirty(record(&key(&SESSION, "s"), 5, &[]))).await));
    other.run("REPLICAOF NO ONE").await;
    eventually("a probe", async || store.probe().await.ok()).await;
}

#[tokio::test]
async fn a_member_of_a_cluster_is_refused() {
    let server = Server::start(&["--cluster-enabled", "yes"]).await;
    let refused = Redis::connect(settings(&server)).await.err().unwrap();
    assert!(refused.to_string().contains("one primary"), "{refused}");
}

#[tokio::test]
async fn no_error_tells_the_password() {
    let server = Server::start(&["--requirepass", "correct-horse"]).await;
    for (login, works) in [(":correct-horse@", true), (":hunter2@", false), ("", false)] {
        let url = format!("redis://{login}127.0.0.1:{}", server.port());
        let store = Redis::connect(RedisSettings { url, ..settings(&server) }).await.unwrap();
        match store.probe().await {
            Ok(()) => assert!(works, "{login}"),
            Err(StoreError::Unavailable(reason)) => {
                assert!(!works, "{reason}");
                assert!(!reason.contains("hunter2"), "{reason}");
            }
            Err(other) => panic!("{other}"),
        }
    }
}
