//! The native twin of a strategy: the same source, compiled natively, over the same two sides.

use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use switchyard::store::side::{Sides, Which};
use switchyard::store::{self, Key, Kind, Page, Record, StoreError, Usage, Write};
use switchyard_sdk as sdk;

/// A record as a strategy holds it: with the write it came in, if a caller offered it.
#[derive(Clone)]
pub struct Handle {
    record: Arc<Record>,
    write: Option<Arc<Write>>,
}

impl sdk::Record for Handle {
    fn key(&self) -> sdk::Key {
        sdk::Key { kind: self.record.key.kind.name.into(), id: self.record.key.id.to_string() }
    }
    fn field(&self, name: &str) -> Option<String> {
        self.record.fields.get(name).cloned()
    }
    fn version(&self) -> u64 {
        self.record.version
    }
    fn deleted(&self) -> bool {
        self.record.deleted
    }
}

/// One side as the SDK's store.
pub struct Native {
    pub sides: Sides,
    pub which: Which,
}

fn to_sdk(error: StoreError) -> sdk::Error {
    match error {
        StoreError::Unavailable(reason) => sdk::Error::Unavailable(reason),
        StoreError::Timeout => sdk::Error::Timeout,
        StoreError::Conflict(version) => sdk::Error::Conflict(version),
        StoreError::Unsupported(reason) => sdk::Error::Unsupported(reason),
        other => sdk::Error::Other(other.to_string()),
    }
}

fn from_sdk(error: sdk::Error) -> StoreError {
    match error {
        sdk::Error::Unavailable(reason) => StoreError::Unavailable(reason),
        sdk::Error::Timeout => StoreError::Timeout,
        sdk::Error::Conflict(version) => StoreError::Conflict(version),
        sdk::Error::Unsupported(reason) => StoreError::Unsupported(reason),
        sdk::Error::Other(reason) => StoreError::Other(reason),
    }
}

fn handle(record: Arc<Record>) -> Handle {
    Handle { record, write: None }
}

impl Native {
    fn side(&self) -> sdk::Result<&Arc<store::side::Side>> {
        self.sides.side(self.which).map_err(to_sdk)
    }
}

impl sdk::Store for Native {
    type Record = Handle;
    type Usage = Arc<Usage>;

    async fn get(&self, key: &sdk::Key) -> sdk::Result<Option<Handle>> {
        let kind = Kind::named(&key.kind).map_err(to_sdk)?;
        let key = Key::new(kind, &key.id).map_err(|error| sdk::Error::Unsupported(error.to_string()))?;
        let found = store::Store::get(&**self.side()?, &key).await.map_err(to_sdk)?;
        Ok(found.map(handle))
    }
    async fn find(&self, kind: &str, index: &str, value: &str) -> sdk::Result<Option<Handle>> {
        let kind = Kind::named(kind).map_err(to_sdk)?;
        let found = store::Store::find(&**self.side()?, kind, index, value).await.map_err(to_sdk)?;
        Ok(found.map(handle))
    }
    async fn scan(&self, kind: &str, cursor: Option<&str>, limit: u32) -> sdk::Result<sdk::Page<Handle>> {
        let kind = Kind::named(kind).map_err(to_sdk)?;
        let page = store::Store::scan(&**self.side()?, kind, cursor, limit).await.map_err(to_sdk)?;
        Ok(sdk::Page { records: page.records.into_iter().map(handle).collect(), next: page.next })
    }
    async fn put(&self, record: &Handle) -> sdk::Result<()> {
        let side = self.side()?;
        let put = match &record.write {
            Some(write) => store::Store::put(&**side, write).await,
            None => store::Store::put(&**side, &Write::copy(record.record.clone())).await,
        };
        put.map_err(to_sdk)
    }
    async fn add(&self, usage: &Arc<Usage>) -> sdk::Result<()> {
        store::Store::add(&**self.side()?, usage).await.map(drop).map_err(to_sdk)
    }
}

/// Both sides at once.
pub struct NativeBoth(pub Sides);

impl sdk::Both for NativeBoth {
    type Record = Handle;
    type Usage = Arc<Usage>;

