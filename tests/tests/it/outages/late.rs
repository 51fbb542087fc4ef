//! Calls that are given up: their answers, when they come, meet nobody, and no connection is left behind.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sqlx::{Connection as _, PgConnection};
use switchyard::store::kind::SESSION;
use switchyard::store::postgres::{Postgres, PostgresSettings};
use switchyard::store::redis::{Redis, RedisSettings};
use switchyard::store::{Backend, Expect, Fields, Key, Mark, Record, StoreError, Write};
use switchyard_tests::servers;

const KEYS: u64 = 200;
const CALLERS: u64 = 32;
const DEADLINE: Duration = Duration::from_millis(200);

fn key(number: u64) -> Key {
    Key::new(&SESSION, &format!("s{number}")).unwrap()
}

fn record(number: u64) -> Arc<Record> {
    let key = key(number);
    let fields = Fields::from([("own".to_owned(), key.id.to_string())]);
    Arc::new(Record { key, version: 5, deleted: false, fields, expires_at: None, cached_at: None })
}

#[derive(Default)]
struct Seen {
    answered: AtomicU64,
    timed_out: AtomicU64,
    dropped: AtomicU64,
    wrong: Mutex<Vec<String>>,
}

impl Seen {
    fn read(&self, asked: u64, answer: Result<Option<Arc<Record>>, StoreError>) {
        match answer {
            Ok(Some(record)) if record.fields["own"] == *key(asked).id => {
                self.answered.fetch_add(1, Relaxed);
            }
            Err(StoreError::Timeout) => {
                self.timed_out.fetch_add(1, Relaxed);
            }
            Err(StoreError::Unavailable(_) | StoreError::Overloaded) => {}
            other => self.wrong.lock().unwrap().push(format!("s{asked}: {other:?}")),
        }
    }
}

/// Reads for as long as it is told; about one call of a hundred is dropped in the middle.
async fn read(store: &dyn Backend, seed: u64, goes_on: &AtomicBool, seen: &Seen) {
    let mut random = seed;
    while goes_on.load(Relaxed) {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (asked, dice) = ((random >> 33) % KEYS, (random >> 20) % 100);
        let key = key(asked);
        if dice == 0 {
            let patience = Duration::from_micros((random >> 40) % 1_000);
            match tokio::time::timeout(patience, store.get(&key)).await {
                Ok(answer) => seen.read(asked, answer),
                Err(_) => drop(seen.dropped.fetch_add(1, Relaxed)),
            }
            // What follows at once is what a late answer would meet.
        }
        seen.read(asked, store.get(&key).await);
        // A server that is away refuses at once: others must have their turn.
        tokio::task::yield_now().await;
        if dice == 1 {
            let page = store.scan(&SESSION, None, 5);
            let _ = tokio::time::timeout(Duration::from_micros((random >> 40) % 2_000), page).await;
        }
    }
}

/// Under load, with calls dropped all the time and the server silent for three times a deadline now and then.
async fn no_late_answer_is_taken_for_another(
    store: &dyn Backend,
    mut pause: impl FnMut(),
    mut resume: impl FnMut(),
) {
    for number in 0..KEYS {
        let write = Write { mark: Mark::Clean, ..Write::new(record(number), Expect::Anything) };
        eventually("a record is written", async || store.put(&write).await.is_ok()).await;
    }
    let (seen, goes_on) = (Seen::default(), AtomicBool::new(true));
    let readers = (0..CALLERS).map(|seed| read(store, seed, &goes_on, &seen));
    let faults = async {
        for round in 1..=3 {
            let before = seen.answered.load(Relaxed);
            eventually("answers", async || seen.answered.load(Relaxed) >= before + 2_000).await;
            pause();
            eventually("timeouts", async || seen.timed_out.load(Relaxed) >= round * 8).await;
            tokio::time::sleep(DEADLINE).await;
            resume();
        }
        let before = seen.answered.load(Relaxed);
        eventually("answers afterwards", async || seen.answered.load(Relaxed) >= before + 2_000).await;
        eventually("dropped calls", async || seen.dropped.load(Relaxed) > 0).await;
        goes_on.store(false, Relaxed);
    };
    tokio::join!(futures::future::join_all(readers), faults);
    assert_eq!(*seen.wrong.lock().unwrap(), Vec::<String>::new());
    // Every connection works: more calls in a row than there are connections, of every sort.
    for number in 0..20 {
        let again = Write { mark: Mark::Clean, ..Write::new(record(number), Expect::Anything) };
        eventually("a read", async || store.get(&key(number)).await.is_ok()).await;
        eventually("a write", async || store.put(&again).await.is_ok()).await;
        eventually("a scan", async || store.scan(&SESSION, None, 5).await.is_ok()).await;
    }
}

async fn eventually(what: &str, holds: impl AsyncFn() -> bool) {
    for _ in 0..6_000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within a minute: {what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_answer_of_redis_never_reaches_the_next_question() {
    let server = servers::Redis::start();
    let settings = RedisSettings { deadline: DEADLINE, ..RedisSettings::new(server.url()) };
    let store = Redis::connect(settings).await.unwrap();
    let server = Mutex::new(server);
    let (pause, resume) = (|| server.lock().unwrap().pause(), || server.lock().unwrap().resume());
    no_late_answer_is_taken_for_another(&store, pause, resume).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_answer_of_postgres_never_reaches_the_next_question() {
    let server = servers::Postgres::start();
    let url = server.url();
    let settings = PostgresSettings { deadline: DEADLINE, ..PostgresSettings::new(&url) };
    let store = Postgres::connect(settings).unwrap();
    let server = Mutex::new(server);
    let (pause, resume) = (|| server.lock().unwrap().pause(), || server.lock().unwrap().resume());
    no_late_answer_is_taken_for_another(&store, pause, resume).await;
    // Those that were given up are gone: four workers, two of the reserve and the listener are still connected.
    let mut connection = PgConnection::connect(&url).await.unwrap();
    for attempt in 0.. {
        let counted = "select count(*) from pg_stat_activity where application_name = 'switchyard'";
        let counted: i64 =
            sqlx::query_scalar(counted).fetch_one::<&mut sqlx::PgConnection>(&mut connection).await.unwrap();
        if counted <= 7 {
            break;
        }
        assert!(attempt < 600, "{counted} connections");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
