use futures::future::join_all;

use super::*;
use crate::store::clock::now_ms;
use crate::store::postgres::hourly;
use crate::store::postgres::server::{Server, number};
use crate::store::{Backend, Backlog, Store, StoreError};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_writers_converge_to_the_greatest_version() {
    let url = Server::shared().database().await;
    let stores = [store(&url), store(&url)];
    let writes = (1..=200_u64).map(|n| {
        let store = &stores[(n % 2) as usize];
        let version = n * 37 % 201;
        async move {
            let offered = write(record("k", version, &[("v", &version.to_string())]), Mark::Dirty);
            (version, store.put(&offered).await)
        }
    });
    for (version, outcome) in join_all(writes).await {
        match outcome {
            Ok(()) => {}
            Err(StoreError::Conflict(held)) => assert!(held > version, "{version} lost against {held}"),
            Err(error) => panic!("{version}: {error}"),
        }
    }
    for store in &stores {
        let held = store.get(&key("k")).await.unwrap().unwrap();
        assert_eq!((held.version, held.fields["v"].as_str()), (200, "200"));
    }
}

#[tokio::test]
async fn a_put_is_accepted_once_and_explained_otherwise() {
    let store = store(&Server::shared().database().await);
    let first = write(record("k", 5, &[("a", "1")]), Mark::Dirty);
    store.put(&first).await.unwrap();
    store.put(&first).await.unwrap();
    let same_version = write(record("k", 5, &[("a", "2")]), Mark::Clean);
    store.put(&same_version).await.unwrap();
    assert_eq!(store.get(&key("k")).await.unwrap().unwrap(), first.record);
    assert_eq!(store.backlog().await.unwrap(), Backlog::new(1, 0, Some(5)));
    let older = write(record("k", 4, &[]), Mark::Dirty);
    assert_eq!(store.put(&older).await, Err(StoreError::Conflict(5)));
    store.put(&write(tombstone("k", 6), Mark::Clean)).await.unwrap();
    assert!(store.get(&key("k")).await.unwrap().unwrap().deleted);
    assert_eq!(store.backlog().await.unwrap(), Backlog::default());
    assert_eq!(store.put(&first).await, Err(StoreError::Conflict(6)));
}