    async fn put(&self, record: &Handle) -> (sdk::Result<()>, sdk::Result<()>) {
        let copy;
        let write = match &record.write {
            Some(write) => write,
            None => {
                copy = Arc::new(Write::copy(record.record.clone()));
                &copy
            }
        };
        let (redis, postgres) = self.0.put(write).await;
        (redis.map_err(to_sdk), postgres.map_err(to_sdk))
    }
    async fn add(&self, usage: &Arc<Usage>) -> (sdk::Result<()>, sdk::Result<()>) {
        let (redis, postgres) = self.0.add(usage).await;
        (redis.map_err(to_sdk), postgres.map_err(to_sdk))
    }
}

/// A strategy compiled natively, as a store of the host.
pub struct Twin<S>(pub S);

type Boxed<'a, T> = Pin<Box<dyn Future<Output = sdk::Result<T>> + Send + 'a>>;

/// What the twin needs of a strategy, with futures that may be sent: true of concrete types only.
pub trait Sendable: Send + Sync {
    fn get<'a>(&'a self, key: &'a sdk::Key) -> Boxed<'a, Option<Handle>>;
    fn put<'a>(&'a self, record: &'a Handle) -> Boxed<'a, ()>;
    fn add<'a>(&'a self, usage: &'a Arc<Usage>) -> Boxed<'a, ()>;
}

macro_rules! sendable {
    ($($strategy:ty),+) => {$(
        impl Sendable for $strategy {
            fn get<'a>(&'a self, key: &'a sdk::Key) -> Boxed<'a, Option<Handle>> {
                Box::pin(sdk::Store::get(self, key))
            }
            fn put<'a>(&'a self, record: &'a Handle) -> Boxed<'a, ()> {
                Box::pin(sdk::Store::put(self, record))
            }
            fn add<'a>(&'a self, usage: &'a Arc<Usage>) -> Boxed<'a, ()> {
                Box::pin(sdk::Store::add(self, usage))
            }
        }
    )+};
}

sendable!(
    dual_write::DualWrite<Native, Native, NativeBoth>,
    cache_first::CacheFirst<Native, Native>,
    postgres_only::PostgresOnly<Native>
);

#[async_trait]
impl<S: Sendable> store::Store for Twin<S> {
    async fn get(&self, key: &Key) -> store::Result<Option<Arc<Record>>> {
        // The copy of the name is what a native strategy behind the SDK's trait needs, too.
        let key = sdk::Key { kind: key.kind.name.into(), id: key.id.to_string() };
        let found = self.0.get(&key).await.map_err(from_sdk)?;
        Ok(found.map(|handle| handle.record))
    }
    async fn find(&self, _: &'static Kind, _: &str, _: &str) -> store::Result<Option<Arc<Record>>> {
        Err(StoreError::Unsupported("the twin is for the benchmarks of get, put and add".into()))
    }
    async fn scan(&self, _: &'static Kind, _: Option<&str>, _: u32) -> store::Result<Page> {
        Err(StoreError::Unsupported("the twin is for the benchmarks of get, put and add".into()))
    }
    async fn put(&self, write: &Write) -> store::Result<()> {
        let own = Arc::new(Write::new(write.record.clone(), write.expect));
        let offered = Handle { record: write.record.clone(), write: Some(own.clone()) };
        let put = self.0.put(&offered).await.map_err(from_sdk);
        write.receipts.set(own.receipts.get());
        put
    }
    async fn add(&self, usage: &Usage) -> store::Result<u64> {
        let own = Arc::new(usage.offer());
        self.0.add(&own).await.map_err(from_sdk)?;
        usage.counted(own.receipts.get(), own.recorded());
        Ok(own.recorded())
    }
}

/// `dual_write` as a twin.
pub fn dual_write(sides: &Sides) -> Arc<dyn store::Store> {
    let native = |which| Native { sides: sides.clone(), which };
    let (redis, postgres, both) = (native(Which::Redis), native(Which::Postgres), NativeBoth(sides.clone()));
    Arc::new(Twin(dual_write::DualWrite { redis, postgres, both }))
}

/// `cache_first` as a twin.
pub fn cache_first(sides: &Sides) -> Arc<dyn store::Store> {
    let native = |which| Native { sides: sides.clone(), which };
    Arc::new(Twin(cache_first::CacheFirst { redis: native(Which::Redis), postgres: native(Which::Postgres) }))
}

/// `postgres_only` as a twin.
pub fn postgres_only(sides: &Sides) -> Arc<dyn store::Store> {
    let postgres = Native { sides: sides.clone(), which: Which::Postgres };
    Arc::new(Twin(postgres_only::PostgresOnly { postgres }))
}
