//! The drain and the list of conflicts over two stores in memory.

use switchyard::engine::Needs;
use switchyard::recovery::conflicts::Conflicts;
use switchyard::recovery::drain::Drain;
use switchyard::store::memory::Memory;
use switchyard::store::side::{Side, Sides, Which};
use switchyard::strategy::records::CarryOver as _;
use switchyard::telemetry::Metrics;

use super::*;

fn side(which: Which) -> Arc<Side> {
    let metrics = Metrics::default().store(which.name());
    Arc::new(Side::new(which, Arc::new(Memory::new(64 << 20)), metrics, None))
}

fn sides() -> (Arc<Side>, Arc<Side>, Sides) {
    let (redis, postgres) = (side(Which::Redis), side(Which::Postgres));
    let sides = Sides { redis: Some(redis.clone()), postgres: Some(postgres.clone()) };
    (redis, postgres, sides)
}

fn record(id: &str, version: Version) -> Arc<Record> {
    let (key, fields) = (account(id), Fields::from([("n".to_owned(), version.to_string())]));
    Arc::new(Record { key, version, deleted: false, fields, expires_at: None, cached_at: None })
}

/// A store that came back empty has no marks either.
#[tokio::test]
async fn nothing_has_caught_up_by_the_word_of_a_store_that_is_not_compared_yet() {
    let (redis, postgres, sides) = sides();
    let metrics = Metrics::default();
    let conflicts = Arc::new(Conflicts::new(postgres.backend.clone(), &metrics));
    let drain = Drain::new(sides, jiff::tz::Offset::UTC, conflicts, &metrics);
    postgres.lags_behind(&record("a", 9));
    redis.distrust();
    assert_eq!(drain.catch_up().await.incomplete, None);
    assert_eq!(postgres.kept(9).len(), 1);
    let needs = || Needs { redis: true, postgres: true };
    let a_while = Duration::from_secs(1);
    assert!(tokio::time::timeout(a_while, drain.clone().run(Box::new(needs))).await.is_err());
    assert_eq!(postgres.kept(9).len(), 1);
    redis.trust(redis.backend.contact());
    assert_eq!(drain.catch_up().await.incomplete, None);
    assert_eq!(postgres.kept(9).len(), 0);
}

#[tokio::test]
async fn what_a_copy_overwrites_is_listed_before() {
    let (redis, postgres, _) = sides();
    let conflicts = Conflicts::new(postgres.backend.clone(), &Metrics::default());
    let (newer, marked, clean) = (record("a", 9), record("a", 8), record("b", 8));
    let put = async |side: &Side, record: &Arc<Record>, mark: Mark| {
        let write = Write { mark, ..Write::new(record.clone(), Expect::Anything) };
        side.backend.put(&write).await.expect("a write");
    };
    put(&postgres, &newer, Mark::Dirty).await;
    put(&postgres, &record("b", 9), Mark::Dirty).await;
    put(&redis, &marked, Mark::Dirty).await;
    put(&redis, &clean, Mark::Clean).await;
    let copies = [newer, record("b", 9)];
    let waits = conflicts.before_copies(&postgres, &redis, &copies).await.expect("an answer");
    let listed = conflicts.list(None, 9).await.expect("a list");
    assert_eq!((waits.len(), listed.total), (0, 1));
    assert_eq!((&*listed.conflicts[0].key, listed.conflicts[0].dropped.version), ("account/a", 8));
    let now = Clock::default().next();
    put(&postgres, &record("c", now), Mark::Dirty).await;
    put(&redis, &record("c", now - 1), Mark::Dirty).await;
    let waits = conflicts.before_copies(&postgres, &redis, &[record("c", now)]).await.expect("an answer");
    assert!(waits.contains(&account("c")), "it may be on its way");
}

#[tokio::test]
async fn of_many_conflicts_the_newest_thousand_are_kept_and_paged_through() {
    let (_, postgres, _) = sides();
    let conflicts = Conflicts::new(postgres.backend.clone(), &Metrics::default());
    for batch in 0..5 {
        let of = |n: u64| -> Vec<_> {
            (0..500).map(|id| record(&format!("c{id}"), 1_000 + batch * 1_000 + 2 * id + n)).collect()
        };
        let both = ((Which::Redis, &*of(0)), (Which::Postgres, &*of(1)));
        conflicts.note(both.0, both.1).await.expect("noted");
    }
    let (mut cursor, mut kept) = (None::<String>, Vec::new());
    loop {
        let page = conflicts.list(cursor.as_deref(), 240).await.expect("a page");
        assert_eq!(page.total, 1_000);
        kept.extend(page.conflicts.iter().map(|conflict| conflict.kept.version));
        match page.next {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    let expected: Vec<_> = (0..1_000).map(|n| 1_000 + 4_999 - 2 * n).collect();
    assert_eq!(kept, expected);
}
