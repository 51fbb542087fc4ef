//! What a store has and the other does not is marked until somebody settles just that version.

use std::sync::Arc;

use switchyard::store::{Backend, Backlog, Kind, Version, kind};

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
    assert_eq!(records_owed(&store).await, written.len() as u64);

    let settled: Vec<_> = written.iter().map(|record| (record.key.clone(), record.version)).collect();
    store.settle(&settled[..1]).await.expect("a settlement");
    assert_eq!(dirty(&store).await, written[1..]);
    assert_eq!(records_owed(&store).await, written.len() as u64 - 1);
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
        let some = store.dirty(Version::MAX, 0, 3).await.expect("a list");
        assert_eq!(some.len(), if round < 6 { 3 } else { 2 });
        let settled: Vec<_> = some.iter().map(|record| (record.key.clone(), record.version)).collect();
        store.settle(&settled).await.expect("a settlement");
    }
    assert_eq!(records_owed(&store).await, 0);
}

pub async fn oldest_first(store: Arc<dyn Backend>) {
    // Against the order of ids and of kinds.
    let mut written: Vec<_> = (0..9)
        .map(|n| key([&kind::SESSION, &kind::ACCOUNT, &kind::API_KEY][n % 3], &format!("k{n}")))
        .collect();
    written.reverse();
    for (n, key) in (0..).zip(&written) {
        put(&store, &record(key, BASE + n, &[])).await.expect("a write");
    }
    let listed = async |before, skip, limit| {
        let some = store.dirty(before, skip, limit).await.expect("a list");
        some.iter().map(|record| record.version - BASE).collect::<Vec<_>>()
    };
    assert_eq!(listed(Version::MAX, 0, 100).await, [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(listed(BASE + 5, 0, 100).await, [0, 1, 2, 3, 4], "below the version only");
    assert_eq!(listed(BASE + 5, 2, 2).await, [2, 3]);
    assert_eq!(listed(BASE + 5, 5, 2).await, [0_u64; 0]);
    assert_eq!(store.backlog().await.expect("a backlog").oldest_ms, Some(BASE as i64 / 1_000));

    put(&store, &record(&written[0], BASE + 2_000_000, &[])).await.expect("a newer version");
    store.settle(&[(written[1].clone(), BASE + 1)]).await.expect("a settlement");
    assert_eq!(listed(Version::MAX, 0, 2).await, [2, 3], "a mark is as old as its version");
    assert_eq!(store.backlog().await.expect("a backlog").oldest_ms, Some((BASE as i64 + 2) / 1_000));
}

pub async fn marked_among_others(store: Arc<dyn Backend>) {
    assert_eq!(store.marked(&[]).await.expect("a list"), []);
    let (one, gone, clean) =
        (key(&kind::ACCOUNT, "one"), key(&kind::API_KEY, "gone"), key(&kind::ACCOUNT, "clean"));
    let never = key(&kind::SESSION, "one");
    let (record, tombstone) = (record(&one, BASE, &[("n", "1")]), tombstone(&gone, BASE + 1));
    put(&store, &record).await.expect("a write");
    put(&store, &tombstone).await.expect("a delete");
    copy(&store, &super::record(&clean, BASE, &[])).await.expect("a copy");
    let asked = [never, clean, gone.clone(), one.clone()];
    let mut marked: Vec<_> =
        store.marked(&asked).await.expect("a list").iter().map(|r| (**r).clone()).collect();
    marked.sort_by(|a, b| a.key.cmp(&b.key));
    assert_eq!(marked, [record, tombstone], "of one kind each, and no other");
    assert_eq!(store.marked(&asked[..2]).await.expect("a list"), []);
    store.settle(&[(one.clone(), BASE)]).await.expect("a settlement");
    assert_eq!(store.marked(&[one]).await.expect("a list"), []);
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
        for record in store.dirty(Version::MAX, 0, 10).await.expect("a list") {
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
