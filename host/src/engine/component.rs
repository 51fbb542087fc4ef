//! A strategy that runs: a store like any other.

use std::sync::Arc;

use async_trait::async_trait;
use tracing::Instrument;
use wasmtime::component::Resource;

use super::bindings::switchyard::storage::types;
use super::invocation::Question;
use super::pool::Pool;
use super::refusal::Refusal;
use super::verdict::stored;
use crate::store::{Key, Kind, Page, Record, Result, Store, StoreError, Usage, Write};
use crate::telemetry::StrategyOutcome;

/// A compiled strategy over two stores. Its calls end within the limits of its [`Engine`](super::Engine).
///
/// - [`StoreError::Strategy`]: the component failed; the message says how. A write may have happened,
///   and its receipts say where.
/// - [`StoreError::Overloaded`]: too many calls in flight; nothing was tried.
/// - any other error is what the component, or the host, answered.
pub struct Component(Pool);

impl Component {
    pub(super) fn new(pool: Pool) -> Self {
        Self(pool)
    }

    /// Whether the exported functions have the contract's types, which shows when there is an instance.
    pub(super) async fn type_check(&self) -> Result<(), Refusal> {
        self.0.type_check().await
    }

    /// Runs a call in a span of its own, counts its outcome, and logs what was the component's fault.
    async fn measure<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let label = self.0.label();
        let (strategy, generation) = (label.name.as_str(), label.generation);
        let result =
            call.instrument(tracing::debug_span!("invocation", strategy, generation, operation)).await;
        self.0.metrics.record(match &result {
            Ok(_) => StrategyOutcome::Ok,
            Err(StoreError::Strategy(_)) => StrategyOutcome::Failed,
            Err(StoreError::Overloaded) => StrategyOutcome::Overloaded,
            Err(_) => StrategyOutcome::Error,
        });
        if let Err(StoreError::Strategy(how)) = &result {
            tracing::warn!(strategy, generation, operation, blame = "strategy", "{how}");
        }
        result
    }

    async fn ask_get(&self, key: &Key) -> Result<Option<Arc<Record>>> {
        let mut lease = self.0.lease(Question::Get(key.clone())).await?;
        let asked = types::Key { kind: key.kind.name.to_owned(), id: key.id.to_string() };
        let instance = &mut *lease.instance;
        let answer = self.0.within(instance.exports.call_get(&mut instance.store, &asked)).await?;
        lease.finish(answer, |invocation, found| invocation.found(found))
    }

    async fn ask_find(&self, kind: &'static Kind, index: &str, value: &str) -> Result<Option<Arc<Record>>> {
        let question = Question::Find { kind, index: index.to_owned(), value: value.to_owned() };
        let mut lease = self.0.lease(question).await?;
        let instance = &mut *lease.instance;
        let call = instance.exports.call_find(&mut instance.store, kind.name, index, value);
        let answer = self.0.within(call).await?;
        lease.finish(answer, |invocation, found| invocation.found(found))
    }

    async fn ask_scan(&self, kind: &'static Kind, cursor: Option<&str>, limit: u32) -> Result<Page> {
        let mut lease = self.0.lease(Question::Scan { kind }).await?;
        let instance = &mut *lease.instance;
        let call = instance.exports.call_scan(&mut instance.store, kind.name, cursor, limit);
        let answer = self.0.within(call).await?;
        lease.finish(answer, |invocation, page| invocation.page(page, cursor, limit))
    }

    async fn ask_put(&self, write: Arc<Write>) -> Result<()> {
        let mut lease = self.0.lease(Question::Nothing).await?;
        let invocation = lease.invocation();
        let handle = invocation.handles.lend(write.record.clone());
        invocation.question = Question::Put { handle, write: write.clone() };
        let instance = &mut *lease.instance;
        let lent = Resource::new_borrow(handle);
        let answer = self.0.within(instance.exports.call_put(&mut instance.store, lent)).await?;
        lease.invocation().handles.take(handle);
        lease.finish(answer, |_, ()| stored(&write.receipts))
    }

    async fn ask_add(&self, usage: Arc<Usage>) -> Result<()> {
        let mut lease = self.0.lease(Question::Add(usage.clone())).await?;
        let instance = &mut *lease.instance;
        let lent = Resource::new_borrow(0);
        let answer = self.0.within(instance.exports.call_add(&mut instance.store, lent)).await?;
        lease.finish(answer, |_, ()| stored(&usage.receipts))
    }
}

#[async_trait]
impl Store for Component {
    async fn get(&self, key: &Key) -> Result<Option<Arc<Record>>> {
        self.measure("get", self.ask_get(key)).await
    }

    async fn find(&self, kind: &'static Kind, index: &str, value: &str) -> Result<Option<Arc<Record>>> {
        self.measure("find", self.ask_find(kind, index, value)).await
    }

    async fn scan(&self, kind: &'static Kind, cursor: Option<&str>, limit: u32) -> Result<Page> {
        self.measure("scan", self.ask_scan(kind, cursor, limit)).await
    }

    async fn put(&self, write: &Write) -> Result<()> {
        // A copy of its own, which the guest's store can hold. It has the receipts even if the guest fails.
        let offered = Arc::new(write.offer());
        let result = self.measure("put", self.ask_put(offered.clone())).await;
        write.receipts.take_over(&offered.receipts);
        result
    }

    async fn add(&self, usage: &Usage) -> Result<u64> {
        let offered = Arc::new(usage.offer());
        let result = self.measure("add", self.ask_add(offered.clone())).await;
        if offered.receipts.any() {
            usage.counted(offered.receipts.get(), offered.recorded());
        }
        usage.receipts.take_over(&offered.receipts);
        result.map(|()| offered.recorded())
    }
}
