//! Compare-and-set, marks, expiry, scans.

use super::*;

const PAST: i64 = 1;

fn api_key(id: &str, version: Version, hash: &str) -> Record {
    record(&kind::API_KEY, id, version, &[("apiKey", hash), ("name", "ключ \"q\" \n \0 \u{1f511}")])
}

fn tombstone(record: Record) -> Record {
    Record { deleted: true, fields: Fields::new(), ..record }
}

#[tokio::test]
async fn everything_survives_a_reopen() {
    let (folder, store) = fresh().await;
    let kept = api_key("kept", 10, "h1");
    let mut gone = tombstone(api_key("gone", 11, "h2"));
    gone.expires_at = Some(i64::MAX);
    store.put(&dirty(kept.clone())).await.unwrap();
    store.put(&clean(gone.clone())).await.unwrap();
    store.set_complete(&kind::API_KEY).await.unwrap();
    store.probe().await.unwrap();
    let store = reopen(store, &folder).await;
    assert_eq!(*store.get(&kept.key).await.unwrap().unwrap(), kept);
    assert_eq!(*store.get(&gone.key).await.unwrap().unwrap(), gone);
    assert_eq!(*store.find(&kind::API_KEY, "hash", "h1").await.unwrap().unwrap(), kept);
    assert_eq!(store.dirty(Version::MAX, 0, 10).await.unwrap(), [Arc::new(kept)]);
    assert_eq!(store.backlog().await.unwrap(), Backlog::new(1, 0, Some(10)));
    assert!(store.complete(&kind::API_KEY).await.unwrap());
    assert!(!store.complete(&kind::ACCOUNT).await.unwrap());
}

#[tokio::test]
async fn a_version_that_is_not_greater_changes_nothing() {
    let (_folder, store) = fresh().await;
    let held = api_key("a", 10, "h");
    store.put(&clean(held.clone())).await.unwrap();
    let same = record(&kind::API_KEY, "a", 10, &[("apiKey", "other")]);
    assert_eq!(store.put(&dirty(same)).await, Ok(()));
    assert_eq!(store.put(&dirty(api_key("a", 9, "h"))).await, Err(StoreError::Conflict(10)));
    assert_eq!(*store.get(&held.key).await.unwrap().unwrap(), held);
    assert!(store.backlog().await.unwrap().is_empty());
}

#[tokio::test]
async fn preconditions_are_held_against_the_stored_record() {
    let (_folder, store) = fresh().await;
    let put =
        async |version, expect| store.put(&write(api_key("a", version, "h"), Mark::Clean, expect)).await;
    assert_eq!(put(10, Expect::AtMost(3)).await, Ok(()), "a store that lags behind accepts");
    assert_eq!(put(12, Expect::AtMost(9)).await, Err(StoreError::Conflict(10)));
    assert_eq!(put(10, Expect::AtMost(9)).await, Ok(()), "the very version held");
    assert_eq!(put(12, Expect::Absent).await, Err(StoreError::Conflict(10)));
    assert_eq!(put(10, Expect::Absent).await, Ok(()), "the very version held");
    assert_eq!(put(11, Expect::AtMost(10)).await, Ok(()));
    store.put(&clean(tombstone(api_key("a", 20, "h")))).await.unwrap();
    assert_eq!(put(19, Expect::Absent).await, Err(StoreError::Conflict(20)));
    assert_eq!(put(21, Expect::Absent).await, Ok(()), "over a tombstone");
    store.put(&clean(Record { expires_at: Some(PAST), ..api_key("a", 22, "h") })).await.unwrap();
    assert_eq!(put(23, Expect::Absent).await, Ok(()), "over an expired record");
}

#[tokio::test]
async fn marks_follow_the_version() {
    let (_folder, store) = fresh().await;
    let key = key(&kind::ACCOUNT, "a");
    let account = |version| record(&kind::ACCOUNT, "a", version, &[]);
    let records = async || store.backlog().await.unwrap().records;
    store.put(&dirty(account(10))).await.unwrap();
    store.settle(&[(key.clone(), 9), (key.clone(), 11)]).await.unwrap();
    assert_eq!(records().await, 1, "settled another version");
    store.settle(&[(key.clone(), 10)]).await.unwrap();
    assert_eq!(records().await, 0);
    store.put(&dirty(account(11))).await.unwrap();
    assert_eq!(records().await, 1);
    store.put(&clean(account(12))).await.unwrap();
    assert_eq!(records().await, 0, "a clean write clears the mark of an older version");
}

#[tokio::test]
async fn the_dead_are_neither_found_nor_scanned() {
    let (_folder, store) = fresh().await;
    let expired = Record { expires_at: Some(PAST), ..api_key("expired", 10, "h1") };
    let deleted = tombstone(api_key("deleted", 10, "h2"));
    store.put(&clean(api_key("deleted", 9, "h2"))).await.unwrap();
    for record in [&expired, &deleted] {
        store.put(&clean(record.clone())).await.unwrap();
    }
    store.put(&clean(api_key("moved", 10, "old"))).await.unwrap();
    store.put(&clean(api_key("moved", 11, "new"))).await.unwrap();
    store.put(&clean(api_key("nameless", 10, ""))).await.unwrap();
    let find = async |hash| store.find(&kind::API_KEY, "hash", hash).await.unwrap().map(|r| r.key.id.clone());
    for hash in ["h1", "h2", "old", ""] {
        assert_eq!(find(hash).await, None, "{hash}");
    }
    assert_eq!(find("new").await.as_deref(), Some("moved"));
    assert_eq!(store.get(&expired.key).await.unwrap(), None);
    assert_eq!(*store.get(&deleted.key).await.unwrap().unwrap(), deleted);
    let ids: Vec<_> = store.scan(&kind::API_KEY, None, 10).await.unwrap().records;
    assert_eq!(ids.iter().map(|r| &*r.key.id).collect::<Vec<_>>(), ["moved", "nameless"]);
    let unknown = store.find(&kind::API_KEY, "name", "x").await;
    assert!(matches!(unknown, Err(StoreError::Unsupported(_))));
}

