//! Usage in Claude Relay Service's counters.

use jiff::tz::Offset;

use super::server::{Other, Server};
use super::*;
use crate::store::kind::USAGE;
use crate::store::{Backend, Maintenance, Store, Usage, UsageEvent};

fn event(id: &str, input_tokens: u64) -> UsageEvent {
    UsageEvent {
        id: id.into(),
        key_id: "k1".into(),
        account_id: Some("a1".into()),
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
    let store = connect(&server).await;
    assert_eq!(total(&store, "total", "requests").await, None);
    assert_eq!(store.add(&batch(&[event("a", 1), event("b", 10)], Mark::Dirty)).await.unwrap(), 2);
    assert_eq!(store.add(&batch(&[event("b", 10), event("c", 100)], Mark::Clean)).await.unwrap(), 1);
    for window in ["total", "monthly:2025-09", "daily:2025-09-17", "hourly:2025-09-17T04"] {
        assert_eq!(total(&store, window, "input_tokens").await.as_deref(), Some("111"), "{window}");
        assert_eq!(total(&store, window, "requests").await.as_deref(), Some("3"), "{window}");
        assert_eq!(total(&store, window, "cache_creation_5m_tokens").await.as_deref(), Some("9"));
        assert_eq!(total(&store, window, "cache_creation_1h_tokens").await.as_deref(), Some("12"));
    }
}

/// What Claude Relay Service has after three events.
const LAYOUT: [(&str, i64); 22] = [
    ("HGET usage:k1 totalTokens", 117),
    ("HGET usage:k1 totalCacheCreateTokens", 21),
    ("HGET usage:daily:k1:2025-09-17 tokens", 117),
    ("HGET usage:hourly:k1:2025-09-17:04 allTokens", 153),
    ("HGET usage:monthly:k1:2025-09 costMicroUsd", 18),
    ("HGET usage:model:daily:m:2025-09-17 inputTokens", 111),
    ("HGET usage:model:monthly:m:2025-09 requests", 3),
    ("HGET usage:k1:model:alltime:m requests", 3),
    ("HGET usage:k1:model:hourly:m:2025-09-17:04 realCostMicro", 18),
    ("HGET usage:k1:model:monthly:m:2025-09 ratedCostMicro", 18),
    ("HGET account_usage:a1 totalAllTokens", 153),
    ("HGET account_usage:daily:a1:2025-09-17 allTokens", 153),
    ("SISMEMBER usage:daily:index:2025-09-17 k1", 1),
    ("SISMEMBER usage:hourly:index:2025-09-17:04 k1", 1),
    ("SISMEMBER usage:model:daily:index:2025-09-17 m", 1),
    ("SISMEMBER usage:model:monthly:index:2025-09 m", 1),
    ("SISMEMBER usage:model:monthly:months 2025-09", 1),
    ("SISMEMBER usage:keymodel:daily:index:2025-09-17 k1:m", 1),
    ("SISMEMBER account_usage:hourly:index:2025-09-17:04 a1", 1),
    ("EXISTS usage:daily:index:2025-09-17:empty", 0),
    ("TTL usage:k1", -1),
    ("TTL usage:cost:total:k1", -1),
];

/// Every key that Claude Relay Service reads has what it would have counted itself.
#[tokio::test]
async fn another_program_finds_what_was_counted() {
    let server = Server::start(&[]).await;
    let (store, mut crs) = (connect(&server).await, server.other().await);
    crs.run("SET usage:daily:index:2025-09-17:empty 1").await;
    store.add(&batch(&[event("a", 1), event("b", 10)], Mark::Dirty)).await.unwrap();
    store.add(&batch(&[event("c", 100)], Mark::Clean)).await.unwrap();
    for (command, count) in LAYOUT {
        assert_eq!(crs.number(command).await, count, "{command}");
    }
    for dollars in
        ["usage:cost:total:k1", "usage:cost:daily:k1:2025-09-17", "usage:cost:hourly:k1:2025-09-17:04"]
    {
        assert_eq!(crs.text(&format!("GET {dollars}")).await.as_deref(), Some("0.000018"), "{dollars}");
    }
    for (key, days) in [("usage:daily:k1:2025-09-17", 32), ("usage:cost:daily:k1:2025-09-17", 33)] {
        let life = crs.number(&format!("TTL {key}")).await;
        assert!(((days - 1) * 86_400..=days * 86_400).contains(&life), "{key} {life}");
    }
}

#[tokio::test]
async fn dirty_events_are_owed_until_they_are_settled() {
    let server = Server::start(&[]).await;
    let store = connect(&server).await;
    store.add(&batch(&[event("a", 1), event("b", 10)], Mark::Dirty)).await.unwrap();
    store.add(&batch(&[event("c", 1)], Mark::Clean)).await.unwrap();
    let mut owed = store.owed_usage(None, 10).await.unwrap();
    owed.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(owed, [event("a", 1), event("b", 10)]);
    assert_eq!(store.owed_usage(None, 1).await.unwrap().len(), 1);
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

/// Both programs count dollars in one key, one after the other: each sees the sum.
#[tokio::test]
async fn dollars_of_both_programs_are_one_sum() {
    let server = Server::start(&[]).await;
    let (store, mut crs) = (connect(&server).await, server.other().await);
    crs.run("SET usage:cost:total:k1 1.25").await;
    crs.run("HSET usage:k1 totalRequests 2").await;
    crs.run("HSET usage:k1:model:alltime:m requests 2 ratedCostMicro 100 realCostMicro 90").await;
    assert_eq!(total(&store, "total", "cost_micro_usd").await.as_deref(), Some("1250000"));
    store.add(&batch(&[event("a", 1)], Mark::Clean)).await.unwrap();
    assert_eq!(total(&store, "total", "cost_micro_usd").await.as_deref(), Some("1250006"));
    crs.run("INCRBYFLOAT usage:cost:total:k1 0.5").await;
    store.add(&batch(&[event("b", 1)], Mark::Clean)).await.unwrap();
    assert_eq!(total(&store, "total", "cost_micro_usd").await.as_deref(), Some("1750012"));
    assert_eq!(total(&store, "model:m:total", "cost_micro_usd").await.as_deref(), Some("112"));
    assert_eq!(total(&store, "daily:2025-09-17", "cost_micro_usd").await.as_deref(), Some("12"));
    let windows = store.windows(None, 100, true).await.unwrap().counted;
    assert_eq!(windows.len(), 20, "{windows:?}");
}

/// A set of Claude Relay Service's that is something else stops no counting.
#[tokio::test]
async fn an_index_that_is_no_set_is_left_alone() {
    let server = Server::start(&[]).await;
    let (store, mut crs) = (connect(&server).await, server.other().await);
    crs.run("SET usage:daily:index:2025-09-17 text").await;
    crs.run("SET usage:cost:daily:k1:2025-09-17 much").await;
    assert_eq!(store.add(&batch(&[event("a", 1)], Mark::Clean)).await.unwrap(), 1);
    assert_eq!(total(&store, "daily:2025-09-17", "cost_micro_usd").await.as_deref(), Some("6"));
    assert_eq!(crs.text("GET usage:daily:index:2025-09-17").await.as_deref(), Some("text"));
}

/// Of as many keys as a drain offers at once: each has windows of its own, and nobody else is served meanwhile.
#[tokio::test]
async fn usage_of_many_keys_does_not_hold_redis_up() {
    let server = Server::start(&[]).await;
    let deadline = Duration::from_secs(60);
    let store = Redis::connect(RedisSettings { deadline, ..settings(&server) }).await.unwrap();
    let of_key = |n: usize| UsageEvent { key_id: format!("k{n}"), ..event(&format!("e{n}"), 1) };
    let events: Vec<_> = (0..500).map(of_key).collect();
    let mut crs = server.other().await;
    let before = busy(&mut crs).await;
    assert_eq!(store.add(&batch(&events, Mark::Dirty)).await, Ok(500));
    assert_eq!(store.add(&batch(&events, Mark::Dirty)).await, Ok(0));
    // By the clock of the server's own work, which does not depend on what else the machine does.
    let took = busy(&mut crs).await - before;
    assert!(took < 2.0, "{took} s");
    assert_eq!(store.backlog().await.unwrap().usage, 500);
    assert_eq!(total(&store, "total", "requests").await.as_deref(), Some("1"));
    let of_all = Key::new(&USAGE, "account:a1:daily:2025-09-17").unwrap();
    assert_eq!(store.get(&of_all).await.unwrap().unwrap().fields["requests"], "500");
}

/// For how many seconds the server has worked.
async fn busy(crs: &mut Other) -> f64 {
    let info = crs.text("INFO cpu").await.unwrap();
    let of =
        |name| info.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok()).unwrap();
    of("used_cpu_user:") + of("used_cpu_sys:")
}
