//! The contract suite on every store and every wrapper.

use switchyard::store::memory::Memory;
use switchyard_tests::contract::Subject;
use switchyard_tests::contract_suite;
use switchyard_tests::faulty::Faulty;

/// Bytes that an embedded store may hold: more than any test writes.
const CAPACITY: usize = 1 << 28;

async fn memory() -> Subject {
    Subject::new(Memory::new(CAPACITY))
}

async fn healthy() -> Subject {
    Subject::new(Faulty::new(Memory::new(CAPACITY)))
}

contract_suite!(on_memory, memory, 64);
contract_suite!(on_faulty, healthy, 16);
