//! An expired record is absent, and one that is owed to the other store is not lost by expiring.

use std::sync::Arc;
use std::time::Duration;

use switchyard::store::clock::now_ms;
use switchyard::store::{Backend, Expect, Key, Record, Version, kind};

use super::{BASE, copy, dirty, find, get, key, put, put_if, record};

/// A minute ago, so that no difference between two clocks matters.
fn past() -> i64 {
    now_ms() - 60_000
}

fn expiring(key: &Key, version: Version, at: i64) -> Record {
    Record { expires_at: Some(at), ..record(key, version, &[("apiKey", "h")]) }
}

async fn is_gone(store: &Arc<dyn Backend>, key: &Key) -> bool {
    let page = store.scan(key.kind, None, 10).await.expect("a scan");
    let listed = page.records.iter().any(|record| record.key == *key);
    let found = key.kind.index.is_some() && find(store, "h").await.is_some();
    let there = get(store, key).await.is_some();
    !(listed || found || there)
}

pub async fn expired_at_once(store: Arc<dyn Backend>) {
    for kind in [&kind::SESSION, &kind::API_KEY] {
        let (written, copied) = (key(kind, "written"), key(kind, "copied"));
        put(&store, &expiring(&written, BASE, past())).await.expect("a write");
        assert!(is_gone(&store, &written).await, "{written}");
        copy(&store, &expiring(&copied, BASE, past())).await.expect("a copy");
        assert!(is_gone(&store, &copied).await, "{copied}");
    }
}

pub async fn expires_in_time(store: Arc<dyn Backend>) {
    for kind in [&kind::SESSION, &kind::API_KEY] {
        let (written, copied) = (key(kind, "written"), key(kind, "copied"));
        let at = now_ms() + 300;
        put(&store, &expiring(&written, BASE, at)).await.expect("a write");
        copy(&store, &expiring(&copied, BASE, at)).await.expect("a copy");
        for key in [written, copied] {
            // Read all the time, so that a cache in front of the store has it, too.
            while !is_gone(&store, &key).await {
                assert!(now_ms() < at + 30_000, "{key} does not expire");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert!(now_ms() >= at, "{key} expired early");
        }
    }
}

pub async fn rewritten_without_expiry(store: Arc<dyn Backend>) {
    let key = key(&kind::SESSION, "kept");
    let at = now_ms() + 200;
    copy(&store, &expiring(&key, BASE, at)).await.expect("a copy");
    let kept = record(&key, BASE + 1, &[("n", "1")]);
    copy(&store, &kept).await.expect("a copy");
    while now_ms() <= at {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(get(&store, &key).await, Some(kept), "the expiry of an older version does not count");
}

pub async fn expired_but_owed(store: Arc<dyn Backend>) {
    let key = key(&kind::SESSION, "owed");
    let owed = expiring(&key, BASE, past());
    put(&store, &owed).await.expect("a write");
    assert_eq!(dirty(&store).await, [owed]);
    assert_eq!(store.backlog().await.expect("a backlog").records, 1);
    assert_eq!(get(&store, &key).await, None);

    store.settle(&[(key.clone(), BASE)]).await.expect("a settlement");
    assert_eq!(dirty(&store).await, []);
    assert_eq!(store.backlog().await.expect("a backlog").records, 0);
    assert!(is_gone(&store, &key).await);
}

pub async fn created_after_expiry(store: Arc<dyn Backend>) {
    for settled in [true, false] {
        let key = key(&kind::SESSION, if settled { "settled" } else { "owed" });
        put(&store, &expiring(&key, BASE, past())).await.expect("a write");
        if settled {
            store.settle(&[(key.clone(), BASE)]).await.expect("a settlement");
        }
        let created = record(&key, BASE + 1, &[("n", "1")]);
        put_if(&store, &created, Expect::Absent).await.expect("an expired record is absent");
        assert_eq!(get(&store, &key).await, Some(created));
    }
}
