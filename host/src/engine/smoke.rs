//! A first call of every function, on scratch stores, before a strategy may become active.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::refusal::{CONTRACT_MISMATCH, Refusal, SMOKE_FAILED};
use super::{Compiled, Engine};
use crate::store::side::{Side, Sides, Which};
use crate::store::{
    Backend, Expect, Key, Kind, Mark, Record, Result, Store, StoreError, Usage, UsageEvent, Write, kind,
};
use crate::telemetry::Metrics;

/// Bytes of each scratch store.
const CAPACITY: usize = 1 << 20;

/// Asks all five functions about one record that both stores hold. What the strategy answers may be an
/// error of the contract; it may not fail, and may not claim to have stored what it has not.
pub(super) async fn smoke(engine: &Engine, compiled: &Compiled) -> Result<(), Refusal> {
    let metrics = Metrics::default();
    let sides = scratch(&metrics).await.map_err(|error| failed("set-up", &error))?;
    let component = engine.load(compiled, sides, "smoke", 0, &metrics);
    component.type_check().await?;
    let held = record("smoke-1", 1);
    let value = held.index_value().unwrap_or_default();
    sound("get", component.get(&held.key).await)?;
    sound("get of an absent record", component.get(&record("smoke-2", 1).key).await)?;
    sound("find", component.find(&kind::API_KEY, "hash", value).await)?;
    sound("scan", component.scan(&kind::API_KEY, None, 10).await)?;
    sound("put", component.put(&Write::new(Arc::new(record("smoke-3", 3)), Expect::Anything)).await)?;
    sound("add", component.add(&usage()).await)
}

fn sound<T>(function: &str, result: Result<T>) -> Result<(), Refusal> {
    match result {
        Err(error @ (StoreError::Strategy(_) | StoreError::Overloaded)) => Err(failed(function, &error)),
        _ => Ok(()),
    }
}

pub(super) fn failed(function: &str, error: &StoreError) -> Refusal {
    Refusal::new(SMOKE_FAILED, format!("a first `{function}` on scratch stores failed: {error}"))
}

pub(super) fn mismatch(error: &wasmtime::Error) -> Refusal {
    let message = format!("a function of its `store` differs from the contract's: {error:#}");
    Refusal::new(CONTRACT_MISMATCH, message)
}

async fn scratch(metrics: &Metrics) -> Result<Sides> {
    let side = async |which: Which| {
        let store = crate::store::memory::Memory::new(CAPACITY);
        for kind in Kind::public().chain([&kind::USAGE]) {
            store.set_complete(kind).await?;
        }
        store.put(&Write::copy(Arc::new(record("smoke-1", 1)))).await?;
        let metrics = metrics.store(which.name());
        Ok::<_, StoreError>(Some(Arc::new(Side::new(which, Arc::new(store), metrics, None))))
    };
    Ok(Sides { redis: side(Which::Redis).await?, postgres: side(Which::Postgres).await? })
}

fn record(id: &str, version: u64) -> Record {
    Record {
        key: Key { kind: &kind::API_KEY, id: id.into() },
        version,
        deleted: false,
        fields: BTreeMap::from([("apiKey".to_owned(), format!("hash-of-{id}"))]),
        expires_at: None,
        cached_at: None,
    }
}

fn usage() -> Usage {
    let event = UsageEvent {
        id: "smoke".into(),
        key_id: "smoke-1".into(),
        account_id: None,
        model: "smoke".into(),
        at: jiff::Timestamp::UNIX_EPOCH,
        input_tokens: 1,
        output_tokens: 1,
        cache_creation_5m_tokens: 0,
        cache_creation_1h_tokens: 0,
        cache_read_tokens: 0,
        cost_micro_usd: 1,
        request_id: None,
        partial: false,
    };
    Usage::new(vec![event], jiff::tz::Offset::UTC, Mark::Dirty)
}
