//! The five built-in strategies, each asked everything.

use super::*;
use crate::store::{Mark, Usage, UsageEvent};

macro_rules! built_in {
    ($name:literal) => {
        ($name, include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".wasm")).as_slice())
    };
}

pub(super) const BUILT_IN: [(&str, &[u8]); 5] = [
    built_in!("dual_write"),
    built_in!("cache_first"),
    built_in!("database_first"),
    built_in!("redis_only"),
    built_in!("postgres_only"),
];

fn usage(id: &str) -> Usage {
    let event =
        format!(r#"{{"id":"{id}","key_id":"k","model":"m","at":"2026-01-01T00:00:00Z","input_tokens":3}}"#);
    let event: UsageEvent = serde_json::from_str(&event).unwrap();
    Usage::new(vec![event], jiff::tz::Offset::UTC, Mark::Dirty)
}

#[tokio::test]
async fn each_answers_all_five_functions() {
    let engine = engine();
    for (name, bytes) in BUILT_IN {
        let compiled = engine.check(bytes, BOTH).await.unwrap();
        engine.smoke(&compiled).await.unwrap();
        let (_, _, sides) = stores().await;
        let strategy = engine.load(&compiled, sides, name, 1, &Metrics::default());
        assert_eq!(strategy.get(&key("a")).await, Ok(None), "{name}");
        let written = write("a", 5);
        strategy.put(&written).await.unwrap();
        assert_eq!(strategy.get(&key("a")).await.unwrap().as_ref(), Some(&written.record), "{name}");
        let found = strategy.find(&kind::API_KEY, "hash", "hash-of-a").await.unwrap();
        assert_eq!(found.as_ref(), Some(&written.record), "{name}");
        assert_eq!(strategy.find(&kind::API_KEY, "hash", "other").await, Ok(None), "{name}");
        strategy.put(&write("b", 6)).await.unwrap();
        let first = strategy.scan(&kind::API_KEY, None, 1).await.unwrap();
        let second = strategy.scan(&kind::API_KEY, first.next.as_deref(), 9).await.unwrap();
        assert_eq!((&*first.records[0].key.id, &*second.records[0].key.id), ("a", "b"), "{name}");
        assert_eq!(strategy.put(&write("a", 4)).await, Err(StoreError::Conflict(5)), "{name}");
        assert_eq!(strategy.add(&usage("e")).await, Ok(1), "{name}");
        assert_eq!(strategy.add(&usage("e")).await, Ok(0), "{name}");
        let total = Key::new(&kind::USAGE, "k:total").unwrap();
        assert_eq!(strategy.get(&total).await.unwrap().unwrap().fields["input_tokens"], "3", "{name}");
    }
}

#[tokio::test]
async fn receipts_say_where_a_write_is_and_needs_say_what_is_imported() {
    let engine = engine();
    let expected = [(3, true, true), (1, true, true), (3, true, true), (1, true, false), (2, false, true)];
    for ((name, bytes), (receipts, redis, postgres)) in BUILT_IN.into_iter().zip(expected) {
        let compiled = engine.check(bytes, BOTH).await.unwrap();
        assert_eq!(compiled.needs, Needs { redis, postgres }, "{name}");
        let (_, _, sides) = stores().await;
        let strategy = engine.load(&compiled, sides, name, 1, &Metrics::default());
        let (written, counted) = (write("a", 5), usage("e"));
        strategy.put(&written).await.unwrap();
        strategy.add(&counted).await.unwrap();
        assert_eq!((written.receipts.get(), counted.receipts.get()), (receipts, receipts), "{name}");
    }
}

#[tokio::test]
async fn a_precondition_is_the_callers_and_not_the_fills() {
    let engine = engine();
    for (name, bytes) in BUILT_IN {
        let (_, _, sides) = stores().await;
        let compiled = engine.check(bytes, BOTH).await.unwrap();
        let strategy = engine.load(&compiled, sides, name, 1, &Metrics::default());
        strategy.put(&write("a", 5)).await.unwrap();
        let late = Write::new(Arc::new(record("a", 9)), Expect::AtMost(4));
        assert_eq!(strategy.put(&late).await, Err(StoreError::Conflict(5)), "{name}");
        assert!(!late.receipts.any(), "{name}");
        let next = Write::new(Arc::new(record("a", 9)), Expect::AtMost(5));
        assert_eq!(strategy.put(&next).await, Ok(()), "{name}");
    }
}

#[tokio::test]
async fn a_miss_is_filled_clean() {
    let engine = engine();
    let compiled = engine.check(BUILT_IN[0].1, BOTH).await.unwrap();
    let (redis, postgres, sides) = stores().await;
    postgres.put(&write("a", 5)).await.unwrap();
    let strategy = engine.load(&compiled, sides, "dual_write", 1, &Metrics::default());
    assert!(strategy.get(&key("a")).await.unwrap().is_some());
    assert!(redis.get(&key("a")).await.unwrap().is_some());
    assert!(redis.backlog().await.unwrap().is_empty());
}
