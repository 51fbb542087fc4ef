//! The contract's imports as [`Store`]s. Strategies reach them through [`strategy!`](crate::strategy) only.

#[allow(missing_docs, clippy::all, reason = "generated")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../wit",
        world: "strategy",
        pub_export_macro: true,
        export_macro_name: "export",
        default_bindings_module: "switchyard_sdk::bindings",
        additional_derives: [Clone, PartialEq, Eq],
        additional_derives_ignore: ["page"],
        generate_unused_types: true,
    });
}

use bindings::switchyard::storage::{both, postgres, redis, types};

use crate::{Both, Error, Key, Page, Record, Result, Store};

/// What a strategy reports to the host's log.
pub use bindings::switchyard::storage::log;

impl Record for types::Record {
    fn key(&self) -> Key {
        self.key()
    }
    fn field(&self, name: &str) -> Option<String> {
        self.field(name)
    }
    fn version(&self) -> u64 {
        self.version()
    }
    fn deleted(&self) -> bool {
        self.deleted()
    }
}

/// The two stores and their pair, named as a strategy's fields are.
#[allow(non_camel_case_types, missing_docs, reason = "named as the field that holds it, for the macro")]
pub mod stores {
    pub struct redis;
    pub struct postgres;
    pub struct both;
}

macro_rules! store {
    ($store:ident) => {
        impl Store for stores::$store {
            type Record = types::Record;
            type Usage = types::Usage;

            async fn get(&self, key: &Key) -> Result<Option<types::Record>> {
                $store::get(key)
            }
            async fn find(&self, kind: &str, index: &str, value: &str) -> Result<Option<types::Record>> {
                $store::find(kind, index, value)
            }
            async fn scan(
                &self,
                kind: &str,
                cursor: Option<&str>,
                limit: u32,
            ) -> Result<Page<types::Record>> {
                let types::Page { records, next } = $store::scan(kind, cursor, limit)?;
                Ok(Page { records, next })
            }
            async fn put(&self, record: &types::Record) -> Result<()> {
                $store::put(record)
            }
            async fn add(&self, usage: &types::Usage) -> Result<()> {
                $store::add(usage)
            }
        }
    };
}

store!(redis);
store!(postgres);

impl Both for stores::both {
    type Record = types::Record;
    type Usage = types::Usage;

    async fn put(&self, record: &types::Record) -> (Result<()>, Result<()>) {
        both::put(record)
    }
    async fn add(&self, usage: &types::Usage) -> (Result<()>, Result<()>) {
        both::add(usage)
    }
}

/// A page in the contract's terms.
pub fn page(Page { records, next }: Page<types::Record>) -> types::Page {
    types::Page { records, next }
}

impl Error {
    /// Whether the store may be asked again elsewhere: it could not answer, rather than refused.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Timeout)
    }
}
