//! Strategies as components: checked, compiled, lent to one call at a time, and held to their limits.
//!
//! # Layout
//! - [`refusal`], `inspect`, `check`, `cache`, `smoke`: from bytes to a component that may become active
//! - `pool`, `component`: instances, leases, and the strategy as a [`Store`](crate::store::Store)
//! - `invocation`, `handles`, `capabilities`, `verdict`, `failure`: one call, what it is offered, what it
//!   may answer, and whose fault it was
//!
//! The only code that names wasmtime. A component gets the contract's interfaces and nothing else: no
//! files, no network, no clock. Whatever it does costs at most its own call.

mod bindings;
mod cache;
mod capabilities;
mod check;
mod component;
mod encode;
mod failure;
mod handles;
mod inspect;
mod invocation;
mod limits;
mod pool;
pub mod refusal;
mod smoke;
#[cfg(test)]
mod tests;
mod verdict;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use sha2::Digest as _;
use wasmtime::{Config, InstanceAllocationStrategy, PoolingAllocationConfig};

use bindings::StrategyPre;
use check::Checker;
pub use component::Component;
pub use encode::encode;
use invocation::{Invocation, Label};
pub use limits::Limits;
use pool::Pool;
pub use refusal::{Needs, Refusal};

use crate::store::side::Sides;
use crate::telemetry::Metrics;

/// The SHA-256 of a component, as 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub struct Digest(Arc<str>);

impl Digest {
    pub fn of(bytes: &[u8]) -> Self {
        Self(hex::encode(sha2::Sha256::digest(bytes)).into())
    }

    /// Reads 64 lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let hexadecimal = text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        hexadecimal.then(|| Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A component that fits the contract and the limits. Cheap to clone.
#[derive(Clone)]
pub struct Compiled {
    pub digest: Digest,
    /// The stores it imports.
    pub needs: Needs,
    /// Of the component, in bytes.
    pub size: usize,
    pre: StrategyPre<Invocation>,
}

/// Compiles and runs components. Clones share everything.
#[derive(Clone)]
pub struct Engine {
    checker: Arc<Checker>,
    limits: Arc<Limits>,
}

impl Engine {
    /// Starts the clock by which guests are interrupted: a thread that ends with the last user of this
    /// engine. Compiled artefacts are kept in `cache_dir`, which must belong to this cache alone.
    pub fn new(limits: Limits, cache_dir: Option<PathBuf>) -> anyhow::Result<Self> {
        let limits = Arc::new(limits);
        let engine = wasmtime::Engine::new(&config(&limits)).map_err(|error| anyhow!("{error:#}"))?;
        let cache = cache_dir.map(|folder| cache::Cache::new(folder, &engine)).transpose();
        let cache = cache.context("creating the folder for compiled strategies")?;
        let clock = engine.weak();
        std::thread::Builder::new().name("epochs".into()).spawn(move || {
            while let Some(engine) = clock.upgrade() {
                engine.increment_epoch();
                drop(engine);
                std::thread::sleep(limits::TICK);
            }
        })?;
        let checker = Checker::new(engine, limits.clone(), cache).map_err(|error| anyhow!("{error:#}"))?;
        Ok(Self { checker: Arc::new(checker), limits })
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Whether this is a component of the contract, within the limits, that needs only configured stores.
    /// Compiles it, off the request path and one at a time; nothing of it is run.
    pub async fn check(&self, bytes: &[u8], configured: Needs) -> Result<Compiled, Refusal> {
        self.checker.clone().admit(bytes, configured).await
    }

    /// Calls all five functions once, on scratch stores.
    pub async fn smoke(&self, compiled: &Compiled) -> Result<(), Refusal> {
        smoke::smoke(self, compiled).await
    }

    /// A strategy over two stores. Instances are made when calls need them.
    pub fn load(
        &self,
        compiled: &Compiled,
        sides: Sides,
        name: &str,
        generation: u64,
        metrics: &Metrics,
    ) -> Component {
        let metrics = metrics.strategy(name, generation);
        let label = Label { name: name.to_owned(), generation };
        Component::new(Pool::new(compiled.pre.clone(), sides, label, self.limits.clone(), metrics))
    }
}

/// Core instances, tables: what an interpreter compiled to a component needs; Rust needs 4.
const PARTS_PER_COMPONENT: u32 = 64;

fn config(limits: &Limits) -> Config {
    // One generation at full load, two that drain, and smoke calls.
    let instances = 3 * limits.in_flight as u32 + 64;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(PARTS_PER_COMPONENT))
        .total_memories(instances)
        .total_tables(instances * 4)
        .total_stacks(instances)
        .max_core_instances_per_component(PARTS_PER_COMPONENT)
        .max_tables_per_component(PARTS_PER_COMPONENT)
        .max_memories_per_component(1)
        .max_core_instance_size(4 << 20)
        .max_component_instance_size(4 << 20)
        .table_elements(limits.table_elements)
        .max_memory_size(limits.memory_bytes)
        // Resetting 64 KiB is cheaper than giving them back; more costs resident memory when idle.
        .linear_memory_keep_resident(64 << 10);
    let mut config = Config::new();
    config
        .wasm_features(wasmparser::WasmFeatures::all(), false)
        .wasm_features(inspect::FEATURES, true)
        // Fibers alone: four times cheaper than the component model's async.
        .concurrency_support(false)
        .epoch_interruption(true)
        .max_wasm_stack(limits.stack_bytes)
        .async_stack_size(limits.stack_bytes * 4)
        .memory_reservation((limits.memory_bytes as u64).max(64 << 20))
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}
