//! What a store has and the other does not is marked until somebody settles just that version.

use std::sync::Arc;

use switchyard::store::{Backend, Backlog, Kind, kind};

use super::{BASE, conflict, copy, dirty, get, key, put, record, tombstone};

async fn records_owed(store: &Arc<dyn Backend>) -> u64 {
    store.backlog().await.expect("a backlog").records
}

pub async fn dirty_until_settled(store: Arc<dyn Backend>) {
    assert_eq!(store.backlog().await, Ok(Backlog::default()));
    let mut written = Vec::new();
    for kind in Kind::public() {
        let (live, gone) = (key(kind, "live"), key(kind, "gone"));
        written.push(tombstone(&gone, BASE + 1));
        written.push(record(&live, BASE, &[("name", "n"), ("apiKey", "h")]));
    }
    for record in &written {
        put(&store, record).await.expect("a write");
    }
    written.sort_by(|a, b| a.key.cmp(&b.key));
    assert_eq!(dirty(&store).await, written, "tombstones included, with all their fields");
    assert_eq!(records_owed(&store).await, 6);

    let settled: Vec<_> = written.iter().map(|record| (record.key.clone(), record.version)).collect();
    store.settle(&settled[..1]).await.expect("a settlement");
    assert_eq!(dirty(&store).await, written[1..]);
    assert_eq!(records_owed(&store).await, 5);
    for _ in 0..2 {
        store.settle(&settled).await.expect("a settlement, repeated");
        assert_eq!(dirty(&store).await, []);
        assert_eq!(store.backlog().await, Ok(Backlog::default()));
    }
    for record in written {
        assert_eq!(get(&store, &record.key).await, Some(record), "settling changes no record");
    }
}

pub async fn settled_in_vain(store: Arc<dyn Backend>) {
    let key = key(&kind::ACCOUNT, "k");
    put(&store, &record(&key, BASE, &[])).await.expect("a write");
    let newer = record(&key, BASE + 1, &[("n", "1")]);
    put(&store, &newer).await.expect("a write");
    let never = super::key(&kind::ACCOUNT, "never-there");
    store.settle(&[(key.clone(), BASE), (never, BASE)]).await.expect("a settlement of an older version");
    store.settle(&[(key.clone(), BASE + 2)]).await.expect("a settlement of a version not seen yet");
    store.settle(&[]).await.expect("a settlement of nothing");
    assert_eq!(dirty(&store).await, [newer]);
    store.settle(&[(key, BASE + 1)]).await.expect("a settlement");
    assert_eq!(dirty(&store).await, []);
}

pub async fn copies_are_clean(store: Arc<dyn Backend>) {
    let key = key(&kind::API_KEY, "k");
    copy(&store, &record(&key, BASE, &[("n", "0")])).await.expect("a copy");
    assert_eq!(dirty(&store).await, []);

    let written = record(&key, BASE + 2, &[("n", "2")]);
    put(&store, &written).await.expect("a write");
    assert_eq!(copy(&store, &record(&key, BASE + 1, &[])).await, conflict(BASE + 2));
    assert_eq!(dirty(&store).await, [written], "a copy that is refused clears nothing");

    copy(&store, &tombstone(&key, BASE + 3)).await.expect("a copy");
    assert_eq!(dirty(&store).await, [], "the other store has a newer one");
    assert_eq!(records_owed(&store).await, 0);
}

pub async fn at_most_some(store: Arc<dyn Backend>) {
    for n in 0..20 {
        put(&store, &record(&key(&kind::ACCOUNT, &n.to_string()), BASE + n, &[])).await.expect("a write");
    }
    // Settling what is listed gets through all of it.
    for round in 0..7 {
        let some = store.dirty(3).await.expect("a list");
        assert_eq!(some.len(), if round < 6 { 3 } else { 2 });
        let settled: Vec<_> = some.iter().map(|record| (record.key.clone(), record.version)).collect();
        store.settle(&settled).await.expect("a settlement");
    }
    assert_eq!(records_owed(&store).await, 0);
}

/// A drain that settles what it has copied never settles what it has not.
pub async fn settled_beside_a_writer(store: Arc<dyn Backend>) {
    let key = key(&kind::ACCOUNT, "busy");
    let last = BASE + 200;
    let writer = tokio::spawn({
        let (store, key) = (store.clone(), key.clone());
        async move {
            for version in BASE..=last {
                put(&store, &record(&key, version, &[])).await.expect("a write");
            }
        }
    });
    let mut copied = 0;
    while copied < last {
        for record in store.dirty(10).await.expect("a list") {
            assert!(
                record.version > copied,
                "version {} is listed after {copied} was settled",
                record.version
            );
            copied = record.version;
            store.settle(&[(record.key.clone(), record.version)]).await.expect("a settlement");
        }
        let idle = writer.is_finished() && records_owed(&store).await == 0;
        assert!(!idle || copied == last, "the mark of {last} was cleared after copying {copied}");
        tokio::task::yield_now().await;
    }
    writer.await.expect("a writer that does not panic");
    assert_eq!(records_owed(&store).await, 0);
}
