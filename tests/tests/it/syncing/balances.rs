//! Opening balances in each durable store, and what a store tells of its windows and tombstones.

use jiff::tz::Offset;
use switchyard::store::kind::{ACCOUNT, USAGE};
use switchyard::store::postgres::{Postgres, PostgresSettings};
use switchyard::store::sqlite::Sqlite;
use switchyard::store::{Backend, Key, Mark, Usage, UsageEvent};
use switchyard_tests::contract::{DEADLINE, Subject};

const WEST: Offset = Offset::constant(-5);

fn event(id: &str) -> UsageEvent {
    UsageEvent {
        id: id.into(),
        key_id: "k".into(),
        account_id: Some("a".into()),
        model: "m/1".into(),
        // Still the first of January in the west.
        at: "2026-01-02T03:04:05Z".parse().unwrap(),
        input_tokens: 10,
        output_tokens: 0,
        cache_creation_5m_tokens: 0,
        cache_creation_1h_tokens: 0,
        cache_read_tokens: 0,
        cost_micro_usd: 5,
        request_id: None,
        partial: false,
    }
}

async fn count(store: &dyn Backend, ids: &[&str], mark: Mark) {
    let events = ids.iter().map(|id| event(id)).collect();
    store.add(&Usage::new(events, WEST, mark)).await.unwrap();
}

async fn requests(store: &dyn Backend, id: &str) -> u64 {
    let key = Key::new(&USAGE, id).unwrap();
    store.get(&key).await.unwrap().map_or(0, |record| record.version)
}

/// The other store has counted 7 requests, one of which (`both`) this one has, too; `owed` it has not.
async fn opens_once(subject: Subject) {
    let store = &*subject.store;
    count(store, &["both"], Mark::Clean).await;
    count(store, &["owed"], Mark::Dirty).await;
    let ids = [
        "k:total",
        "k:monthly:2026-01",
        "k:weekly:2026-W01",
        "k:daily:2026-01-01",
        "k:hourly:2026-01-01T22",
        "account:a:total",
        "account:a:weekly:2026-W01",
        "model:m~2F1:total",
        "k:model:m~2F1:daily:2026-01-01",
    ];
    let held: Vec<_> = ids.map(|id| (id.to_owned(), [7, 100, 0, 0, 0, 0, 50])).into();
    let other = ("gone:total".to_owned(), [0; 7]);
    let held = [held, vec![other]].concat();
    for raised in [ids.len() as u64, 0] {
        assert_eq!(store.open_balances(&held, WEST, "redis").await.unwrap(), raised);
        for id in ids {
            assert_eq!(requests(store, id).await, 8, "{id}");
        }
    }
    // Less is held there now: nothing is lowered. More: the rest is taken over.
    let less = vec![("k:total".to_owned(), [1, 1, 0, 0, 0, 0, 1])];
    assert_eq!(store.open_balances(&less, WEST, "redis").await.unwrap(), 0);
    count(store, &["later"], Mark::Dirty).await;
    let more = vec![("k:total".to_owned(), [8, 0, 0, 0, 0, 0, 0])];
    assert_eq!(store.open_balances(&more, WEST, "redis").await.unwrap(), 1);
    assert_eq!(requests(store, "k:total").await, 10);

    let counted = store.has_counted(&["owed".into(), "never".into()]).await.unwrap();
    assert_eq!(counted, ["owed"]);
    let totals = store.windows(None, 10, false).await.unwrap().counted;
    let totals: Vec<_> = totals.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(totals, ["account:a:total", "k:model:m~2F1:total", "k:total", "model:m~2F1:total"]);
    let (mut cursor, mut every) = (None::<String>, 0);
    loop {
        let page = store.windows(cursor.as_deref(), 2, true).await.unwrap();
        every += page.counted.len();
        match page.next {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    assert_eq!(every, 20, "five windows of the key, the account, the model and the two together");
    assert!(store.tombstones(&ACCOUNT, None, 10).await.unwrap().records.is_empty());
}

#[tokio::test]
async fn postgres_takes_over_what_was_counted_once() {
    let url = switchyard_tests::servers::Postgres::shared().database().await;
    let settings = PostgresSettings { deadline: DEADLINE, ..PostgresSettings::new(url) };
    opens_once(Subject::new(Postgres::connect(settings).unwrap())).await;
}

#[tokio::test]
async fn the_embedded_database_takes_over_what_was_counted_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = Sqlite::open(folder.path(), DEADLINE).await.unwrap();
    opens_once(Subject::on(folder, store)).await;
}