#[tokio::test]
async fn preconditions_hold_as_in_memory() {
    let postgres = store(&Server::shared().database().await);
    let memory = crate::store::memory::Memory::new(1 << 20);
    let expired = Arc::new(Record { expires_at: Some(now_ms() - 1), ..(*record("e", 5, &[])).clone() });
    for record in [record("live", 5, &[]), tombstone("dead", 5), expired] {
        postgres.put(&write(record.clone(), Mark::Dirty)).await.unwrap();
        memory.put(&write(record, Mark::Dirty)).await.unwrap();
    }
    let expectations = [
        Expect::Anything,
        Expect::Absent,
        Expect::AtMost(4),
        Expect::AtMost(5),
        Expect::AtMost(9),
        Expect::AtMost(u64::MAX),
    ];
    let mut version = 3;
    for expect in expectations {
        for id in ["live", "dead", "e", "none"] {
            for step in [0, 2, 0] {
                version += step;
                let offered = || Write { expect, ..Write::new(record(id, version, &[]), expect) };
                let (ours, theirs) = (postgres.put(&offered()).await, memory.put(&offered()).await);
                assert_eq!(ours, theirs, "{id} at {version} with {expect:?}");
                assert_eq!(postgres.get(&key(id)).await, memory.get(&key(id)).await, "{id} at {version}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_one_of_many_creators_succeeds() {
    let store = store(&Server::shared().database().await);
    let creators = (1..=64).map(|version| {
        let store = &store;
        async move { store.put(&Write::new(record("k", version, &[]), Expect::Absent)).await }
    });
    let outcomes = join_all(creators).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert!(outcomes.iter().all(|o| matches!(o, Ok(()) | Err(StoreError::Conflict(_)))), "{outcomes:?}");
}

#[tokio::test]
async fn find_follows_the_live_holder_of_a_value_of_any_length() {
    let store = store(&Server::shared().database().await);
    // Incompressible, so that it could not be in a B-tree.
    let mut state = 1_u64;
    let mut letter = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b'0' + (state >> 58) as u8)
    };
    let long: String = (0..100_000).map(|_| letter()).collect();
    store.put(&write(record("a", 1, &[("apiKey", &long)]), Mark::Clean)).await.unwrap();
    store.put(&write(record("b", 1, &[("apiKey", "")]), Mark::Clean)).await.unwrap();
    let find = async |value: &str| {
        let found = store.find(&kind::API_KEY, "hash", value).await.unwrap();
        found.map(|record| record.key.id.to_string())
    };
    assert_eq!(find(&long).await.as_deref(), Some("a"));
    assert_eq!(find("").await, None);
    assert_eq!(find("x\0").await, None);
    store.put(&write(record("a", 2, &[("apiKey", "new")]), Mark::Clean)).await.unwrap();
    assert_eq!(find(&long).await, None);
    assert_eq!(find("new").await.as_deref(), Some("a"));
    store.put(&write(tombstone("a", 3), Mark::Clean)).await.unwrap();
    assert_eq!(find("new").await, None);
    let unknown = store.find(&kind::API_KEY, "name", "x").await;
    assert!(matches!(unknown, Err(StoreError::Unsupported(_))), "{unknown:?}");
}

#[tokio::test]
async fn scan_is_in_byte_order_and_sees_live_records_only() {
    let store = store(&Server::shared().database().await);
    let expired = Arc::new(Record { expires_at: Some(now_ms() - 1), ..(*record("b", 1, &[])).clone() });
    let live = ["-", ".", "0", "A", "Z", "_", "a", "z", "~"];
    for id in live.iter().rev() {
        store.put(&write(record(id, 1, &[]), Mark::Clean)).await.unwrap();
    }
    store.put(&write(expired, Mark::Clean)).await.unwrap();
    store.put(&write(tombstone("c", 1), Mark::Clean)).await.unwrap();
    let (mut seen, mut cursor) = (Vec::new(), None);
    loop {
        let page = store.scan(&kind::API_KEY, cursor.as_deref(), 4).await.unwrap();
        seen.extend(page.records.iter().map(|record| record.key.id.to_string()));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen, live);
}

#[tokio::test]
async fn a_mark_is_settled_only_at_its_version() {
    let store = store(&Server::shared().database().await);
    store.put(&write(record("k", 1, &[]), Mark::Dirty)).await.unwrap();
    store.put(&write(tombstone("t", 1), Mark::Dirty)).await.unwrap();
    store.put(&write(record("k", 2, &[]), Mark::Dirty)).await.unwrap();
    store.settle(&[(key("k"), 1), (key("t"), 1), (key("none"), 1)]).await.unwrap();
    let dirty = store.dirty(Version::MAX, 0, 10).await.unwrap();
    assert_eq!(dirty, [record("k", 2, &[])]);
    store.put(&write(record("k", 3, &[]), Mark::Clean)).await.unwrap();
    assert!(store.backlog().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_record_that_the_server_refuses_spoils_no_other() {
    let url = Server::shared().database().await;
    let store = store(&url);
    let puts = (0..32).map(|n| {
        let value = if n == 7 { "a\0b" } else { "fine" };
        let offered = write(record(&format!("k{n}"), 1, &[("v", value)]), Mark::Clean);
        let store = &store;
        async move { store.put(&offered).await }
    });
    for (n, outcome) in join_all(puts).await.into_iter().enumerate() {
        assert_eq!(outcome.is_ok(), n != 7, "{n}: {outcome:?}");
    }
    assert_eq!(number(&url, "select count(*) from api_key").await, 31);
}

#[tokio::test]
async fn kinds_are_complete_once_said_so() {
    let url = Server::shared().database().await;
    let store = store(&url);
    store.probe().await.unwrap();
    assert!(!store.complete(&kind::ACCOUNT).await.unwrap());
    store.set_complete(&kind::ACCOUNT).await.unwrap();
    store.set_complete(&kind::ACCOUNT).await.unwrap();
    assert!(self::store(&url).complete(&kind::ACCOUNT).await.unwrap());
    assert!(!store.complete(&kind::SESSION).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_of_many_records_and_a_drain_never_lock_each_other_out() {
    let url = Server::shared().database().await;
    let stores = [store(&url), store(&url)];
    let ids: Vec<_> = (0..40).map(|n| format!("k{n}")).collect();
    let puts = (0..20).flat_map(|round| {
        let (store, ids) = (&stores[round % 2], &ids);
        (0..ids.len()).map(move |n| {
            let id = &ids[if round % 2 == 0 { n } else { ids.len() - 1 - n }];
            let offered = write(record(id, round as Version + 1, &[]), Mark::Dirty);
            async move { store.put(&offered).await }
        })
    });
    let drain = async {
        for version in 1..=20 {
            let settled: Vec<_> = ids.iter().rev().map(|id| (key(id), version)).collect();
            stores[0].settle(&settled).await.unwrap();
        }
    };
    let (outcomes, ()) = tokio::join!(join_all(puts), drain);
    assert!(outcomes.iter().all(|o| matches!(o, Ok(()) | Err(StoreError::Conflict(_)))), "{outcomes:?}");
    for id in &ids {
        assert_eq!(stores[1].get(&key(id)).await.unwrap().unwrap().version, 20);
    }
}

#[tokio::test]
async fn what_has_long_expired_and_is_owed_to_nobody_is_removed() {
    let url = Server::shared().database().await;
    let store = store(&url);
    let day = 86_400_000;
    let expiring = |id: &str, expires_at| {
        Arc::new(Record { expires_at: Some(now_ms() + expires_at), ..(*record(id, 1, &[])).clone() })
    };
    for n in 0..1_500 {
        store.put(&write(expiring(&format!("old{n}"), -2 * day), Mark::Clean)).await.unwrap();
    }
    store.put(&write(expiring("owed", -2 * day), Mark::Dirty)).await.unwrap();
    store.put(&write(expiring("recent", -day / 2), Mark::Clean)).await.unwrap();
    store.put(&write(expiring("live", day), Mark::Clean)).await.unwrap();
    store.put(&write(tombstone("dead", 1), Mark::Clean)).await.unwrap();
    hourly::purge(&store.reserve).await.unwrap();
    assert_eq!(number(&url, "select count(*) from api_key").await, 4);
    assert_eq!(number(&url, "select count(*) from api_key where id like 'old%'").await, 0);
}
