//! The preloaded library slows what it is told to slow, in real servers.

use std::time::{Duration, Instant};

use redis::Commands as _;
use sqlx::{Connection as _, PgConnection};
use switchyard_tests::servers::{Postgres, Redis, Setup};
use switchyard_tests::shim::Shim;

/// More than any fsync takes here by itself, on a busy machine too.
const SLOW: Duration = Duration::from_secs(2);

#[test]
fn redis_has_a_slow_disk_and_a_wrong_clock_while_it_is_told_so() {
    let shim = Shim::new();
    let arguments = ["--appendfsync", "always"].map(str::to_owned).to_vec();
    let redis = Redis::start_as(&Setup { arguments, environment: shim.environment(), ..Setup::default() });
    let client = redis::Client::open(redis.url()).expect("a client");
    let mut connection = client.get_connection().expect("a connection");
    let mut set = || {
        let began = Instant::now();
        let () = connection.set("k", "v").expect("an answer");
        began.elapsed()
    };
    shim.slow_fsync(SLOW);
    assert!(set() >= SLOW);
    shim.slow_fsync(Duration::ZERO);
    assert!(set() < SLOW);

    let mut off_by = || {
        let (seconds, _): (i64, i64) = redis::cmd("TIME").query(&mut connection).expect("the time");
        seconds - jiff::Timestamp::now().as_second()
    };
    for step in [-10, 3_600, 0] {
        shim.step_clock(step * 1_000);
        // Redis keeps the time of its last round of events.
        let mut last = 0;
        let seen = (0..100).any(|_| {
            last = off_by();
            (last - step).abs() <= 2
        });
        assert!(seen, "{last} s and not {step} s");
    }
}

#[tokio::test]
async fn postgres_commits_as_slowly_as_its_disk_is() {
    let shim = Shim::new();
    let postgres = Postgres::start_as(&Setup { environment: shim.environment(), ..Setup::default() });
    let mut connection = PgConnection::connect(&postgres.url()).await.expect("a connection");
    sqlx::raw_sql("create table t (n int)").execute(&mut connection).await.expect("a table");
    shim.slow_fsync(SLOW);
    let began = Instant::now();
    sqlx::raw_sql("insert into t values (1)").execute(&mut connection).await.expect("a row");
    assert!(began.elapsed() >= SLOW);
}
