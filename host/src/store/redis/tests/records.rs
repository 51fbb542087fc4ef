//! Records in Claude Relay Service's layout.

use super::server::Server;
use super::*;
use crate::store::clock::{MAX_VERSION, now_ms};
use crate::store::kind::{ACCOUNT, API_KEY, SESSION, STRATEGY_STATE};
use crate::store::record::UNVERSIONED;
use crate::store::{Backend, Backlog, Store, StoreError};

#[tokio::test]
async fn an_installation_is_taken_over_in_place() {
    let server = Server::start(&[]).await;
    let mut crs = server.other().await;
    for command in [
        "HSET apikey:k1 id k1 name n apiKey h1 isActive true tags [] icon",
        "EXPIRE apikey:k1 31536000",
        "HSET apikey:hash_map h1 k1 gone k9 stale k1",
        "HSET apikey:k2 id k2 name m apiKey h2",
        "HSET session:s1 username admin",
        "EXPIRE session:s1 3600",
        "SET apikey:a_string x",
        "SADD apikey:idx:all k1",
    ] {
        // The last field of the first command is empty.
        let command = command.split(' ').collect::<Vec<_>>();
        let mut cmd = redis::cmd(command[0]);
        command[1..].iter().for_each(|word| {
            cmd.arg(word);
        });
        if command.last() == Some(&"icon") {
            cmd.arg("");
        }
        crs.send(&cmd).await;
    }
    let store = connect(&server).await;
    let found = store.find(&API_KEY, "hash", "h1").await.unwrap().unwrap();
    assert_eq!((found.fields.len(), found.expires_at), (6, None));
    assert!(found.version > UNVERSIONED, "a version at first contact");
    assert_eq!(crs.number("ZCARD switchyard:dirty").await, 3, "and the marks that they are new");
    assert_eq!(found.fields["icon"], "");
    assert_eq!(store.get(&found.key).await.unwrap().unwrap(), found);
    assert_eq!(store.find(&API_KEY, "hash", "gone").await.unwrap(), None);
    assert_eq!(store.find(&API_KEY, "hash", "stale").await.unwrap(), None);

    let page = scan(&store, &API_KEY, None, 10).await;
    assert_eq!(ids(&page), ["k1", "k2"]);
    assert_eq!(crs.number("TTL apikey:k1").await, -1, "a whole kind never expires");
    let session = store.get(&key(&SESSION, "s1")).await.unwrap().unwrap();
    let left = session.expires_at.unwrap() - now_ms();
    assert!((3_000_000..=3_600_000).contains(&left), "{left}");
    assert_eq!(crs.number("TTL session:s1").await, -1, "a dirty record does not expire");
    store.settle(&[(session.key.clone(), session.version)]).await.unwrap();
    assert!(crs.number("TTL session:s1").await > 3_000);
}

#[tokio::test]
async fn a_write_touches_record_index_ids_and_mark_in_one_step() {
    let server = Server::start(&[]).await;
    let (store, mut crs) = (connect(&server).await, server.other().await);
    let k1 = key(&API_KEY, "k1");
    store.put(&dirty(record(&k1, 10, &[("apiKey", "h1"), ("name", "n")]))).await.unwrap();
    assert_eq!(crs.text("HGET apikey:k1 name").await.as_deref(), Some("n"));
    assert_eq!(crs.text("HGET apikey:hash_map h1").await.as_deref(), Some("k1"));
    assert_eq!(crs.number("ZCARD switchyard:dirty").await, 1);

    store.put(&clean(record(&k1, 11, &[("apiKey", "h2")]))).await.unwrap();
    assert_eq!(crs.text("HGET apikey:hash_map h1").await, None, "the old index entry goes");
    assert_eq!(crs.text("HGET apikey:k1 name").await, None, "fields that are gone go");
    assert_eq!(store.find(&API_KEY, "hash", "h2").await.unwrap().unwrap().version, 11);
    assert_eq!(store.backlog().await.unwrap(), Backlog::default(), "a clean write clears an older mark");

    store.put(&dirty(tombstone(&k1, 12))).await.unwrap();
    assert_eq!(crs.number("EXISTS apikey:k1").await, 0);
    assert_eq!(crs.text("HGET apikey:hash_map h2").await, None);
    assert!(store.get(&k1).await.unwrap().unwrap().deleted);
    assert_eq!(store.find(&API_KEY, "hash", "h2").await.unwrap(), None);
    assert_eq!(ids(&scan(&store, &API_KEY, None, 10).await), Vec::<String>::new());
    assert_eq!(store.dirty(Version::MAX, 0, 10).await.unwrap()[0].version, 12);
    assert_eq!(store.put(&clean(record(&k1, 11, &[]))).await, Err(StoreError::Conflict(12)));
    store.put(&clean(record(&k1, MAX_VERSION, &[]))).await.unwrap();
    assert_eq!(store.get(&k1).await.unwrap().unwrap().version, MAX_VERSION);
    assert_eq!(
        store.put(&clean(record(&k1, MAX_VERSION - 1, &[]))).await,
        Err(StoreError::Conflict(MAX_VERSION))
    );
}

