//! A live record is found by the value its index has now, and by no other.

use std::sync::Arc;

use switchyard::store::{Backend, StoreError, kind};

use super::{BASE, conflict, copy, find, key, put, record, tombstone};

pub async fn found_by_its_index(store: Arc<dyn Backend>) {
    assert_eq!(find(&store, "h1").await, None);
    let one = record(&key(&kind::API_KEY, "one"), BASE, &[("apiKey", "h1"), ("name", "1")]);
    let two = record(&key(&kind::API_KEY, "two"), BASE, &[("apiKey", "h2"), ("name", "2")]);
    put(&store, &one).await.expect("a write");
    copy(&store, &two).await.expect("a copy");
    assert_eq!(find(&store, "h1").await, Some(one));
    assert_eq!(find(&store, "h2").await, Some(two));
    for other in ["h3", "H1", "h", "", "one", "%", "h1 "] {
        assert_eq!(find(&store, other).await, None, "{other:?}");
    }
    // A record without a value, or with an empty one, is in no index.
    put(&store, &record(&key(&kind::API_KEY, "bare"), BASE, &[])).await.expect("a write");
    put(&store, &record(&key(&kind::API_KEY, "empty"), BASE, &[("apiKey", "")])).await.expect("a write");
    assert_eq!(find(&store, "").await, None);
}

pub async fn the_index_moves(store: Arc<dyn Backend>) {
    let key = key(&kind::API_KEY, "one");
    put(&store, &record(&key, BASE, &[("apiKey", "old")])).await.expect("a write");
    let moved = record(&key, BASE + 2, &[("apiKey", "new")]);
    put(&store, &moved).await.expect("a write");
    assert_eq!(find(&store, "old").await, None);
    assert_eq!(find(&store, "new").await, Some(moved.clone()));

    // A write that is refused does not touch the index.
    assert_eq!(put(&store, &record(&key, BASE + 1, &[("apiKey", "late")])).await, conflict(BASE + 2));
    assert_eq!(find(&store, "late").await, None);
    assert_eq!(find(&store, "new").await, Some(moved));

    put(&store, &record(&key, BASE + 3, &[("name", "has no value now")])).await.expect("a write");
    assert_eq!(find(&store, "new").await, None);
    let back = record(&key, BASE + 4, &[("apiKey", "old")]);
    put(&store, &back).await.expect("a write");
    assert_eq!(find(&store, "old").await, Some(back));
    put(&store, &tombstone(&key, BASE + 5)).await.expect("a delete");
    assert_eq!(find(&store, "old").await, None);
}

/// A value given up by one record and taken over by another belongs to the latter.
pub async fn the_index_changes_hands(store: Arc<dyn Backend>) {
    let (one, two) = (key(&kind::API_KEY, "one"), key(&kind::API_KEY, "two"));
    put(&store, &record(&one, BASE, &[("apiKey", "h")])).await.expect("a write");
    put(&store, &record(&one, BASE + 1, &[("apiKey", "other")])).await.expect("a write");
    let heir = record(&two, BASE + 2, &[("apiKey", "h")]);
    put(&store, &heir).await.expect("a write");
    put(&store, &tombstone(&one, BASE + 3)).await.expect("a delete");
    assert_eq!(find(&store, "h").await, Some(heir.clone()));

    // The order in which two records of a sync arrive: the heir first, then its predecessor's delete.
    let (three, four) = (key(&kind::API_KEY, "three"), key(&kind::API_KEY, "four"));
    put(&store, &record(&three, BASE, &[("apiKey", "k")])).await.expect("a write");
    let heir = record(&four, BASE + 2, &[("apiKey", "k")]);
    copy(&store, &heir).await.expect("a copy");
    copy(&store, &tombstone(&three, BASE + 1)).await.expect("a copied delete");
    assert_eq!(find(&store, "k").await, Some(heir));
}

pub async fn no_such_index(store: Arc<dyn Backend>) {
    for (kind, index) in [
        (&kind::API_KEY, "name"),
        (&kind::API_KEY, ""),
        (&kind::API_KEY, "apiKey"),
        (&kind::ACCOUNT, "hash"),
        (&kind::SESSION, "hash"),
        (&kind::USAGE, "hash"),
    ] {
        let answer = store.find(kind, index, "x").await;
        assert!(matches!(answer, Err(StoreError::Unsupported(_))), "{} by {index:?}: {answer:?}", kind.name);
    }
}
