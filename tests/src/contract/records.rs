//! Records are kept whole, apart from each other, and may come back after a delete.

use std::sync::Arc;

use switchyard::store::{Backend, Fields, Kind, kind};

use super::{BASE, copy, get, key, put, record, tombstone};

pub async fn absent_records(store: Arc<dyn Backend>) {
    for kind in Kind::public() {
        assert_eq!(get(&store, &key(kind, "nobody")).await, None);
    }
    assert_eq!(get(&store, &key(&kind::USAGE, "nobody:total")).await, None);
}

pub async fn a_record_as_it_was_put(store: Arc<dyn Backend>) {
    for kind in Kind::public() {
        let key = key(kind, "one");
        let mut written = record(&key, BASE, &[("name", "first"), ("apiKey", "h1"), ("limit", "10")]);
        written.expires_at = Some(4_102_444_800_123);
        put(&store, &written).await.expect("a write");
        assert_eq!(get(&store, &key).await, Some(written), "kind {}", kind.name);

        // A write replaces the record: fields and expiry that are not in it are gone.
        let replaced = record(&key, BASE + 1, &[("name", "second")]);
        put(&store, &replaced).await.expect("a write");
        assert_eq!(get(&store, &key).await, Some(replaced), "kind {}", kind.name);
    }
}

pub async fn a_tombstone(store: Arc<dyn Backend>) {
    let (key, never) = (key(&kind::API_KEY, "gone"), key(&kind::API_KEY, "never-there"));
    put(&store, &record(&key, BASE, &[("apiKey", "h")])).await.expect("a write");
    for key in [&key, &never] {
        put(&store, &tombstone(key, BASE + 1)).await.expect("a delete");
        assert_eq!(get(&store, key).await, Some(tombstone(key, BASE + 1)));
    }
    let found = store.find(&kind::API_KEY, "hash", "h").await.expect("a find");
    assert_eq!(found, None);
    let page = store.scan(&kind::API_KEY, None, 10).await.expect("a scan");
    assert_eq!(page.records, []);
}

pub async fn a_deleted_record_put_again(store: Arc<dyn Backend>) {
    let key = key(&kind::API_KEY, "phoenix");
    put(&store, &record(&key, BASE, &[("apiKey", "h"), ("old", "1")])).await.expect("a write");
    put(&store, &tombstone(&key, BASE + 1)).await.expect("a delete");
    let again = record(&key, BASE + 2, &[("apiKey", "h"), ("new", "1")]);
    copy(&store, &again).await.expect("a write after a delete");
    assert_eq!(get(&store, &key).await.as_ref(), Some(&again));
    assert_eq!(super::find(&store, "h").await, Some(again));
}

pub async fn kinds_apart(store: Arc<dyn Backend>) {
    for kind in Kind::public() {
        put(&store, &record(&key(kind, "same-id"), BASE, &[("of", kind.name)])).await.expect("a write");
    }
    put(&store, &tombstone(&key(&kind::ACCOUNT, "same-id"), BASE + 1)).await.expect("a delete");
    for kind in Kind::public().filter(|kind| **kind != kind::ACCOUNT) {
        let key = key(kind, "same-id");
        assert_eq!(get(&store, &key).await, Some(record(&key, BASE, &[("of", kind.name)])));
    }
}

/// Ids that could meet something else in a store's own layout.
pub async fn names_of_kinds_in_ids(store: Arc<dyn Backend>) {
    let ids = ["api_key", "dirty", "version", "usage", "total", "a.b", "-", "~", "=", "+", "@", "A", "a"];
    let longest = "x".repeat(256);
    for id in ids.into_iter().chain([longest.as_str()]) {
        put(&store, &record(&key(&kind::SESSION, id), BASE, &[("id", id)])).await.expect("a write");
    }
    for id in ids.into_iter().chain([longest.as_str()]) {
        let key = key(&kind::SESSION, id);
        assert_eq!(get(&store, &key).await, Some(record(&key, BASE, &[("id", id)])));
    }
}