#[tokio::test]
async fn versions_and_preconditions_decide() {
    let server = Server::start(&[]).await;
    let store = connect(&server).await;
    let a = key(&ACCOUNT, "a");
    let put = async |version, expect| store.put(&expecting(record(&a, version, &[]), expect)).await;
    put(5, Expect::AtMost(1)).await.unwrap();
    assert_eq!(put(9, Expect::AtMost(4)).await, Err(StoreError::Conflict(5)));
    assert_eq!(put(9, Expect::Absent).await, Err(StoreError::Conflict(5)));
    put(5, Expect::Absent).await.unwrap();
    put(9, Expect::AtMost(5)).await.unwrap();
    assert_eq!(put(8, Expect::Anything).await, Err(StoreError::Conflict(9)));
    store.put(&clean(tombstone(&a, 10))).await.unwrap();
    put(11, Expect::Absent).await.unwrap();
    let short = Record { expires_at: Some(now_ms() - 1), ..record(&a, 12, &[]) };
    store.put(&dirty(short)).await.unwrap();
    assert_eq!(store.get(&a).await.unwrap(), None, "expired is absent");
    put(13, Expect::Absent).await.unwrap();
}

#[tokio::test]
async fn what_is_dirty_does_not_expire_until_it_is_settled() {
    let server = Server::start(&[]).await;
    let (store, mut crs) = (connect(&server).await, server.other().await);
    let (s, t, k) = (key(&SESSION, "s"), key(&SESSION, "t"), key(&API_KEY, "k"));
    let expiring = |key, version| Record { expires_at: Some(now_ms() + 60_000), ..record(key, version, &[]) };
    store.put(&dirty(expiring(&s, 5))).await.unwrap();
    store.put(&dirty(tombstone(&t, 5))).await.unwrap();
    store.put(&dirty(expiring(&k, 5))).await.unwrap();
    assert_eq!(crs.number("PTTL session:s").await, -1);
    assert_eq!(crs.number("PTTL switchyard:tombstone:session:t").await, -1);

    store.settle(&[(s.clone(), 4), (t.clone(), 6)]).await.unwrap();
    assert_eq!(store.backlog().await.unwrap().records, 3, "another version settles nothing");
    store.settle(&[(s.clone(), 5), (t, 5), (k.clone(), 5)]).await.unwrap();
    assert_eq!(store.backlog().await.unwrap().records, 0);
    assert!(crs.number("PTTL session:s").await > 0);
    assert!(crs.number("PTTL switchyard:tombstone:session:t").await > 0);
    assert_eq!(crs.number("PTTL apikey:k").await, -1, "a whole kind never expires");

    store.put(&dirty(expiring(&s, 6))).await.unwrap();
    crs.run("DEL session:s").await;
    assert!(store.dirty(Version::MAX, 0, 10).await.unwrap().is_empty());
    assert_eq!(store.backlog().await.unwrap().records, 0, "the mark of a removed record goes");
}

#[tokio::test]
async fn a_scan_goes_through_live_records_in_order() {
    let server = Server::start(&[]).await;
    let (store, mut crs) = (connect(&server).await, server.other().await);
    let mut expected = Vec::new();
    for number in 0..450 {
        let id = format!("s{number:03}");
        store.put(&clean(record(&key(&SESSION, &id), 1_000, &[("n", "1")]))).await.unwrap();
        expected.push(id);
    }
    crs.run("DEL session:s000 session:s449").await;
    store.put(&clean(tombstone(&key(&SESSION, "s222"), 2_000))).await.unwrap();
    expected.retain(|id| !["s000", "s449", "s222"].contains(&id.as_str()));
    for limit in [7, 447, 1_000] {
        let (mut seen, mut cursor) = (Vec::new(), None);
        loop {
            let page = store.scan(&SESSION, cursor.as_deref(), limit).await.unwrap();
            assert!(page.records.len() <= limit as usize);
            seen.extend(ids(&page));
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen, expected, "limit {limit}");
    }
}

#[tokio::test]
async fn the_ids_of_expired_records_do_not_pile_up() {
    let server = Server::start(&[]).await;
    let (store, mut crs) = (connect(&server).await, server.other().await);
    for number in 0..300 {
        let expires_at = Some(now_ms() - 1);
        let id = key(&SESSION, &format!("s{number}"));
        store.put(&clean(Record { expires_at, ..record(&id, 5, &[]) })).await.unwrap();
    }
    let left = crs.number("ZCARD switchyard:ids:session").await;
    assert!(left < 100, "{left} ids of 300 expired records are left");
}

#[tokio::test]
async fn what_cannot_be_stored_is_refused() {
    let server = Server::start(&[]).await;
    let store = connect(&server).await;
    let unsupported = |result| matches!(result, Err(StoreError::Unsupported(_)));
    let state = record(&key(&STRATEGY_STATE, "a"), 5, &[]);
    assert!(unsupported(store.put(&dirty(state)).await));
    let reserved = record(&key(&SESSION, "a"), 5, &[("_version", "9")]);
    assert!(unsupported(store.put(&dirty(reserved)).await));
    assert!(unsupported(store.find(&SESSION, "hash", "h").await.map(drop)));
    assert!(!store.complete(&SESSION).await.unwrap());
    store.set_complete(&SESSION).await.unwrap();
    assert!(store.complete(&SESSION).await.unwrap());
    store.probe().await.unwrap();
}

async fn scan(store: &Redis, kind: &'static Kind, cursor: Option<&str>, limit: u32) -> crate::store::Page {
    store.scan(kind, cursor, limit).await.unwrap()
}

fn ids(page: &crate::store::Page) -> Vec<String> {
    page.records.iter().map(|record| record.key.id.to_string()).collect()
}
