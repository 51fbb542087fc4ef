//! The contract suite on every store and every wrapper.

use std::time::Duration;

use switchyard::store::memory::Memory;
use switchyard::store::postgres::{Postgres, PostgresSettings};
use switchyard::store::redis::{Redis, RedisSettings};
use switchyard::store::sqlite::Sqlite;
use switchyard_tests::contract::Subject;
use switchyard_tests::contract::records::internal_kinds;
use switchyard_tests::contract_suite;
use switchyard_tests::faulty::Faulty;
use switchyard_tests::servers;

/// Bytes that an embedded store may hold: more than any test writes.
const CAPACITY: usize = 1 << 28;

/// Longer than a busy machine takes, so that no test meets it by chance.
const DEADLINE: Duration = Duration::from_secs(10);

async fn memory() -> Subject {
    Subject::new(Memory::new(CAPACITY))
}

async fn healthy() -> Subject {
    Subject::new(Faulty::new(Memory::new(CAPACITY)))
}

async fn sqlite() -> Subject {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Sqlite::open(folder.path(), DEADLINE).await.expect("a store");
    Subject::on(folder, store)
}

async fn postgres() -> Subject {
    let server = servers::Postgres::shared();
    let settings = PostgresSettings { deadline: DEADLINE, ..PostgresSettings::new(server.database().await) };
    Subject::new(Postgres::connect(settings).expect("a store"))
}

async fn redis() -> Subject {
    redis_with(0).await
}

/// Reads go through copies in this process, which the server declares old.
async fn near_redis() -> Subject {
    redis_with(1 << 24).await
}

async fn redis_with(near_cache_bytes: u64) -> Subject {
    let server = servers::Redis::start();
    let settings = RedisSettings { deadline: DEADLINE, near_cache_bytes, ..RedisSettings::new(server.url()) };
    let store = Redis::connect(settings).await.expect("a store");
    Subject::on(server, store)
}

contract_suite!(on_memory, memory, 64);
contract_suite!(on_faulty, healthy, 16);
contract_suite!(on_sqlite, sqlite, 12);
contract_suite!(on_redis, redis, 24);
contract_suite!(on_near_redis, near_redis, 24);
contract_suite!(on_postgres, postgres, 12);

/// The stores that can be the durable side keep the host's own kinds, too.
#[tokio::test]
async fn durable_stores_keep_internal_kinds() {
    for subject in [memory().await, sqlite().await, postgres().await] {
        internal_kinds(subject.store.clone()).await;
    }
}
