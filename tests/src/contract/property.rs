//! Whatever the order, the repetition and the interleaving, stores agree in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::join_all;
use jiff::tz::Offset;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use switchyard::store::memory::Memory;
use switchyard::store::usage::counter_fields;
use switchyard::store::{Backend, Mark, Record, StoreError, Usage, UsageEvent, Version, kind};
use tokio::runtime::Runtime;

use super::usage::{add, event, totals};
use super::{BASE, Subject, copy, find, get, key, put, record, tombstone};

/// A store that lives through all cases of a property, which keep apart by their number.
struct Cases {
    runtime: Runtime,
    subject: Subject,
    number: AtomicU64,
}

impl Cases {
    fn on(make: impl AsyncFn() -> Subject) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let subject = runtime.block_on(make());
        Self { runtime, subject, number: AtomicU64::new(0) }
    }

    fn run<S: Strategy>(&self, cases: u32, inputs: S, test: impl AsyncFn(u64, Arc<dyn Backend>, S::Value)) {
        let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
        let outcome = TestRunner::new(config).run(&inputs, |input| {
            let number = self.number.fetch_add(1, Ordering::Relaxed);
            let test = test(number, self.subject.store.clone(), input);
            let outcome = self.runtime.block_on(async { tokio::time::timeout(super::DEADLINE, test).await });
            outcome.map_err(|_| TestCaseError::fail("no end in time"))
        });
        outcome.unwrap_or_else(|failure| panic!("{failure}"));
    }
}

/// One of few ids, and a small version.
type IdVersion = (u8, u64);

/// Of an event: its subject, its tokens, and how many hours it is late.
type Content = (u8, u32, i64);

/// The one write of this version: a third of all writes are deletes, and values of the index are few.
fn write(case: u64, id: u8, version: u64) -> Record {
    let key = key(&kind::API_KEY, &format!("case{case}-{id}"));
    if version.is_multiple_of(3) {
        return tombstone(&key, BASE + version);
    }
    let hash = format!("case{case}-{id}-{}", version % 4);
    record(&key, BASE + version, &[("apiKey", &hash), ("version", &version.to_string())])
}

/// Writes of a few records, and the same ones in another order with repetitions.
fn writes() -> impl Strategy<Value = (Vec<IdVersion>, Vec<IdVersion>)> {
    let writes = vec((0_u8..3, 1_u64..30), 1..20);
    writes.prop_flat_map(|writes| {
        let repeated = [writes.clone(), writes.clone()].concat();
        (Just(writes).prop_shuffle(), Just(repeated).prop_shuffle())
    })
}

/// Offers writes in their order, three at a time.
async fn offer(store: &Arc<dyn Backend>, case: u64, writes: &[IdVersion]) {
    for some in writes.chunks(3) {
        let puts = some.iter().map(|(id, version)| async {
            let record = write(case, *id, *version);
            match put(store, &record).await {
                Ok(()) => {}
                Err(StoreError::Conflict(held)) => {
                    assert!(held > record.version, "{held} refused a newer one")
                }
                Err(error) => panic!("{error}"),
            }
        });
        join_all(puts).await;
    }
}

/// Copies what one store owes to the other.
async fn drain(from: &Arc<dyn Backend>, to: &Arc<dyn Backend>) {
    for record in from.dirty(Version::MAX, 0, 10_000).await.expect("a list") {
        match copy(to, &record).await {
            Ok(()) | Err(StoreError::Conflict(_)) => {}
            Err(error) => panic!("{error}"),
        }
        from.settle(&[(record.key.clone(), record.version)]).await.expect("a settlement");
    }
}

/// The store holds the greatest version of each record and finds it by its own hash alone.
async fn assert_newest(store: &Arc<dyn Backend>, case: u64, writes: &[IdVersion]) {
    let mut newest = BTreeMap::new();
    for (id, version) in writes {
        let held = newest.entry(*id).or_insert(*version);
        *held = (*held).max(*version);
    }
    for (id, version) in newest {
        let expected = write(case, id, version);
        assert_eq!(get(store, &expected.key).await.as_ref(), Some(&expected));
        for hash in 0..4 {
            let live = !expected.deleted && version % 4 == hash;
            let found = find(store, &format!("case{case}-{id}-{hash}")).await;
            assert_eq!(found.as_ref(), Some(&expected).filter(|_| live));
        }
    }
}

/// Reordered, repeated and interleaved writes leave the greatest version in both of two stores, whether
/// both have seen all writes or each has seen a part and passes on what it owes.
pub fn writes_converge(make: impl AsyncFn() -> Subject, cases: u32) {
    Cases::on(make).run(cases, writes(), async |case, store, (first, second)| {
        let other: Arc<dyn Backend> = Arc::new(Memory::new(1 << 24));
        let (mine, others) = first.split_at(first.len() / 2);
        tokio::join!(offer(&store, case, mine), offer(&other, case, others));
        drain(&store, &other).await;
        drain(&other, &store).await;
        for store in [&store, &other] {
            assert_newest(store, case, &first).await;
            assert!(store.backlog().await.expect("a backlog").is_empty());
        }
        tokio::join!(offer(&store, case, &second), offer(&other, case, &first));
        assert_newest(&store, case, &first).await;
        assert_newest(&other, case, &first).await;
        assert!(store.backlog().await.expect("a backlog").is_empty(), "nothing was new");
    });
}

/// What each of twelve events says, and the batches in which they are offered.
fn batches() -> impl Strategy<Value = (Vec<Content>, Vec<Vec<usize>>)> {
    let events = vec((0_u8..3, 0_u32..1_000_000, 0_i64..200), 12);
    (events, vec(vec(0_usize..12, 0..6), 1..12))
}

/// Events are counted once, however they are batched, repeated and interleaved.
pub fn events_fold_once(make: impl AsyncFn() -> Subject, cases: u32) {
    Cases::on(make).run(cases, batches(), async |case, store, (contents, batches)| {
        let event = |n: usize| {
            let (subject, tokens, hours) = contents[n];
            let event =
                event(&format!("case{case}-{n}"), &format!("case{case}-{subject}"), u64::from(tokens));
            let at = event.at + jiff::SignedDuration::from_hours(hours);
            // All cases count in one store.
            let account_id = event.account_id.map(|id| format!("case{case}-{id}"));
            UsageEvent { at, account_id, model: format!("case{case}-{}", subject % 2), ..event }
        };
        let offered: BTreeSet<usize> = batches.iter().flatten().copied().collect();
        let mut new = 0;
        for some in batches.chunks(3) {
            let adds = some.iter().map(|batch| {
                let events: Vec<_> = batch.iter().map(|n| event(*n)).collect();
                let store = &store;
                async move { add(store, &events, Mark::Clean).await }
            });
            new += join_all(adds).await.into_iter().sum::<u64>();
        }
        assert_eq!(new, offered.len() as u64, "each event is new exactly once");
        let events: Vec<_> = offered.into_iter().map(event).collect();
        for (subject, counts) in Usage::fold(&events, Offset::UTC) {
            assert_eq!(totals(&store, &subject).await, Some(counter_fields(&counts)), "{subject}");
        }
    });
}
