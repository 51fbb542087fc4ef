//! Usage events are counted once each, in five windows of each subject, and owed until settled.

use std::sync::Arc;

use futures::future::join_all;
use jiff::tz::Offset;
use switchyard::store::usage::{MAX_COUNT, counter_fields};
use switchyard::store::{Backend, Fields, Mark, Usage, UsageEvent, kind};

use super::{OWED, key};

/// The event number `n` of a key: what it counts is different for each.
pub(super) fn event(id: &str, key_id: &str, n: u64) -> UsageEvent {
    UsageEvent {
        id: id.into(),
        key_id: key_id.into(),
        account_id: (!n.is_multiple_of(2)).then(|| format!("account-{n}")),
        model: "claude-sonnet-4".into(),
        at: "2026-01-31T23:30:15.25Z".parse().expect("a time"),
        input_tokens: n,
        output_tokens: n * 10,
        cache_creation_5m_tokens: n * 100,
        cache_creation_1h_tokens: n * 1_000,
        cache_read_tokens: n * 10_000,
        cost_micro_usd: n * 100_000,
        request_id: None,
        partial: false,
    }
}

pub(super) fn batch(events: &[UsageEvent], mark: Mark) -> Usage {
    Usage::new(events.to_vec(), Offset::UTC, mark)
}

pub(super) async fn add(store: &Arc<dyn Backend>, events: &[UsageEvent], mark: Mark) -> u64 {
    store.add(&batch(events, mark)).await.expect("a batch that counts")
}

/// The counters of one window; none before the first event.
pub(super) async fn totals(store: &Arc<dyn Backend>, id: &str) -> Option<Fields> {
    let key = key(&kind::USAGE, id);
    let record = store.get(&key).await.expect("a get that works")?;
    assert!(record.key == key && !record.deleted);
    Some(record.fields.clone())
}

fn of(requests: i64, n: i64) -> Option<Fields> {
    Some(counter_fields(&[requests, n, n * 10, n * 100, n * 1_000, n * 10_000, n * 100_000]))
}

async fn owed(store: &Arc<dyn Backend>) -> Vec<UsageEvent> {
    let mut owed = store.owed_usage(None, 10_000).await.expect("a list");
    owed.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(store.backlog().await.expect("a backlog").usage, owed.len() as u64);
    owed
}

pub async fn folded_into_windows(store: Arc<dyn Backend>) {
    let mut later = event("e2", "k", 2);
    later.at = "2026-02-01T00:00:00Z".parse().expect("a time");
    assert_eq!(add(&store, &[event("e1", "k", 1), later], OWED).await, 2);
    assert_eq!(add(&store, &[event("e3", "k", 4)], OWED).await, 1);
    assert_eq!(add(&store, &[], OWED).await, 0);
    for (window, expected) in [
        ("total", of(3, 7)),
        ("monthly:2026-01", of(2, 5)),
        ("monthly:2026-02", of(1, 2)),
        ("weekly:2026-W05", of(3, 7)),
        ("weekly:2026-W06", None),
        ("daily:2026-01-31", of(2, 5)),
        ("daily:2026-02-01", of(1, 2)),
        ("hourly:2026-01-31T23", of(2, 5)),
        ("hourly:2026-02-01T00", of(1, 2)),
        ("hourly:2026-01-31T22", None),
        ("daily:2026-01-30", None),
    ] {
        assert_eq!(totals(&store, &format!("k:{window}")).await, expected, "{window}");
    }
}

pub async fn folded_by_subject(store: Arc<dyn Backend>) {
    let (one, mut other) = (event("e1", "k", 1), event("e2", "k2", 3));
    other.model = "us.anthropic.Other/1:x-v1:0".into();
    assert_eq!(add(&store, &[one, other, event("e3", "k2", 5)], OWED).await, 3);
    for (subject, expected) in [
        ("k", of(1, 1)),
        ("k2", of(2, 8)),
        ("account:account-1", of(1, 1)),
        ("account:account-3", of(1, 3)),
        ("model:claude-sonnet-4", of(2, 6)),
        ("model:Other~2F1~3Ax", of(1, 3)),
        ("k:model:claude-sonnet-4", of(1, 1)),
        ("k2:model:claude-sonnet-4", of(1, 5)),
        ("k2:model:Other~2F1~3Ax", of(1, 3)),
        ("k:model:Other~2F1~3Ax", None),
        ("account:k", None),
    ] {
        for window in
            ["total", "monthly:2026-01", "weekly:2026-W05", "daily:2026-01-31", "hourly:2026-01-31T23"]
        {
            assert_eq!(totals(&store, &format!("{subject}:{window}")).await, expected, "{subject}:{window}");
        }
    }
}

pub async fn windows_of_an_offset(store: Arc<dyn Backend>) {
    let usage = Usage::new(vec![event("e", "k", 3)], Offset::constant(8), OWED);
    assert_eq!(store.add(&usage).await, Ok(1));
    for window in ["total", "monthly:2026-02", "daily:2026-02-01", "hourly:2026-02-01T07"] {
        assert_eq!(totals(&store, &format!("k:{window}")).await, of(1, 3), "{window}");
    }
    assert_eq!(totals(&store, "k:daily:2026-01-31").await, None);
}

