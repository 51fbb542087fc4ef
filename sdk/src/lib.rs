//! Write a Switchyard storage strategy: a store made of two stores.
//!
//! A strategy implements [`Store`] over whatever stores it is given, and names them in [`strategy!`]:
//!
//! ```
//! use switchyard_sdk::{Key, Page, Result, Store};
//!
//! /// Everything in Redis, nothing in PostgreSQL.
//! pub struct RedisOnly<R> {
//!     pub redis: R,
//! }
//!
//! impl<R: Store> Store for RedisOnly<R> {
//!     type Record = R::Record;
//!     type Usage = R::Usage;
//!
//!     async fn get(&self, key: &Key) -> Result<Option<R::Record>> {
//!         self.redis.get(key).await
//!     }
//!     async fn find(&self, kind: &str, index: &str, value: &str) -> Result<Option<R::Record>> {
//!         self.redis.find(kind, index, value).await
//!     }
//!     async fn scan(&self, kind: &str, cursor: Option<&str>, limit: u32) -> Result<Page<R::Record>> {
//!         self.redis.scan(kind, cursor, limit).await
//!     }
//!     async fn put(&self, record: &R::Record) -> Result<()> {
//!         self.redis.put(record).await
//!     }
//!     async fn add(&self, usage: &R::Usage) -> Result<()> {
//!         self.redis.add(usage).await
//!     }
//! }
//!
//! switchyard_sdk::strategy!(RedisOnly { redis });
//! ```
//!
//! Compiled for `wasm32-unknown-unknown` this is a component; compiled natively the same source runs
//! over the [`double`]s in unit tests, and over real stores in the host's benchmarks.
//!
//! What the host guarantees whatever a strategy does: versions, compare-and-set, tombstones, and that a
//! write is acknowledged only if a store really took it. A strategy decides order, fallback and freshness.

#![deny(missing_docs)]

pub mod double;
#[doc(hidden)]
pub mod guest;

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

#[doc(hidden)]
pub use guest::bindings;
pub use guest::bindings::switchyard::storage::types::{Error, Key};

/// What a store answers.
pub type Result<T> = std::result::Result<T, Error>;

/// A handle on a record or a tombstone. The host holds the contents.
pub trait Record {
    /// The record's name.
    fn key(&self) -> Key;
    /// One field, copied; none if the record has no such field.
    fn field(&self, name: &str) -> Option<String>;
    /// Orders every write of one record in every store.
    fn version(&self) -> u64;
    /// True for a tombstone.
    fn deleted(&self) -> bool;
}

/// A part of a scan, and where the next one begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<R> {
    /// In ascending order of id.
    pub records: Vec<R>,
    /// The cursor of the next page; none after the last.
    pub next: Option<String>,
}

/// A store: anything with the five functions. `wit/store.wit` says what each answer means.
#[allow(
    async_fn_in_trait,
    reason = "a component runs on one thread, and a native twin is boxed as a concrete type"
)]
pub trait Store {
    /// A handle on a record; the same type in the two stores of a strategy.
    type Record: Record;
    /// A handle on a batch of usage events.
    type Usage;

    /// One record by name: the record or its tombstone, or none if the store knows that there is none.
    async fn get(&self, key: &Key) -> Result<Option<Self::Record>>;
    /// One live record by an index of its kind.
    async fn find(&self, kind: &str, index: &str, value: &str) -> Result<Option<Self::Record>>;
    /// The live records of a kind in ascending order of id, after `cursor`.
    async fn scan(&self, kind: &str, cursor: Option<&str>, limit: u32) -> Result<Page<Self::Record>>;
    /// Accepts the record if its version is greater than the one held. A delete is the put of a tombstone.
    async fn put(&self, record: &Self::Record) -> Result<()>;
    /// Counts a batch of usage events, each exactly once.
    async fn add(&self, usage: &Self::Usage) -> Result<()>;
}

/// One write into both stores at once. The results are (redis, postgres).
#[allow(async_fn_in_trait, reason = "as Store")]
pub trait Both {
    /// As in the two stores.
    type Record: Record;
    /// As in the two stores.
    type Usage;

    /// As `put` of each store, at the same time.
    async fn put(&self, record: &Self::Record) -> (Result<()>, Result<()>);
    /// As `add` of each store, at the same time.
    async fn add(&self, usage: &Self::Usage) -> (Result<()>, Result<()>);
}

/// Runs a strategy's future to its end.
///
/// In a component every import blocks inside the host, and the [`double`]s never wait, so each future is
/// ready whenever it is polled. No executor is needed.
pub fn run<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
}

/// Exports a strategy as a component.
///
/// Names the type and, among `redis`, `postgres` and `both`, the fields that hold its stores. Only what is
/// named and used is imported, and what a component imports is what it needs to run.
#[macro_export]
macro_rules! strategy {
    ($strategy:ident { $($store:ident),+ $(,)? }) => {
        #[cfg(target_family = "wasm")]
        const _: () = {
            use $crate::bindings::exports::switchyard::storage::store as contract;
            use $crate::{Store as _, guest};

            struct Component;

            const STRATEGY: $strategy<$(guest::stores::$store),+> = $strategy { $($store: guest::stores::$store),+ };

            impl contract::Guest for Component {
                fn get(key: contract::Key) -> $crate::Result<Option<contract::Record>> {
                    $crate::run(STRATEGY.get(&key))
                }
                fn find(kind: String, index: String, value: String) -> $crate::Result<Option<contract::Record>> {
                    $crate::run(STRATEGY.find(&kind, &index, &value))
                }
                fn scan(kind: String, cursor: Option<String>, limit: u32) -> $crate::Result<contract::Page> {
                    $crate::run(STRATEGY.scan(&kind, cursor.as_deref(), limit)).map(guest::page)
                }
                fn put(record: &contract::Record) -> $crate::Result<()> {
                    $crate::run(STRATEGY.put(record))
                }
                fn add(usage: &contract::Usage) -> $crate::Result<()> {
                    $crate::run(STRATEGY.add(usage))
                }
            }

            $crate::bindings::export!(Component with_types_in $crate::bindings);
        };
    };
}
