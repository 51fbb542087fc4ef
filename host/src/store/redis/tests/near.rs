//! The near cache against changes from elsewhere.

use super::server::Server;
use super::*;
use crate::store::Store;
use crate::store::kind::API_KEY;

async fn near(server: &Server) -> Redis {
    Redis::connect(RedisSettings { near_cache_bytes: 1 << 20, ..settings(server) }).await.unwrap()
}

/// Reads until the answer comes from the near cache.
async fn warm(store: &Redis, key: &Key) -> Arc<Record> {
    eventually("a hit", async || {
        let before = store.near_hits();
        let record = store.get(key).await.unwrap_or_default();
        record.filter(|_| store.near_hits() > before)
    })
    .await
}

#[tokio::test]
async fn a_change_by_another_program_is_seen() {
    let server = Server::start(&[]).await;
    let (store, mut crs) = (near(&server).await, server.other().await);
    let k1 = key(&API_KEY, "k1");
    store.put(&clean(record(&k1, 5, &[("apiKey", "h1"), ("name", "old")]))).await.unwrap();
    let first = warm(&store, &k1).await;
    assert!(Arc::ptr_eq(&first, &warm(&store, &k1).await), "a hit is the same record, not a copy");
    crs.run("HSET apikey:k1 name new").await;
    eventually("the change", async || {
        let record = store.get(&k1).await.unwrap().unwrap();
        (record.fields["name"] == "new").then_some(())
    })
    .await;
    warm(&store, &k1).await;
    crs.run("FLUSHALL").await;
    eventually("the flush", async || store.get(&k1).await.unwrap().is_none().then_some(())).await;
}

#[tokio::test]
async fn what_an_index_answered_is_kept_and_forgotten() {
    let server = Server::start(&[]).await;
    let (store, mut crs) = (near(&server).await, server.other().await);
    let k1 = key(&API_KEY, "k1");
    store.put(&clean(record(&k1, 5, &[("apiKey", "h1")]))).await.unwrap();
    eventually("a hit", async || {
        let before = store.near_hits();
        store.find(&API_KEY, "hash", "h1").await.unwrap_or_default().filter(|_| store.near_hits() > before)
    })
    .await;
    crs.run("HDEL apikey:hash_map h1").await;
    eventually("the change", async || {
        store.find(&API_KEY, "hash", "h1").await.unwrap().is_none().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_record_that_an_index_has_found_is_forgotten_when_another_node_changes_it() {
    let server = Server::start(&[]).await;
    // The reader never names the record itself: what it writes or reads by key is announced to it anyway.
    let (reader, writer) = (near(&server).await, near(&server).await);
    let k1 = key(&API_KEY, "k1");
    writer.put(&clean(record(&k1, 5, &[("apiKey", "h1")]))).await.unwrap();
    eventually("a hit", async || {
        let before = reader.near_hits();
        reader.find(&API_KEY, "hash", "h1").await.unwrap_or_default().filter(|_| reader.near_hits() > before)
    })
    .await;
    writer.put(&clean(record(&k1, 6, &[("apiKey", "h1")]))).await.unwrap();
    eventually("the change", async || {
        let record = reader.find(&API_KEY, "hash", "h1").await.unwrap().unwrap();
        (record.version == 6).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_writer_reads_its_own_writes() {
    let server = Server::start(&[]).await;
    let store = near(&server).await;
    let write_and_read = |number: u32| {
        let (store, hash) = (store.clone(), format!("h{number}"));
        async move {
            let own = key(&API_KEY, &format!("k{number}"));
            for version in 1_000..1_200 {
                store.put(&clean(record(&own, version, &[("apiKey", &hash)]))).await.unwrap();
                let (first, second) = (store.get(&own).await, store.get(&own).await);
                for read in [first, second, store.find(&API_KEY, "hash", &hash).await] {
                    assert_eq!(read.unwrap().unwrap().version, version);
                }
            }
            store.put(&clean(tombstone(&own, 2_000))).await.unwrap();
            assert!(store.get(&own).await.unwrap().unwrap().deleted);
            assert_eq!(store.find(&API_KEY, "hash", &hash).await.unwrap(), None);
        }
    };
    let writers: Vec<_> = (0..32).map(|number| tokio::spawn(write_and_read(number))).collect();
    for writer in writers {
        writer.await.unwrap();
    }
    assert!(store.near_hits() > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_beside_a_writer_never_see_versions_fall() {
    let server = Server::start(&[]).await;
    let (store, writer) = (near(&server).await, connect(&server).await);
    let k1 = key(&API_KEY, "k1");
    writer.put(&clean(record(&k1, 1_000, &[]))).await.unwrap();
    let readers: Vec<_> = (0..8)
        .map(|_| {
            let (store, k1) = (store.clone(), k1.clone());
            tokio::spawn(async move {
                let mut last = 0;
                while last < 1_500 {
                    let version = store.get(&k1).await.unwrap().unwrap().version;
                    assert!(version >= last, "{version} after {last}");
                    last = version;
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for version in 1_001..=1_500 {
        writer.put(&clean(record(&k1, version, &[]))).await.unwrap();
    }
    for reader in readers {
        tokio::time::timeout(EVENTUALLY, reader).await.expect("the last version arrives").unwrap();
    }
}

#[tokio::test]
async fn a_lost_connection_takes_its_copies_with_it() {
    let mut server = Server::start(&["--appendonly", "yes"]).await;
    let store = near(&server).await;
    let k1 = key(&API_KEY, "k1");
    store.put(&clean(record(&k1, 5, &[("name", "old")]))).await.unwrap();
    warm(&store, &k1).await;
    server.kill();
    eventually("no answer", async || store.get(&k1).await.err()).await;
    server.start_again().await;
    server.other().await.run("HSET apikey:k1 name new").await;
    let record = eventually("an answer", async || store.get(&k1).await.ok().flatten()).await;
    assert_eq!(record.fields["name"], "new");
    warm(&store, &k1).await;
}
