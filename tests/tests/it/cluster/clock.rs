//! A node whose clock is off writes nothing, says so, and goes on when it is right.

use std::sync::Arc;
use std::time::Duration;

use switchyard::cluster::skew;
use switchyard::engine::{Digest, Needs};
use switchyard::recovery::conflicts::Conflicts;
use switchyard::recovery::drain::Drain;
use switchyard::recovery::operations::{self, Operations, Refused, State, Task};
use switchyard::recovery::spool::{self, Spool};
use switchyard::store::clock::SLOTS;
use switchyard::store::postgres::{Postgres, PostgresSettings};
use switchyard::store::redis::{Redis, RedisSettings};
use switchyard::store::side::{Side, Sides, Which};
use switchyard::store::{Backend, Clock, Expect, Fields, Key, StoreError, kind};
use switchyard::strategy::generation::{Active, Generation};
use switchyard::strategy::records::{Change, Records};
use switchyard::telemetry::Metrics;
use switchyard_tests::servers;

const MINUTES: i64 = 60_000_000;

struct Stage {
    sides: Sides,
    redis: servers::Redis,
    folder: tempfile::TempDir,
}

impl Stage {
    async fn start() -> Self {
        let redis = servers::Redis::start();
        let metrics = Metrics::default();
        let side = |which: Which, backend: Arc<dyn Backend>| {
            Some(Arc::new(Side::new(which, backend, metrics.store(which.name()), None)))
        };
        let fast = Redis::connect(RedisSettings::new(redis.url())).await.expect("Redis");
        let url = servers::Postgres::shared().database().await;
        let durable = Postgres::connect(PostgresSettings::new(url)).expect("PostgreSQL");
        let sides = Sides {
            redis: side(Which::Redis, Arc::new(fast)),
            postgres: side(Which::Postgres, Arc::new(durable)),
        };
        Self { sides, redis, folder: tempfile::tempdir().expect("a folder") }
    }

    /// Records that are written to PostgreSQL, under this clock.
    fn records(&self, clock: &Arc<Clock>) -> Records {
        let needs = Needs { redis: false, postgres: true };
        let store = self.sides.postgres.clone().expect("PostgreSQL");
        let active = Active::new(Generation::new(1, "plain", Digest::of(b""), needs, store));
        let offset = jiff::tz::Offset::UTC;
        let metrics = Metrics::default();
        let durable = self.sides.postgres.as_ref().expect("PostgreSQL").backend.clone();
        let conflicts = Arc::new(Conflicts::new(durable, &metrics));
        let drain = Drain::new(self.sides.clone(), offset, conflicts, &metrics);
        let spool = Spool::open(self.folder.path(), spool::CAPACITY, &metrics).expect("the spool");
        let (sides, clock) = (self.sides.clone(), clock.clone());
        Records {
            active: Arc::new(active),
            sides,
            clock,
            carry: Arc::new(drain),
            epoch: Arc::default(),
            spool: Arc::new(spool),
            offset,
        }
    }
}

async fn put(records: &Records) -> Result<u64, StoreError> {
    let key = Key::new(&kind::ACCOUNT, "a").expect("an id");
    let change = Change { fields: Fields::new(), deleted: false, expires_at: None };
    records.put(&key, change, Expect::Anything).await.map(|written| written.value)
}

/// As [`put`], once the store answers in time: it may be connecting still.
async fn put_in_time(records: &Records) -> u64 {
    loop {
        match put(records).await {
            Ok(version) => return version,
            Err(StoreError::Timeout | StoreError::Unavailable(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_ten_minutes_off_writes_nothing_and_says_so() {
    let stage = Stage::start().await;
    for ahead in [10 * MINUTES, -10 * MINUTES] {
        let clock = Arc::new(Clock::ahead_by(ahead));
        let records = stage.records(&clock);
        assert!(skew::compare(&clock, &stage.sides).await);
        let Err(StoreError::ClockSkewed(why)) = put(&records).await else { panic!("a write was accepted") };
        assert!(why.contains("600.") && why.contains("NTP"), "{why}");
        assert_eq!(clock.refusal(), Some(why));
    }
    let right = Arc::new(Clock::default());
    assert!(skew::compare(&right, &stage.sides).await);
    put_in_time(&stage.records(&right)).await;
}

/// Leases are a matter of time: a node whose clock is off takes none, and gets in nobody's way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_off_begins_no_operation() {
    let stage = Stage::start().await;
    let operations = |ahead: i64| {
        let clock = Arc::new(Clock::ahead_by(ahead));
        let records = stage.records(&clock);
        let durable = stage.sides.postgres.as_ref().expect("PostgreSQL").backend.clone();
        let parts = operations::Parts {
            durable,
            sides: stage.sides.clone(),
            carry: records.carry.clone(),
            clock: clock.clone(),
            offset: jiff::tz::Offset::UTC,
            node: format!("ahead by {ahead}"),
        };
        (clock, Operations::new(parts))
    };
    let begin = async |ahead: i64| {
        let (clock, operations) = operations(ahead);
        assert!(skew::compare(&clock, &stage.sides).await);
        operations.start(Task::Check { deep: false }).await.map(|operation| operation.state)
    };
    for ahead in [10 * MINUTES, -10 * MINUTES] {
        assert!(matches!(begin(ahead).await, Err(Refused::Store(StoreError::ClockSkewed(_)))));
    }
    assert_eq!(begin(0).await, Ok(State::Running));
}

/// What one store says is enough, and the other one's silence changes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_store_is_enough_to_know() {
    let mut stage = Stage::start().await;
    stage.redis.pause();
    let clock = Arc::new(Clock::ahead_by(-2 * MINUTES));
    assert!(skew::compare(&clock, &stage.sides).await);
    assert!(matches!(clock.check(), Err(StoreError::ClockSkewed(why)) if why.contains("postgres")));
    stage.redis.resume();
}

/// Until a clock was compared it gives no version; the comparison in the background lets it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_in_doubt_writes_once_it_was_compared() {
    let stage = Stage::start().await;
    let clock = Arc::new(Clock::default());
    let records = stage.records(&clock);
    skew::doubt(&clock, &stage.sides);
    assert!(matches!(put(&records).await, Err(StoreError::Unavailable(_))));
    let comparing = tokio::spawn(skew::run(clock.clone(), stage.sides.clone()));
    super::soon("the clock was compared", async || put(&records).await.is_ok()).await;
    comparing.abort();
}

/// A record from the future can still be written, and the versions of others stay in the present.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_of_the_far_future_stays_with_its_record() {
    let stage = Stage::start().await;
    let wrong = Arc::new(Clock::ahead_by(120 * MINUTES));
    // Nobody has compared this clock.
    let mistake = put_in_time(&stage.records(&wrong)).await;
    let right = Arc::new(Clock::default());
    right.take_slot(5);
    let records = stage.records(&right);
    let next = put_in_time(&records).await;
    assert!(next > mistake && next <= mistake + 2 * SLOTS && next % SLOTS == 5, "{mistake} {next}");
    let (record, now) =
        (records.get(&Key::new(&kind::ACCOUNT, "a").unwrap()).await.unwrap().value, right.next());
    assert_eq!(record.unwrap().version, next);
    assert!(Duration::from_micros(next - now) > Duration::from_secs(3_600));
}
