//! The contract suite on every store and every wrapper.

use std::time::Duration;

use switchyard::store::memory::Memory;
use switchyard::store::sqlite::Sqlite;
use switchyard_tests::contract::Subject;
use switchyard_tests::contract_suite;
use switchyard_tests::faulty::Faulty;

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

contract_suite!(on_memory, memory, 64);
contract_suite!(on_faulty, healthy, 16);
contract_suite!(on_sqlite, sqlite, 12);