pub async fn counted_once(store: Arc<dyn Backend>) {
    let (one, two, three) = (event("e1", "k", 1), event("e2", "k", 2), event("e3", "k", 4));
    // Of events with one id the first counts, whatever the others say.
    let other = event("e1", "other", 9);
    assert_eq!(add(&store, &[one.clone(), other.clone(), one.clone()], OWED).await, 1);
    assert_eq!(add(&store, &[one.clone(), two.clone()], OWED).await, 1);
    assert_eq!(add(&store, &[other, two.clone(), one.clone()], Mark::Clean).await, 0);
    assert_eq!(add(&store, &[three.clone(), two.clone()], Mark::Clean).await, 1);
    assert_eq!(totals(&store, "k:total").await, of(3, 7));
    assert_eq!(totals(&store, "other:total").await, None);
    assert_eq!(owed(&store).await, [one, two]);
}

pub async fn counted_once_at_once(store: Arc<dyn Backend>) {
    let events: Vec<_> = (0..40).map(|n| event(&format!("e{n:02}"), &format!("k{}", n % 3), n)).collect();
    let adders = (0..16).map(|adder| {
        // Each batch overlaps its neighbours, and every second one runs backwards.
        let mut part: Vec<_> = events.iter().cycle().skip(adder * 5).take(15).cloned().collect();
        if adder % 2 == 1 {
            part.reverse();
        }
        let store = store.clone();
        tokio::spawn(async move { add(&store, &part, OWED).await })
    });
    let new: u64 = join_all(adders).await.into_iter().map(|new| new.expect("no panic")).sum();
    assert_eq!(new, 40, "each event is new to exactly one batch");
    for (subject, counts) in Usage::fold(&events, Offset::UTC) {
        assert_eq!(totals(&store, &subject).await, Some(counter_fields(&counts)), "{subject}");
    }
    assert_eq!(owed(&store).await, events);
}

pub async fn owed_until_settled(store: Arc<dyn Backend>) {
    let events: Vec<_> = (0..5).map(|n| event(&format!("e{n}"), "k", n)).collect();
    assert_eq!(add(&store, &events, OWED).await, 5);
    assert_eq!(store.owed_usage(None, 2).await.expect("a list").len(), 2);
    assert_eq!(owed(&store).await, events, "as they were added");

    store.settle_usage(&["e0".into(), "e3".into(), "unknown".into()]).await.expect("a settlement");
    assert_eq!(owed(&store).await, [events[1].clone(), events[2].clone(), events[4].clone()]);
    let all: Vec<_> = events.iter().map(|event| event.id.clone()).collect();
    for _ in 0..2 {
        store.settle_usage(&all).await.expect("a settlement, repeated");
        store.settle_usage(&[]).await.expect("a settlement of nothing");
        assert_eq!(owed(&store).await, []);
    }
    assert_eq!(add(&store, &events, OWED).await, 0, "they stay counted");
    assert_eq!(owed(&store).await, [], "and are not owed again");
    assert_eq!(totals(&store, "k:total").await, of(5, 10));
}

pub async fn copies_owe_nothing(store: Arc<dyn Backend>) {
    assert_eq!(add(&store, &[event("e1", "k", 1)], Mark::Clean).await, 1);
    assert_eq!(owed(&store).await, []);
    assert_eq!(totals(&store, "k:total").await, of(1, 1));
    assert!(store.backlog().await.expect("a backlog").is_empty());
}

pub async fn says_whether_it_counts(store: Arc<dyn Backend>) {
    assert_eq!(store.counts_usage().await, Ok(false));
    add(&store, &[], OWED).await;
    assert_eq!(store.counts_usage().await, Ok(false), "that batch was empty");
    add(&store, &[event("e1", "k", 0)], OWED).await;
    assert_eq!(store.counts_usage().await, Ok(true));
    store.settle_usage(&["e1".into()]).await.expect("a settlement");
    assert_eq!(store.counts_usage().await, Ok(true), "what is settled stays counted");
}

/// Sums go past 2^53, where a double no longer counts every integer.
pub async fn large_counts(store: Arc<dyn Backend>) {
    let large: Vec<_> = (0..10)
        .map(|n| UsageEvent { cost_micro_usd: MAX_COUNT, ..event(&format!("e{n}"), "k", 0) })
        .chain([UsageEvent { cost_micro_usd: 1, input_tokens: u64::MAX, ..event("e", "k", 0) }])
        .collect();
    for event in &large {
        assert_eq!(add(&store, std::slice::from_ref(event), OWED).await, 1);
    }
    let expected = counter_fields(&[11, MAX_COUNT as i64, 0, 0, 0, 0, 10 * MAX_COUNT as i64 + 1]);
    assert_eq!(totals(&store, "k:total").await, Some(expected));
}

/// Ids with everything an id may have, and ids that are the beginning of another.
pub async fn subjects_apart(store: Arc<dyn Backend>) {
    let subjects = ["k", "k2", "K", "k.", "k-total", "total", "daily", "a@b", "~+=_"];
    for (n, subject) in subjects.iter().enumerate() {
        add(&store, &[event(&format!("é:{n} \"'"), subject, n as u64)], OWED).await;
    }
    for (n, subject) in subjects.iter().enumerate() {
        assert_eq!(totals(&store, &format!("{subject}:total")).await, of(1, n as i64), "{subject}");
    }
    assert_eq!(owed(&store).await.len(), subjects.len());
}
