//! Usage is counted once, however often it is offered.

use jiff::tz::Offset;

use super::*;

fn event(id: &str, tokens: u64) -> UsageEvent {
    UsageEvent {
        id: id.into(),
        key_id: "k".into(),
        account_id: Some("a".into()),
        model: "m".into(),
        at: "2026-03-31T23:30:00.123456Z".parse().unwrap(),
        input_tokens: tokens,
        output_tokens: 0,
        cache_creation_5m_tokens: 0,
        cache_creation_1h_tokens: 0,
        cache_read_tokens: 0,
        cost_micro_usd: 7,
        request_id: None,
        partial: false,
    }
}

fn batch(events: Vec<UsageEvent>, mark: Mark) -> Usage {
    Usage::new(events, Offset::constant(1), mark)
}

/// (version, requests, input tokens, cost) of a window.
async fn totals(store: &Sqlite, window: &str) -> Option<(Version, String, String, String)> {
    let total = store.get(&key(&kind::USAGE, &format!("k:{window}"))).await.unwrap()?;
    let field = |name: &str| total.fields[name].clone();
    Some((total.version, field("requests"), field("input_tokens"), field("cost_micro_usd")))
}

fn counted(requests: u64, tokens: u64) -> Option<(Version, String, String, String)> {
    Some((requests, requests.to_string(), tokens.to_string(), (7 * requests).to_string()))
}

#[tokio::test]
async fn a_repeated_event_counts_once() {
    let (folder, store) = fresh().await;
    // The same id twice in one batch, with other contents: the first one counts.
    let mut twice = batch(vec![], Mark::Dirty);
    twice.events = Arc::new(vec![event("1", 10), event("1", 99), event("2", 20)]);
    assert_eq!(store.add(&twice).await, Ok(2));
    assert_eq!(store.add(&batch(vec![event("2", 20), event("3", 30)], Mark::Clean)).await, Ok(1));
    let store = reopen(store, &folder).await;
    assert_eq!(store.add(&batch(vec![event("3", 30)], Mark::Dirty)).await, Ok(0));
    for window in ["total", "monthly:2026-04", "daily:2026-04-01", "hourly:2026-04-01T00"] {
        assert_eq!(totals(&store, window).await, counted(3, 60), "{window}");
    }
    assert_eq!(totals(&store, "monthly:2026-03").await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_batches_share_each_event_out_once() {
    let (_folder, store) = fresh().await;
    // Each of 300 events is in 4 of 100 batches.
    let batches = (0..100u64).map(|i| {
        let ids = (0..12u64).map(move |j| (i * 3 + j) % 300);
        let usage = batch(ids.map(|id| event(&id.to_string(), id)).collect(), Mark::Clean);
        let store = &store;
        async move { store.add(&usage).await.unwrap() }
    });
    let new: u64 = futures::future::join_all(batches).await.into_iter().sum();
    assert_eq!(new, 300, "each event was new to exactly one caller");
    assert_eq!(totals(&store, "total").await, counted(300, 299 * 300 / 2));
}

#[tokio::test]
async fn owed_events_are_kept_whole_until_settled() {
    let (folder, store) = fresh().await;
    let events = vec![event("1", 10), event("2", 20)];
    store.add(&batch(events.clone(), Mark::Dirty)).await.unwrap();
    store.add(&batch(vec![event("3", 30)], Mark::Clean)).await.unwrap();
    let store = reopen(store, &folder).await;
    let mut owed = store.owed_usage(None, 10).await.unwrap();
    owed.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(owed, events);
    assert_eq!(store.owed_usage(None, 1).await.unwrap().len(), 1);
    store.settle_usage(&["1".into(), "3".into()]).await.unwrap();
    assert_eq!(store.owed_usage(None, 10).await.unwrap(), events[1..]);
    assert_eq!(store.backlog().await.unwrap(), Backlog::new(0, 1, None));
    assert_eq!(totals(&store, "total").await, counted(3, 60), "settled events stay counted");
}

#[tokio::test]
async fn any_text_is_an_id() {
    let (_folder, store) = fresh().await;
    let ids = ["", "1", "1.0", "\"", "ü", "a\0b", "a", "null", "[1]"];
    let events = || ids.map(|id| event(id, 1)).to_vec();
    assert_eq!(store.add(&batch(events(), Mark::Dirty)).await, Ok(9));
    assert_eq!(store.add(&batch(events(), Mark::Dirty)).await, Ok(0));
    assert_eq!(totals(&store, "total").await, counted(9, 9));
    store.settle_usage(&ids.map(str::to_owned)).await.unwrap();
    assert!(store.backlog().await.unwrap().is_empty());
}

#[tokio::test]
async fn totals_stop_at_the_greatest_integer() {
    let (folder, store) = fresh().await;
    let near = i64::MAX - 5;
    let columns = row::counters();
    let fill =
        format!("insert into usage_total (id, {columns}) values ('k:total', 1, {near}, 0, 0, 0, 0, 0)");
    let options = link::writing(&folder::database(folder.path()), DEADLINE);
    let mut link = Link::open(options).await.unwrap();
    link.rows(sqlx::query(AssertSqlSafe(fill))).await.unwrap();
    assert_eq!(store.add(&batch(vec![event("1", 10)], Mark::Clean)).await, Ok(1));
    assert_eq!(totals(&store, "total").await.unwrap().2, i64::MAX.to_string());
}
