//! Instances of one component, each lent to one call at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_queue::ArrayQueue;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::bindings::exports::switchyard::storage::store::Guest;
use super::bindings::switchyard::storage::types;
use super::bindings::{Strategy, StrategyPre};
use super::failure::{Exceeded, blame};
use super::invocation::{Invocation, Label, Question};
use super::limits::Limits;
use super::refusal::Refusal;
use super::smoke;
use crate::store::side::Sides;
use crate::store::{Result, StoreError};
use crate::telemetry::StrategyMetrics;

/// An instance in a store of its own.
pub(super) struct Instance {
    pub(super) store: wasmtime::Store<Invocation>,
    pub(super) exports: Guest,
    calls: u32,
}

/// Idle instances, made on demand, and the permits to use one.
pub(super) struct Pool {
    pre: StrategyPre<Invocation>,
    sides: Sides,
    label: Arc<Label>,
    pub(super) limits: Arc<Limits>,
    idle: ArrayQueue<Box<Instance>>,
    permits: Semaphore,
    waiting: AtomicUsize,
    pub(super) metrics: StrategyMetrics,
}

impl Pool {
    pub(super) fn new(
        pre: StrategyPre<Invocation>,
        sides: Sides,
        label: Label,
        limits: Arc<Limits>,
        metrics: StrategyMetrics,
    ) -> Self {
        Self {
            pre,
            sides,
            label: Arc::new(label),
            idle: ArrayQueue::new(limits.in_flight.max(1)),
            permits: Semaphore::new(limits.in_flight),
            waiting: AtomicUsize::new(0),
            limits,
            metrics,
        }
    }

    pub(super) fn label(&self) -> &Label {
        &self.label
    }

    /// An instance for one call. Waits in a bounded queue while all permits are taken.
    pub(super) async fn lease(&self, question: Question) -> Result<Lease<'_>> {
        let permit = self.permit().await?;
        let instance = match self.idle.pop() {
            Some(instance) => instance,
            None => self.instantiate().await?,
        };
        let in_use = InUse::count(&self.metrics);
        let mut lease = Lease { instance, pool: self, _in_use: in_use, _permit: permit };
        lease.invocation().begin(question);
        lease.instance.store.set_epoch_deadline(1);
        lease.instance.calls += 1;
        Ok(lease)
    }

    async fn permit(&self) -> Result<SemaphorePermit<'_>> {
        if let Ok(permit) = self.permits.try_acquire() {
            return Ok(permit);
        }
        let _place = Place::take(self)?;
        match timeout(self.limits.queue_wait, self.permits.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(StoreError::Overloaded),
        }
    }

    /// Makes an instance to see whether its functions have the contract's types.
    pub(super) async fn type_check(&self) -> Result<(), Refusal> {
        let mut store = self.store();
        let instance = self.within(self.pre.instance_pre().instantiate_async(&mut store)).await;
        let instance = instance.map_err(|error| smoke::failed("instantiate", &error))?;
        Strategy::new(&mut store, &instance).map_err(|error| smoke::mismatch(&error))?;
        Ok(())
    }

    async fn instantiate(&self) -> Result<Box<Instance>> {
        let mut store = self.store();
        let strategy = self.within(self.pre.instantiate_async(&mut store)).await?;
        let exports = strategy.switchyard_storage_store().clone();
        Ok(Box::new(Instance { store, exports, calls: 0 }))
    }

    fn store(&self) -> wasmtime::Store<Invocation> {
        let invocation = Invocation::new(self.sides.clone(), self.label.clone(), self.limits.clone());
        let mut store = wasmtime::Store::new(self.pre.engine(), invocation);
        store.limiter(|invocation| invocation);
        store.set_max_component_handles(self.limits.handles);
        store.set_hostcall_fuel(self.limits.hostcall_bytes);
        store.epoch_deadline_callback(|mut store| Ok(store.data_mut().tick()));
        store.set_epoch_deadline(1);
        store
    }

    /// Runs guest code under the wall clock's deadline, and says what stopped it if something did.
    pub(super) async fn within<T>(
        &self,
        call: impl Future<Output = wasmtime::Result<T>> + Send,
    ) -> Result<T> {
        match timeout(self.limits.call_deadline, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(blame(&error, &self.limits)),
            Err(_) => Err(Exceeded::Deadline(self.limits.call_deadline.as_millis()).into()),
        }
    }
}

/// A place in the queue for a permit.
struct Place<'p>(&'p Pool);

impl<'p> Place<'p> {
    fn take(pool: &'p Pool) -> Result<Self> {
        pool.metrics.queue.inc();
        let place = Self(pool);
        if pool.waiting.fetch_add(1, Ordering::AcqRel) >= pool.limits.queue {
            return Err(StoreError::Overloaded);
        }
        Ok(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
        self.0.metrics.queue.dec();
    }
}

/// An instance lent to one call. Dropped without [`Lease::finish`], as after a trap, a deadline or when
/// the caller went away, the instance is discarded: wasmtime refuses to enter it again.
pub(super) struct Lease<'p> {
    pub(super) instance: Box<Instance>,
    pool: &'p Pool,
    _in_use: InUse<'p>,
    _permit: SemaphorePermit<'p>,
}

impl Lease<'_> {
    pub(super) fn invocation(&mut self) -> &mut Invocation {
        self.instance.store.data_mut()
    }

    /// Judges the answer, and gives the instance back unless the guest broke the contract, holds on to
    /// handles, or has been called often enough.
    pub(super) fn finish<A, T>(
        mut self,
        answer: Result<A, types::Error>,
        judge: impl FnOnce(&mut Invocation, A) -> Result<T>,
    ) -> Result<T> {
        let Self { instance, pool, .. } = &mut self;
        let invocation = instance.store.data_mut();
        let result = match answer {
            Ok(answer) => judge(invocation, answer),
            Err(error) => Err(invocation.refused(error)),
        };
        // Nothing of a call outlives it in an idle instance.
        invocation.begin(Question::Nothing);
        let sound = !matches!(result, Err(StoreError::Strategy(_)));
        let reusable = invocation.handles.live() == 0 && instance.calls < pool.limits.calls_per_instance;
        if sound && reusable {
            // The queue has a place for every permit.
            let _ = self.pool.idle.push(self.instance);
        }
        result
    }
}

/// Counts a lease among those in use.
struct InUse<'p>(&'p StrategyMetrics);

impl<'p> InUse<'p> {
    fn count(metrics: &'p StrategyMetrics) -> Self {
        metrics.leases.inc();
        Self(metrics)
    }
}

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        self.0.leases.dec();
    }
}