pub async fn unusual_values(store: Arc<dyn Backend>) {
    let unusual = record(
        &key(&kind::ACCOUNT, "unusual"),
        BASE,
        &[
            ("empty", ""),
            ("", "empty name"),
            ("unicode", "Zürich 東京 🚉 \u{202e}\u{feff}"),
            ("json", r#"{"a":["\\",null]}"#),
            ("lines", "a\r\nb\tc"),
            ("quotes", r#"'"`$1 %s \"#),
            ("number", "00012345678901234567890.10"),
            ("версия", "unicode name"),
            // Names that a store may use for its own columns or hash fields.
            ("id", "x"),
            ("version", "7"),
            ("deleted", "true"),
            ("dirty", "1"),
            ("fields", "{}"),
            ("expires_at", "0"),
            ("name", "n"),
            ("isActive", "false"),
            ("expiresAt", "not a date"),
            ("createdAt", ""),
        ],
    );
    put(&store, &unusual).await.expect("a write");
    assert_eq!(get(&store, &unusual.key).await, Some(unusual));

    let bare = record(&key(&kind::ACCOUNT, "bare"), BASE, &[]);
    put(&store, &bare).await.expect("a write without fields");
    assert_eq!(get(&store, &bare.key).await, Some(bare));
}

pub async fn large_values(store: Arc<dyn Backend>) {
    let value = "0123456789abcdeß".repeat(1 << 16);
    let large = record(&key(&kind::ACCOUNT, "large"), BASE, &[("value", &value), ("after", "it")]);
    put(&store, &large).await.expect("a write of a mebibyte");
    let read = get(&store, &large.key).await.expect("the record");
    assert!(read == large, "a large value came back changed");
}

pub async fn many_fields(store: Arc<dyn Backend>) {
    let mut many = record(&key(&kind::ACCOUNT, "many"), BASE, &[]);
    many.fields = (0..1_000).map(|n| (format!("field {n}"), n.to_string())).collect::<Fields>();
    put(&store, &many).await.expect("a write of a thousand fields");
    assert_eq!(get(&store, &many.key).await, Some(many));
}

pub async fn the_probe(store: Arc<dyn Backend>) {
    for _ in 0..2 {
        store.probe().await.expect("a store that takes writes");
    }
    assert!(store.backlog().await.expect("a backlog").is_empty(), "a probe is no record");
    assert!(["redis", "redis-2s", "postgres", "memory"].contains(&store.durability()));
}

pub async fn completeness(store: Arc<dyn Backend>) {
    assert!(!store.complete(&kind::ACCOUNT).await.expect("an answer"), "nobody has said so");
    for _ in 0..2 {
        store.set_complete(&kind::API_KEY).await.expect("a note");
        assert!(store.complete(&kind::API_KEY).await.expect("an answer"));
    }
    assert!(!store.complete(&kind::ACCOUNT).await.expect("an answer"), "that was another kind");
}

/// The kinds of the host itself, which only a durable store keeps, and whose ids may have colons.
pub async fn internal_kinds(store: Arc<dyn Backend>) {
    for kind in [&kind::STRATEGY_VERSION, &kind::STRATEGY_EVENT, &kind::STRATEGY_STATE] {
        let (one, two) = (key(kind, "sha256:one"), key(kind, "sha256:two"));
        let written = [record(&one, BASE, &[("of", kind.name)]), record(&two, BASE, &[])];
        for record in &written {
            copy(&store, record).await.expect("a write");
        }
        assert_eq!(get(&store, &one).await.as_ref(), Some(&written[0]));
        let page = store.scan(kind, None, 10).await.expect("a scan");
        assert!(page.records.iter().map(|record| &**record).eq(&written), "{page:?}");
        copy(&store, &tombstone(&one, BASE + 1)).await.expect("a delete");
        let page = store.scan(kind, None, 10).await.expect("a scan");
        assert!(page.records.iter().map(|record| &**record).eq(&written[1..]), "{page:?}");
    }
}
