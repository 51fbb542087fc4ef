//! A scan sees each lasting record exactly once, in byte order of id.

use std::sync::Arc;

use futures::{StreamExt as _, stream};
use switchyard::store::clock::now_ms;
use switchyard::store::{Backend, Key, Kind, MAX_PAGE, Record, kind};

use super::{BASE, copy, key, put, record, tombstone};

/// All ids of a kind, read in parts of at most `limit`.
async fn scan_all(store: &Arc<dyn Backend>, kind: &'static Kind, limit: u32) -> Vec<String> {
    let (mut ids, mut cursor): (Vec<String>, Option<String>) = (Vec::new(), None);
    for _ in 0..20_000 {
        let page = store.scan(kind, cursor.as_deref(), limit).await.expect("a scan");
        assert!(page.records.len() <= limit.min(MAX_PAGE) as usize, "a page of {}", page.records.len());
        ids.extend(page.records.iter().map(|record| record.key.id.to_string()));
        cursor = page.next;
        if cursor.is_none() {
            assert!(ids.is_sorted_by(|a, b| a < b), "ids not in byte order: {ids:?}");
            return ids;
        }
    }
    panic!("the scan does not end");
}

/// Writes many records, 32 at a time.
async fn put_all(store: &Arc<dyn Backend>, keys: impl IntoIterator<Item = Key>) {
    let writes = keys.into_iter().map(|key| async move {
        let record = record(&key, BASE, &[("apiKey", &format!("hash of {}", key.id))]);
        put(store, &record).await.expect("a write");
    });
    stream::iter(writes).buffer_unordered(32).collect::<()>().await;
}

pub async fn in_order_of_bytes(store: Arc<dyn Backend>) {
    assert_eq!(scan_all(&store, &kind::ACCOUNT, 10).await, Vec::<String>::new());
    // An order of languages would put these differently.
    let ids = [
        "+", "-", "-a", ".", "0", "09", "1", "10", "2", "=", "@", "A", "B", "Z", "_", "a", "a-", "a.", "aB",
        "aa", "ab", "b", "z", "~",
    ];
    put_all(&store, ids.iter().rev().map(|id| key(&kind::ACCOUNT, id))).await;
    for limit in [1, 2, 5, 23, 24, 25, 100] {
        assert_eq!(scan_all(&store, &kind::ACCOUNT, limit).await, ids, "by {limit}");
    }
    let page = store.scan(&kind::ACCOUNT, None, 100).await.expect("a scan");
    let (first, a) = (&page.records[0], key(&kind::ACCOUNT, "+"));
    assert_eq!(**first, record(&a, BASE, &[("apiKey", "hash of +")]), "a page holds whole records");
    // A cursor need not be an id that there is.
    let page = store.scan(&kind::ACCOUNT, Some("Zz"), 2).await.expect("a scan");
    let ids: Vec<_> = page.records.iter().map(|record| &*record.key.id).collect();
    assert_eq!(ids, ["_", "a"]);
}

pub async fn one_at_a_time(store: Arc<dyn Backend>) {
    for kind in Kind::public() {
        put_all(&store, (0..5).map(|n| key(kind, &format!("id{n}")))).await;
        assert_eq!(scan_all(&store, kind, 1).await, ["id0", "id1", "id2", "id3", "id4"], "{}", kind.name);
    }
}

pub async fn at_most_a_page(store: Arc<dyn Backend>) {
    let ids: Vec<_> = (0..MAX_PAGE + 1).map(|n| format!("id{n:05}")).collect();
    put_all(&store, ids.iter().map(|id| key(&kind::API_KEY, id))).await;
    for limit in [u32::MAX, MAX_PAGE + 1, MAX_PAGE, 400] {
        assert_eq!(scan_all(&store, &kind::API_KEY, limit).await, ids, "by {limit}");
    }
}

pub async fn live_records_only(store: Arc<dyn Backend>) {
    put_all(&store, (0..9).map(|n| key(&kind::SESSION, &format!("id{n}")))).await;
    for n in [0, 3, 4, 8] {
        let key = key(&kind::SESSION, &format!("id{n}"));
        put(&store, &tombstone(&key, BASE + 1)).await.expect("a delete");
    }
    for n in [1, 5] {
        let key = key(&kind::SESSION, &format!("id{n}"));
        let expired = Record { expires_at: Some(now_ms() - 60_000), ..record(&key, BASE + 1, &[]) };
        copy(&store, &expired).await.expect("a copy");
    }
    for limit in [1, 2, 100] {
        assert_eq!(scan_all(&store, &kind::SESSION, limit).await, ["id2", "id6", "id7"], "by {limit}");
    }
}

/// Records that come, change and go during a scan do not make it miss or repeat those that last.
pub async fn beside_writers(store: Arc<dyn Backend>) {
    let lasting: Vec<_> = (0..60).map(|n| format!("id{n:02}-lasting")).collect();
    put_all(&store, lasting.iter().map(|id| key(&kind::API_KEY, id))).await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (store, stopped) = (store.clone(), stopped.clone());
            tokio::spawn(async move {
                let mut version = BASE + 1;
                while !*stopped.borrow() {
                    let n = version * 7 % 60;
                    let passing = key(&kind::API_KEY, &format!("id{n:02}-passing-{writer}"));
                    put(&store, &record(&passing, version, &[])).await.expect("a write");
                    let lasting = record(&key(&kind::API_KEY, &format!("id{n:02}-lasting")), version, &[]);
                    // Another writer's version may be the greater one.
                    let _ = put(&store, &lasting).await;
                    put(&store, &tombstone(&passing, version + 1)).await.expect("a delete");
                    version += 2;
                }
            })
        })
        .collect();
    for limit in [1, 7, 1_000] {
        let mut seen = scan_all(&store, &kind::API_KEY, limit).await;
        seen.retain(|id| id.ends_with("-lasting"));
        assert_eq!(seen, lasting, "by {limit}");
    }
    stop.send_replace(true);
    for writer in writers {
        writer.await.expect("a writer that does not panic");
    }
}