#[tokio::test]
async fn a_scan_goes_in_byte_order() {
    let (_folder, store) = fresh().await;
    let mut ids = ["b", "B", "a", "_", "a-b", "aa", "~", "10", "9", "@"];
    for id in ids {
        store.put(&clean(record(&kind::SESSION, id, 5, &[]))).await.unwrap();
    }
    ids.sort_unstable();
    let (mut seen, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let page = store.scan(&kind::SESSION, cursor.as_deref(), 3).await.unwrap();
        seen.extend(page.records.iter().map(|record| record.key.id.to_string()));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen, ids);
    assert!(store.scan(&kind::USAGE, None, 3).await.unwrap().records.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_writers_of_one_record_converge_to_the_greatest_version() {
    let (_folder, store) = fresh().await;
    // Every version from 1 to 500 in an order that is far from sorted.
    let versions = (1..=500).map(|i| i * 337 % 501);
    let puts = versions.map(|version| {
        let write = dirty(record(&kind::ACCOUNT, "a", version, &[("v", &version.to_string())]));
        let store = &store;
        async move { (version, store.put(&write).await) }
    });
    for (version, outcome) in futures::future::join_all(puts).await {
        match outcome {
            Ok(()) => {}
            Err(StoreError::Conflict(held)) => assert!(held > version),
            Err(other) => panic!("{other}"),
        }
    }
    let held = store.get(&key(&kind::ACCOUNT, "a")).await.unwrap().unwrap();
    assert_eq!((held.version, held.fields["v"].as_str()), (500, "500"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_creators_of_one_record_succeed_once() {
    let (_folder, store) = fresh().await;
    let creations = (1..=100u64).map(|version| {
        let record = record(&kind::ACCOUNT, "a", version, &[]);
        let store = &store;
        async move { (version, store.put(&write(record, Mark::Clean, Expect::Absent)).await) }
    });
    let outcomes = futures::future::join_all(creations).await;
    let held = store.get(&key(&kind::ACCOUNT, "a")).await.unwrap().unwrap().version;
    for (version, outcome) in outcomes {
        let expected = if version == held { Ok(()) } else { Err(StoreError::Conflict(held)) };
        assert_eq!(outcome, expected, "{version}");
    }
}

#[tokio::test]
async fn writes_that_wait_together_may_be_large() {
    let (_folder, store) = fresh().await;
    let value = "v".repeat(1 << 20);
    let puts = (0..40).map(|i| {
        let write = dirty(record(&kind::ACCOUNT, &format!("a{i}"), 1, &[("v", &value)]));
        let store = &store;
        async move { store.put(&write).await.unwrap() }
    });
    futures::future::join_all(puts).await;
    let page = store.scan(&kind::ACCOUNT, None, 100).await.unwrap();
    assert_eq!(page.records.iter().filter(|record| record.fields["v"] == value).count(), 40);
}

#[tokio::test]
async fn concurrent_lookups_each_get_their_own_answer() {
    let (_folder, store) = fresh().await;
    for i in 0..50 {
        store.put(&clean(api_key(&format!("k{i}"), 10 + i, &format!("h{i}")))).await.unwrap();
    }
    let lookups = (0..100u64).map(|i| {
        let store = &store;
        async move {
            let got = store.get(&key(&kind::API_KEY, &format!("k{i}"))).await.unwrap();
            let found = store.find(&kind::API_KEY, "hash", &format!("h{i}")).await.unwrap();
            let other = store.get(&key(&kind::ACCOUNT, &format!("k{i}"))).await.unwrap();
            (got.map(|r| r.version), found.map(|r| r.version), other)
        }
    });
    for (i, answers) in futures::future::join_all(lookups).await.into_iter().enumerate() {
        let expected = (i < 50).then_some(10 + i as u64);
        assert_eq!(answers, (expected, expected, None));
    }
}

#[tokio::test]
async fn large_values_and_the_hosts_own_kinds_are_kept() {
    let (folder, store) = fresh().await;
    let module = "QUJD".repeat(3 << 20);
    let large = [
        record(&kind::STRATEGY_VERSION, "digest", 1, &[("module", &module)]),
        record(&kind::STRATEGY_EVENT, "1", 1, &[]),
        record(&kind::STRATEGY_STATE, "active", 1, &[]),
        record(&kind::ACCOUNT, "a", 1, &[("credentials", &module[..1 << 20])]),
    ];
    for record in &large {
        store.put(&dirty(record.clone())).await.unwrap();
    }
    let store = reopen(store, &folder).await;
    for record in &large {
        assert!(*store.get(&record.key).await.unwrap().unwrap() == *record, "{}", record.key);
    }
    // Nothing of the host's own is ever owed to the other store.
    assert_eq!(store.backlog().await.unwrap().records, 1);
}
