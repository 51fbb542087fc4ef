//! From a component's bytes to something that can be loaded.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;
use wasmtime::component::{Component, HasSelf, Linker};

use super::bindings::StrategyPre;
use super::bindings::switchyard::storage::{both, log, postgres, redis, types};
use super::cache::Cache;
use super::inspect::inspect;
use super::invocation::Invocation;
use super::limits::Limits;
use super::refusal::{
    BUSY, CONTRACT_MISMATCH, MISSING_EXPORT, NEEDS_MORE_MEMORY, NOT_A_COMPONENT, Needs, Refusal, TOO_LARGE,
};
use super::{Compiled, Digest};

/// How many checks may wait for the one that runs, and for how long.
const QUEUE: usize = 8;
const QUEUE_WAIT: Duration = Duration::from_secs(60);

/// Checks and compiles one component at a time, off the request path.
pub(super) struct Checker {
    engine: wasmtime::Engine,
    linker: Linker<Invocation>,
    limits: Arc<Limits>,
    cache: Option<Cache>,
    one: Arc<Semaphore>,
    places: Semaphore,
}

impl Checker {
    pub(super) fn new(
        engine: wasmtime::Engine,
        limits: Arc<Limits>,
        cache: Option<Cache>,
    ) -> wasmtime::Result<Self> {
        let mut linker = Linker::new(&engine);
        types::add_to_linker::<_, HasSelf<_>>(&mut linker, |invocation| invocation)?;
        redis::add_to_linker::<_, HasSelf<_>>(&mut linker, |invocation| invocation)?;
        postgres::add_to_linker::<_, HasSelf<_>>(&mut linker, |invocation| invocation)?;
        both::add_to_linker::<_, HasSelf<_>>(&mut linker, |invocation| invocation)?;
        log::add_to_linker::<_, HasSelf<_>>(&mut linker, |invocation| invocation)?;
        let (one, places) = (Arc::new(Semaphore::new(1)), Semaphore::new(QUEUE));
        Ok(Self { engine, linker, limits, cache, one, places })
    }

    /// Runs [`Self::check`] on a thread of its own. It goes on to its end even if the caller goes away.
    pub(super) async fn admit(self: Arc<Self>, bytes: &[u8], configured: Needs) -> Result<Compiled, Refusal> {
        let limit = self.limits.component_bytes;
        if bytes.len() > limit {
            let message = format!("it has {} bytes; the limit is {limit}; optimise it for size", bytes.len());
            return Err(Refusal::new(TOO_LARGE, message));
        }
        let busy = || Refusal::new(BUSY, "other components are being checked; repeat in a minute");
        let _place = self.places.try_acquire().map_err(|_| busy())?;
        let turn = match timeout(QUEUE_WAIT, self.one.clone().acquire_owned()).await {
            Ok(Ok(turn)) => turn,
            _ => return Err(busy()),
        };
        let (checker, bytes) = (self.clone(), bytes.to_vec());
        let checked = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            checker.check(&bytes, configured)
        });
        checked.await.unwrap_or_else(|failed| {
            Err(Refusal::new(NOT_A_COMPONENT, format!("the compiler cannot take it: {failed}")))
        })
    }

    fn check(&self, bytes: &[u8], configured: Needs) -> Result<Compiled, Refusal> {
        let needs = inspect(bytes, &self.limits, configured)?;
        let digest = Digest::of(bytes);
        let component = self.compile(&digest, bytes)?;
        let linked = self.linker.instantiate_pre(&component).map_err(|error| {
            Refusal::new(CONTRACT_MISMATCH, format!("an import differs from the contract's: {error:#}"))
        })?;
        let pre = StrategyPre::new(linked).map_err(|error| {
            Refusal::new(MISSING_EXPORT, format!("it does not export all of `store`: {error:#}"))
        })?;
        Ok(Compiled { digest, needs, size: bytes.len(), pre })
    }

    /// The artefact of the cache, or a new one. Only limits of the engine can fail it: it is valid.
    fn compile(&self, digest: &Digest, bytes: &[u8]) -> Result<Component, Refusal> {
        if let Some(component) = self.cache.as_ref().and_then(|cache| cache.load(&self.engine, digest)) {
            return Ok(component);
        }
        let component = Component::from_binary(&self.engine, bytes).map_err(|error| {
            Refusal::new(NEEDS_MORE_MEMORY, format!("it is beyond a limit of the engine: {error:#}"))
        })?;
        if let Some(cache) = &self.cache {
            let stored = component.serialize().map_err(std::io::Error::other);
            if let Err(error) = stored.and_then(|artefact| cache.store(digest, &artefact)) {
                tracing::warn!(%digest, %error, "a compiled component was not kept; it works all the same");
            }
        }
        Ok(component)
    }
}
