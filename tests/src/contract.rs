//! The one suite that every store passes: `wit/store.wit` and `switchyard::store` as assertions.
//!
//! Each function takes an empty store. [`contract_suite!`](crate::contract_suite) makes a test of each.

pub mod expiry;
pub mod index;
pub mod listing;
pub mod marks;
pub mod property;
pub mod records;
pub mod scan;
pub mod usage;
pub mod versions;

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use switchyard::store::{
    Backend, Expect, Fields, Key, Kind, Mark, Record, Result, StoreError, Version, Write, kind,
};

/// How long any one of the suite's functions may take.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// A store under test, and what must live as long as it does: its server.
pub struct Subject {
    pub store: Arc<dyn Backend>,
    pub server: Box<dyn Any + Send>,
}

impl Subject {
    /// A store that needs nothing to be kept.
    pub fn new(store: impl Backend + 'static) -> Self {
        Self::on((), store)
    }

    /// A store on a server that ends with it.
    pub fn on(server: impl Any + Send, store: impl Backend + 'static) -> Self {
        Self { store: Arc::new(store), server: Box::new(server) }
    }
}

/// A module of tests, one per function of the suite.
///
/// `contract_suite!(name, make, cases)`: `make` is an `async fn() -> Subject` beside the call; it is called
/// for each test. `cases` says how many cases each property test tries.
#[macro_export]
macro_rules! contract_suite {
    ($name:ident, $make:ident, $cases:literal) => {
        mod $name {
            $crate::contract_suite!(@tests $make,
                records::{absent_records, a_record_as_it_was_put, a_tombstone, a_deleted_record_put_again,
                    kinds_apart, names_of_kinds_in_ids, unusual_values, large_values, many_fields,
                    the_probe, completeness},
                versions::{greater_equal_and_smaller, the_ends_of_the_range, at_most, absent,
                    concurrent_writers, concurrent_creators},
                index::{found_by_its_index, the_index_moves, the_index_changes_hands, no_such_index},
                expiry::{expired_at_once, expires_in_time, rewritten_without_expiry,
                    expired_but_owed, created_after_expiry},
                listing::{filtered_sorted_and_in_pages, lists_follow_writes, a_place_outlives_its_record,
                    no_lists_of_other_kinds},
                scan::{in_order_of_bytes, one_at_a_time, at_most_a_page, live_records_only, beside_writers},
                marks::{dirty_until_settled, settled_in_vain, copies_are_clean, at_most_some,
                    oldest_first, marked_among_others, settled_beside_a_writer},
                usage::{folded_into_windows, folded_by_subject, windows_of_an_offset, counted_once, counted_once_at_once,
                    owed_until_settled, copies_owe_nothing, large_counts, subjects_apart,
                    says_whether_it_counts},
            );
            $crate::contract_suite!(@properties $make, $cases, writes_converge, events_fold_once);
        }
    };
    (@tests $make:ident, $($module:ident::{$($test:ident),+ $(,)?}),+ $(,)?) => { $(
        mod $module { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                let subject = super::super::$make().await;
                let test = $crate::contract::$module::$test(subject.store.clone());
                tokio::time::timeout($crate::contract::DEADLINE, test).await.expect("an end in time");
            }
        )+ }
    )+ };
    (@properties $make:ident, $cases:literal, $($test:ident),+) => {
        mod property { $(
            #[test]
            fn $test() {
                $crate::contract::property::$test(super::super::$make, $cases);
            }
        )+ }
    };
}

/// A version that a clock might give; tests add small numbers to it.
const BASE: Version = 1_790_000_000_000_000;

fn key(kind: &'static Kind, id: &str) -> Key {
    Key::new(kind, id).expect("a valid id")
}

fn fields(pairs: &[(&str, &str)]) -> Fields {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A record that does not expire.
fn record(key: &Key, version: Version, pairs: &[(&str, &str)]) -> Record {
    let (key, fields) = (key.clone(), fields(pairs));
    Record { key, version, deleted: false, fields, expires_at: None, cached_at: None }
}

fn tombstone(key: &Key, version: Version) -> Record {
    Record { deleted: true, ..record(key, version, &[]) }
}

/// A caller's write of an account or another record that no test looks into.
async fn put(store: &Arc<dyn Backend>, record: &Record) -> Result<()> {
    put_if(store, record, Expect::Anything).await
}

async fn put_if(store: &Arc<dyn Backend>, record: &Record, expect: Expect) -> Result<()> {
    store.put(&Write::new(Arc::new(record.clone()), expect)).await
}

/// A fill or a drain.
async fn copy(store: &Arc<dyn Backend>, record: &Record) -> Result<()> {
    store.put(&Write::copy(Arc::new(record.clone()))).await
}

async fn get(store: &Arc<dyn Backend>, key: &Key) -> Option<Record> {
    store.get(key).await.expect("a get that works").map(|record| (*record).clone())
}

async fn find(store: &Arc<dyn Backend>, secret: &str) -> Option<Record> {
    let found = store.find(&kind::API_KEY, "hash", secret).await.expect("a find that works");
    found.map(|record| (*record).clone())
}

/// The dirty records by key, in order.
async fn dirty(store: &Arc<dyn Backend>) -> Vec<Record> {
    let mut dirty: Vec<_> = store.dirty(Version::MAX, 0, 10_000).await.expect("a list of dirty records");
    dirty.sort_by(|a, b| a.key.cmp(&b.key));
    dirty.iter().map(|record| (**record).clone()).collect()
}

/// Mark of a batch of usage that is owed, for readers of the tests.
const OWED: Mark = Mark::Dirty;

fn conflict<T>(held: Version) -> Result<T> {
    Err(StoreError::Conflict(held))
}
