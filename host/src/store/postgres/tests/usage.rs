use futures::future::join_all;
use jiff::{Timestamp, tz::Offset};

use super::*;
use crate::store::postgres::server::{Server, execute, number};
use crate::store::{Backend, Backlog, Store, Usage, UsageEvent};

fn event(id: &str) -> UsageEvent {
    UsageEvent {
        id: id.into(),
        key_id: "k".into(),
        account_id: None,
        model: "m".into(),
        at: Timestamp::from_microsecond(1_790_000_000_123_456).unwrap(),
        input_tokens: 10,
        output_tokens: 20,
        cache_creation_5m_tokens: 0,
        cache_creation_1h_tokens: 1,
        cache_read_tokens: 2,
        cost_micro_usd: 3,
        request_id: None,
        partial: false,
    }
}

fn batch(ids: &[&str], mark: Mark) -> Usage {
    Usage::new(ids.iter().map(|id| event(id)).collect(), Offset::UTC, mark)
}

async fn total(store: &Postgres, window: &str) -> Option<(Version, Fields)> {
    let key = Key::new(&kind::USAGE, &format!("k:{window}")).unwrap();
    store.get(&key).await.unwrap().map(|record| (record.version, record.fields.clone()))
}

#[tokio::test]
async fn events_count_once_in_every_window() {
    let store = store(&Server::shared().database().await);
    assert_eq!(store.add(&batch(&["a", "b", "a"], Mark::Clean)).await.unwrap(), 2);
    assert_eq!(store.add(&batch(&["b", "c"], Mark::Clean)).await.unwrap(), 1);
    assert_eq!(store.add(&batch(&["b", "c"], Mark::Clean)).await.unwrap(), 0);
    assert_eq!(store.add(&batch(&[], Mark::Clean)).await.unwrap(), 0);
    for window in ["total", "monthly:2026-09", "daily:2026-09-21", "hourly:2026-09-21T14"] {
        let (version, fields) = total(&store, window).await.expect(window);
        assert_eq!(version, 3, "{window}");
        assert_eq!(fields["requests"], "3");
        assert_eq!(fields["output_tokens"], "60");
        assert_eq!(fields["cost_micro_usd"], "9");
    }
    assert_eq!(total(&store, "daily:2026-09-22").await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_batches_share_events_and_each_learns_its_own() {
    let url = Server::shared().database().await;
    let stores = [store(&url), store(&url)];
    let adds = (0..100).map(|n| {
        let ids: Vec<_> = (n..n + 10).map(|id| format!("e{id}")).collect();
        let store = &stores[n % 2];
        async move {
            let ids: Vec<_> = ids.iter().map(String::as_str).collect();
            store.add(&batch(&ids, Mark::Dirty)).await.unwrap()
        }
    });
    assert_eq!(join_all(adds).await.into_iter().sum::<u64>(), 109);
    assert_eq!(total(&stores[0], "total").await.unwrap().0, 109);
    assert_eq!(number(&url, "select count(*) from usage_event").await, 109);
    assert_eq!(stores[1].backlog().await.unwrap(), Backlog::new(0, 109, None));
}

#[tokio::test]
async fn batches_of_one_statement_keep_their_own_offset_and_mark() {
    let url = Server::shared().database().await;
    // One worker for writes, so that it drains both at once.
    let store = Postgres::connect(PostgresSettings { connections: 2, ..PostgresSettings::new(url) }).unwrap();
    store.probe().await.unwrap();
    let east = Usage::new(vec![event("a")], Offset::constant(10), Mark::Dirty);
    let west = Usage::new(vec![event("a"), event("b")], Offset::constant(-10), Mark::Clean);
    let (east, west) = tokio::join!(store.add(&east), store.add(&west));
    assert_eq!((east.unwrap(), west.unwrap()), (1, 1));
    assert_eq!(total(&store, "hourly:2026-09-22T00").await.unwrap().0, 1);
    assert_eq!(total(&store, "hourly:2026-09-21T04").await.unwrap().0, 1);
    assert_eq!(store.owed_usage(None, 10).await.unwrap(), [event("a")]);
    store.settle_usage(&["a".into(), "none".into()]).await.unwrap();
    assert!(store.owed_usage(None, 10).await.unwrap().is_empty());
    assert_eq!(total(&store, "total").await.unwrap().0, 2);
}

#[tokio::test]
async fn totals_stop_at_the_greatest_number() {
    let url = Server::shared().database().await;
    let store = store(&url);
    store.add(&batch(&["a"], Mark::Clean)).await.unwrap();
    execute(&url, &format!("update usage_total set input_tokens = {}", i64::MAX - 1)).await;
    store.add(&batch(&["b"], Mark::Clean)).await.unwrap();
    let (requests, fields) = total(&store, "total").await.unwrap();
    assert_eq!((requests, fields["input_tokens"].as_str()), (2, i64::MAX.to_string().as_str()));
}

#[tokio::test]
async fn events_go_to_the_partition_of_their_month() {
    let url = Server::shared().database().await;
    let store = store(&url);
    let now = UsageEvent { at: Timestamp::now(), ..event("now") };
    store.add(&Usage::new(vec![now, event("old")], Offset::UTC, Mark::Clean)).await.unwrap();
    let this_month = Timestamp::now().strftime("usage_event_%Y_%m").to_string();
    assert_eq!(number(&url, &format!("select count(*) from {this_month}")).await, 1);
    assert_eq!(number(&url, "select count(*) from usage_event").await, 2);
}
