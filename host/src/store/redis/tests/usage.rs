//! Usage in Claude Relay Service's counters.

use jiff::tz::Offset;

use super::server::Server;
use super::*;
use crate::store::kind::USAGE;
use crate::store::{Backend, Store, Usage, UsageEvent};

fn event(id: &str, input_tokens: u64) -> UsageEvent {
    UsageEvent {
        id: id.into(),
        key_id: "k1".into(),
        account_id: None,
        model: "m".into(),
        at: "2025-09-16T20:30:00Z".parse().unwrap(),
        input_tokens,
        output_tokens: 2,
        cache_creation_5m_tokens: 3,
        cache_creation_1h_tokens: 4,
        cache_read_tokens: 5,
        cost_micro_usd: 6,
        request_id: None,
        partial: false,
    }
}

fn batch(events: &[UsageEvent], mark: Mark) -> Usage {
    Usage::new(events.to_vec(), Offset::constant(8), mark)
}

async fn total(store: &Redis, window: &str, counter: &str) -> Option<String> {
    let totals = store.get(&Key::new(&USAGE, &format!("k1:{window}")).unwrap()).await.unwrap()?;
    assert_eq!(totals.version.to_string(), totals.fields["requests"]);
    Some(totals.fields[counter].clone())
}

#[tokio::test]
async fn each_event_counts_once_in_every_window() {
    let server = Server::start(&[]).await;
    let (store, mut crs) = (connect(&server).await, server.other().await);
    assert_eq!(total(&store, "total", "requests").await, None);
    assert_eq!(store.add(&batch(&[event("a", 1), event("b", 10)], Mark::Dirty)).await.unwrap(), 2);
    assert_eq!(store.add(&batch(&[event("b", 10), event("c", 100)], Mark::Clean)).await.unwrap(), 1);
    for window in ["total", "monthly:2025-09", "daily:2025-09-17", "hourly:2025-09-17T04"] {
        assert_eq!(total(&store, window, "input_tokens").await.as_deref(), Some("111"), "{window}");
        assert_eq!(total(&store, window, "requests").await.as_deref(), Some("3"), "{window}");
        assert_eq!(total(&store, window, "cache_creation_5m_tokens").await.as_deref(), Some("9"));
        assert_eq!(total(&store, window, "cache_creation_1h_tokens").await.as_deref(), Some("12"));
    }
    for (command, count) in [
        ("HGET usage:k1 totalTokens", 117),
        ("HGET usage:k1 totalCacheCreateTokens", 21),
        ("HGET usage:daily:k1:2025-09-17 tokens", 117),
        ("HGET usage:hourly:k1:2025-09-17:04 allTokens", 153),
        ("HGET usage:monthly:k1:2025-09 costMicroUsd", 18),
        ("TTL usage:k1", -1),
    ] {
        assert_eq!(crs.number(command).await, count, "{command}");
    }
    let life = crs.number("TTL usage:daily:k1:2025-09-17").await;
    assert!((31 * 86_400..=32 * 86_400).contains(&life), "{life}");
}

#[tokio::test]
async fn dirty_events_are_owed_until_they_are_settled() {
    let server = Server::start(&[]).await;
    let store = connect(&server).await;
    store.add(&batch(&[event("a", 1), event("b", 10)], Mark::Dirty)).await.unwrap();
    store.add(&batch(&[event("c", 1)], Mark::Clean)).await.unwrap();
    let mut owed = store.owed_usage(10).await.unwrap();
    owed.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(owed, [event("a", 1), event("b", 10)]);
    assert_eq!(store.owed_usage(1).await.unwrap().len(), 1);
    store.settle_usage(&["a".into(), "unknown".into()]).await.unwrap();
    assert_eq!(store.backlog().await.unwrap().usage, 1);
    assert_eq!(total(&store, "total", "requests").await.as_deref(), Some("3"));
}

#[tokio::test]
async fn counting_goes_on_from_another_programs_counters() {
    let server = Server::start(&[]).await;
    let (store, mut crs) = (connect(&server).await, server.other().await);
    crs.run("HSET usage:k1 totalRequests 7 totalCacheCreateTokens 50 totalInputTokens 2.5").await;
    assert_eq!(total(&store, "total", "cache_creation_5m_tokens").await.as_deref(), Some("50"));
    store.add(&batch(&[event("a", 1)], Mark::Clean)).await.unwrap();
    assert_eq!(total(&store, "total", "requests").await.as_deref(), Some("8"));
    assert_eq!(total(&store, "total", "input_tokens").await.as_deref(), Some("3"));

    crs.run("SET usage:daily:k1:2025-09-17 no-hash").await;
    assert!(store.add(&batch(&[event("b", 1)], Mark::Clean)).await.is_err());
    crs.run("DEL usage:daily:k1:2025-09-17").await;
    assert_eq!(total(&store, "total", "requests").await.as_deref(), Some("8"), "all of a batch or nothing");
    assert_eq!(store.add(&batch(&[event("b", 1)], Mark::Clean)).await.unwrap(), 1);
}
