//! The store that fails on command does what it says, and callers that repeat come through.

use std::time::{Duration, Instant};

use jiff::tz::Offset;
use switchyard::store::memory::Memory;
use switchyard::store::{
    Backend, Expect, Key, Mark, Record, Store, StoreError, Usage, UsageEvent, Version, Write, kind,
};
use switchyard_tests::faulty::{Fault, Faulty, Plan};

fn store() -> Faulty<Memory> {
    Faulty::new(Memory::new(1 << 20))
}

fn account(id: &str) -> Key {
    Key::new(&kind::ACCOUNT, id).expect("a valid id")
}

fn write(id: &str, version: Version) -> Write {
    let (key, fields) = (account(id), [("n".to_owned(), version.to_string())].into());
    let record = Record { key, version, deleted: false, fields, expires_at: None, cached_at: None };
    Write::new(record.into(), Expect::Anything)
}

fn event(id: u64) -> UsageEvent {
    let event = serde_json::json!({ "id": id.to_string(), "key_id": "k", "model": "m",
        "at": "2026-01-01T00:00:00Z", "input_tokens": id });
    serde_json::from_value(event).expect("an event")
}

#[tokio::test]
async fn faults_follow_the_script() {
    let store = store();
    let faults = [Fault::Refuse, Fault::TimeoutBefore, Fault::TimeoutAfter];
    store.script([Some(faults[0]), None, Some(faults[1]), Some(faults[2])]);

    assert!(matches!(store.put(&write("a", 1)).await, Err(StoreError::Unavailable(_))));
    assert_eq!(store.put(&write("b", 1)).await, Ok(()));
    assert_eq!(store.put(&write("c", 1)).await, Err(StoreError::Timeout));
    assert_eq!(store.put(&write("d", 1)).await, Err(StoreError::Timeout));

    let mut happened = Vec::new();
    for id in ["a", "b", "c", "d"] {
        // The script has ended, so these reads work.
        happened.push(store.get(&account(id)).await.expect("a read").is_some());
    }
    assert_eq!(happened, [false, true, false, true]);
}

#[tokio::test]
async fn a_delay_changes_no_answer() {
    let store = store();
    let delay = Duration::from_millis(30);
    store.follow(Plan::Always(Fault::Delay(delay)));
    let began = Instant::now();
    assert_eq!(store.put(&write("a", 1)).await, Ok(()));
    assert!(began.elapsed() >= delay);
    store.follow(Plan::Healthy);
    assert!(store.get(&account("a")).await.expect("a read").is_some());
}

#[tokio::test]
async fn a_seed_repeats_its_faults() {
    let outcomes = async |seed| {
        let store = store();
        store.follow(Plan::Seeded { seed, percent: 30 });
        let mut outcomes = Vec::new();
        for version in 1..=200 {
            outcomes.push(store.put(&write("a", version)).await);
        }
        outcomes
    };
    let first = outcomes(7).await;
    assert_eq!(first, outcomes(7).await);
    assert_ne!(first, outcomes(8).await);
    let failed = first.iter().filter(|outcome| outcome.is_err()).count();
    assert!((30..=90).contains(&failed), "{failed} of 200 failed");
}

/// Whoever repeats until there is an answer has every write kept and every event counted once.
#[tokio::test]
async fn repeating_is_harmless() {
    for seed in 0..20 {
        let store = store();
        store.follow(Plan::Seeded { seed, percent: 60 });
        for version in 1..=20 {
            let mut tries = 0;
            while let Err(error) = store.put(&write("a", version)).await {
                assert!(matches!(error, StoreError::Unavailable(_) | StoreError::Timeout), "{error}");
                tries += 1;
                assert!(tries < 1_000, "it never works");
            }
            let usage = Usage::new(vec![event(version), event(version / 2)], Offset::UTC, Mark::Dirty);
            while store.add(&usage).await.is_err() {
                tries += 1;
                assert!(tries < 1_000, "it never works");
            }
        }
        let held = store.inner().get(&account("a")).await.expect("a read").expect("the record");
        assert_eq!(held.version, 20);
        let totals = Key::new(&kind::USAGE, "k:total").expect("a valid id");
        let totals = store.inner().get(&totals).await.expect("a read").expect("the totals");
        assert_eq!((&*totals.fields["requests"], &*totals.fields["input_tokens"]), ("21", "210"));
        assert_eq!(store.inner().owed_usage(None, 100).await.expect("a list").len(), 21);
    }
}
