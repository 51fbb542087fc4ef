//! The greatest version wins, whatever the order of arrival.

use std::sync::Arc;

use futures::future::join_all;
use switchyard::store::clock::MAX_VERSION;
use switchyard::store::{Backend, Expect, StoreError, kind};

use super::{BASE, conflict, copy, get, key, put, put_if, record, tombstone};

pub async fn greater_equal_and_smaller(store: Arc<dyn Backend>) {
    let key = key(&kind::API_KEY, "k");
    let held = record(&key, BASE + 5, &[("n", "5")]);
    put(&store, &held).await.expect("the first write");

    put(&store, &record(&key, BASE + 5, &[("n", "other")])).await.expect("the same version is ok");
    copy(&store, &tombstone(&key, BASE + 5)).await.expect("the same version is ok");
    assert_eq!(get(&store, &key).await.as_ref(), Some(&held), "and changes nothing");

    for late in [record(&key, BASE + 4, &[("n", "4")]), tombstone(&key, 1)] {
        assert_eq!(put(&store, &late).await, conflict(BASE + 5));
        assert_eq!(copy(&store, &late).await, conflict(BASE + 5));
    }
    assert_eq!(get(&store, &key).await, Some(held));

    let newer = record(&key, BASE + 6, &[("n", "6")]);
    copy(&store, &newer).await.expect("a greater version");
    assert_eq!(get(&store, &key).await, Some(newer));

    put(&store, &tombstone(&key, BASE + 8)).await.expect("a delete");
    assert_eq!(put(&store, &record(&key, BASE + 7, &[])).await, conflict(BASE + 8));
    assert_eq!(get(&store, &key).await, Some(tombstone(&key, BASE + 8)), "a delete is not undone");
}

/// Versions have 53 bits, which a double holds and its usual notation does not.
pub async fn the_ends_of_the_range(store: Arc<dyn Backend>) {
    let key = key(&kind::ACCOUNT, "k");
    for version in [1, 2, MAX_VERSION - 1, MAX_VERSION] {
        let written = record(&key, version, &[("n", &version.to_string())]);
        put(&store, &written).await.expect("a greater version");
        assert_eq!(get(&store, &key).await, Some(written));
    }
    assert_eq!(put(&store, &record(&key, MAX_VERSION - 1, &[])).await, conflict(MAX_VERSION));
    put(&store, &record(&key, MAX_VERSION, &[])).await.expect("the same version is ok");
    store.settle(&[(key.clone(), MAX_VERSION - 1)]).await.expect("a settlement in vain");
    assert_eq!(super::dirty(&store).await.len(), 1);
    store.settle(&[(key, MAX_VERSION)]).await.expect("a settlement");
    assert_eq!(super::dirty(&store).await, []);
}

pub async fn at_most(store: Arc<dyn Backend>) {
    let key = key(&kind::ACCOUNT, "k");
    let first = record(&key, BASE, &[("n", "0")]);
    put_if(&store, &first, Expect::AtMost(BASE - 10)).await.expect("a store that lags behind accepts");

    let second = record(&key, BASE + 9, &[("n", "9")]);
    assert_eq!(put_if(&store, &second, Expect::AtMost(BASE - 1)).await, conflict(BASE));
    assert_eq!(get(&store, &key).await, Some(first));
    put_if(&store, &second, Expect::AtMost(BASE)).await.expect("the writer saw what is held");
    put_if(&store, &second, Expect::AtMost(BASE)).await.expect("repeating is harmless");
    assert_eq!(get(&store, &key).await, Some(second));

    let old = record(&key, BASE + 1, &[]);
    assert_eq!(put_if(&store, &old, Expect::AtMost(BASE + 9)).await, conflict(BASE + 9));
    put(&store, &tombstone(&key, BASE + 10)).await.expect("a delete");
    let third = record(&key, BASE + 11, &[]);
    assert_eq!(put_if(&store, &third, Expect::AtMost(BASE + 9)).await, conflict(BASE + 10));
    put_if(&store, &third, Expect::AtMost(BASE + 10)).await.expect("the writer saw the tombstone");
}

pub async fn absent(store: Arc<dyn Backend>) {
    let key = key(&kind::API_KEY, "k");
    let first = record(&key, BASE, &[("n", "0")]);
    put_if(&store, &first, Expect::Absent).await.expect("nothing is there");
    put_if(&store, &first, Expect::Absent).await.expect("repeating is harmless");
    let second = record(&key, BASE + 1, &[("n", "1")]);
    assert_eq!(put_if(&store, &second, Expect::Absent).await, conflict(BASE));
    assert_eq!(get(&store, &key).await, Some(first));

    put(&store, &tombstone(&key, BASE + 2)).await.expect("a delete");
    assert_eq!(put_if(&store, &second, Expect::Absent).await, conflict(BASE + 2), "the version is too small");
    let third = record(&key, BASE + 3, &[("n", "3")]);
    put_if(&store, &third, Expect::Absent).await.expect("it was deleted");
    assert_eq!(get(&store, &key).await, Some(third));
}

pub async fn concurrent_writers(store: Arc<dyn Backend>) {
    let key = key(&kind::API_KEY, "contended");
    let writes = (0..32).map(|n| {
        // Neither rising nor falling: 13 and 32 have no common factor.
        let version = BASE + n * 13 % 32;
        let (store, record) = (store.clone(), record(&key, version, &[("apiKey", &format!("h{version}"))]));
        tokio::spawn(async move { (version, put(&store, &record).await) })
    });
    let last = BASE + 31;
    for outcome in join_all(writes).await {
        match outcome.expect("a writer that does not panic") {
            (version, Ok(())) => assert!(version <= last),
            (version, Err(StoreError::Conflict(held))) => assert!(version < held && held <= last),
            (version, Err(error)) => panic!("version {version}: {error}"),
        }
    }
    let winner = record(&key, last, &[("apiKey", &format!("h{last}"))]);
    assert_eq!(get(&store, &key).await.as_ref(), Some(&winner));
    assert_eq!(super::dirty(&store).await, std::slice::from_ref(&winner));
    for version in BASE..=last {
        let found = super::find(&store, &format!("h{version}")).await;
        assert_eq!(found, Some(winner.clone()).filter(|_| version == last), "index of {version}");
    }
}

pub async fn concurrent_creators(store: Arc<dyn Backend>) {
    let key = key(&kind::ACCOUNT, "contended");
    let writes = (0..32).map(|n| {
        let (store, record) =
            (store.clone(), record(&key, BASE + n * 13 % 32, &[("writer", &n.to_string())]));
        tokio::spawn(async move {
            let outcome = put_if(&store, &record, Expect::Absent).await;
            (record, outcome)
        })
    });
    let mut winners = Vec::new();
    for outcome in join_all(writes).await {
        match outcome.expect("a writer that does not panic") {
            (record, Ok(())) => winners.push(record),
            (_, Err(StoreError::Conflict(_))) => {}
            (_, Err(error)) => panic!("{error}"),
        }
    }
    assert_eq!(winners.len(), 1, "creators that were told they won");
    assert_eq!(get(&store, &key).await, winners.pop());
}
