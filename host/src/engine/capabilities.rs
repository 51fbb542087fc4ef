//! What the contract offers a guest: thin translations to the two stores.

use std::sync::Arc;

use wasmtime::component::Resource;

use super::bindings::switchyard::storage::{both, log, postgres, redis, types};
use super::failure::clean;
use super::invocation::{Invocation, Question};
use crate::store::kind::Visibility;
use crate::store::side::Which;
use crate::store::{Key, Kind, MAX_PAGE, Record, Result, Store, StoreError, Usage, Write, secret};

/// What an import answers, or the trap that ends the call.
type Answer<T> = wasmtime::Result<Result<T, types::Error>>;

/// Lines that one call may write to the host's log.
const LOG_LINES: u32 = 16;

impl Invocation {
    async fn get(&mut self, which: Which, key: types::Key) -> Answer<Option<Resource<Record>>> {
        self.charge(1)?;
        let found = async {
            let key = self.key(&key)?;
            let found = self.sides.side(which)?.get(&key).await?;
            self.answered |=
                found.is_none() && matches!(&self.question, Question::Get(asked) if *asked == key);
            Ok(found)
        };
        let found = found.await;
        Ok(self.lend(found))
    }

    async fn find(
        &mut self,
        which: Which,
        kind: String,
        index: String,
        value: String,
    ) -> Answer<Option<Resource<Record>>> {
        self.charge(1)?;
        let found = async {
            let kind = Kind::named(&kind)?;
            let found = self.sides.side(which)?.find(kind, &index, &value).await?;
            let asked = match &self.question {
                Question::Find { kind: k, index: i, value: v } => (*k, i, v) == (kind, &index, &value),
                _ => false,
            };
            self.answered |= found.is_none() && asked;
            Ok(found)
        };
        let found = found.await;
        Ok(self.lend(found))
    }

    async fn scan(
        &mut self,
        which: Which,
        kind: String,
        cursor: Option<String>,
        limit: u32,
    ) -> Answer<types::Page> {
        self.charge(1)?;
        let page = async {
            let kind = Kind::named(&kind)?;
            let page = self.sides.side(which)?.scan(kind, cursor.as_deref(), limit.min(MAX_PAGE)).await?;
            self.answered |= matches!(&self.question, Question::Scan { kind: asked } if *asked == kind);
            Ok::<_, StoreError>(page)
        };
        let page = page.await;
        self.waited = true;
        Ok(page.map_err(Into::into).map(|page| {
            let records = page.records.into_iter().map(|record| Resource::new_own(self.handles.lend(record)));
            types::Page { records: records.collect(), next: page.next }
        }))
    }

    async fn put(&mut self, which: Which, record: &Resource<Record>) -> Answer<()> {
        self.charge(1)?;
        let write = match self.offered(record)? {
            Ok(write) => write,
            Err(refused) => return Ok(Err(refused.into())),
        };
        let put = async { self.sides.side(which)?.put(&write).await };
        let put = put.await;
        self.waited = true;
        Ok(self.note_conflict(&write, put))
    }

    async fn add(&mut self, which: Which) -> Answer<()> {
        self.charge(1)?;
        let usage = self.usage()?;
        let added = async { self.sides.side(which)?.add(&usage).await };
        let added = added.await;
        self.waited = true;
        Ok(added.map(drop).map_err(Into::into))
    }

    /// The key of these names. The one asked for, which is the usual one, is not built anew.
    fn key(&self, names: &types::Key) -> Result<Key> {
        match &self.question {
            Question::Get(asked) if *asked.id == *names.id && asked.kind.name == names.kind => {
                Ok(asked.clone())
            }
            _ => Key::new(Kind::named(&names.kind)?, &names.id)
                .map_err(|invalid| StoreError::Unsupported(invalid.to_string())),
        }
    }

    /// Hands a store's answer to the guest, and remembers which version it was.
    fn lend(&mut self, found: Result<Option<Arc<Record>>>) -> Result<Option<Resource<Record>>, types::Error> {
        self.waited = true;
        let Some(record) = found? else { return Ok(None) };
        self.note(&record.key, record.version);
        Ok(Some(Resource::new_own(self.handles.lend(record))))
    }

    /// What the guest offers to a store: the caller's write, or else a copy of what a store gave it.
    fn offered(&self, handle: &Resource<Record>) -> wasmtime::Result<Result<Arc<Write>>> {
        if let Question::Put { handle: lent, write } = &self.question
            && *lent == handle.rep()
        {
            return Ok(Ok(write.clone()));
        }
        let record = self.record(handle)?;
        if record.key.kind.visibility != Visibility::Public {
            let kind = record.key.kind.name;
            return Ok(Err(StoreError::Unsupported(format!("records of kind {kind} cannot be written"))));
        }
        Ok(Ok(Arc::new(Write::copy(record.clone()))))
    }

    fn note_conflict(&mut self, write: &Write, put: Result<()>) -> Result<(), types::Error> {
        if let Err(StoreError::Conflict(held)) = put {
            self.note(&write.record.key, held);
        }
        put.map_err(Into::into)
    }

    fn record(&self, handle: &Resource<Record>) -> wasmtime::Result<&Arc<Record>> {
        self.handles.get(handle.rep()).ok_or_else(|| wasmtime::Error::msg("unknown record handle"))
    }

    /// The batch of this call: the only one a guest can hold a handle on.
    fn usage(&self) -> wasmtime::Result<Arc<Usage>> {
        match &self.question {
            Question::Add(usage) => Ok(usage.clone()),
            _ => Err(wasmtime::Error::msg("unknown usage handle")),
        }
    }
}

macro_rules! store {
    ($store:ident, $which:expr) => {
        impl $store::Host for Invocation {
            async fn get(&mut self, key: types::Key) -> Answer<Option<Resource<Record>>> {
                Invocation::get(self, $which, key).await
            }
            async fn find(
                &mut self,
                kind: String,
                index: String,
                value: String,
            ) -> Answer<Option<Resource<Record>>> {
                Invocation::find(self, $which, kind, index, value).await
            }
            async fn scan(
                &mut self,
                kind: String,
                cursor: Option<String>,
                limit: u32,
            ) -> Answer<types::Page> {
                Invocation::scan(self, $which, kind, cursor, limit).await
            }
            async fn put(&mut self, record: Resource<Record>) -> Answer<()> {
                Invocation::put(self, $which, &record).await
            }
            async fn add(&mut self, _: Resource<Usage>) -> Answer<()> {
                Invocation::add(self, $which).await
            }
        }
    };
}

store!(redis, Which::Redis);
store!(postgres, Which::Postgres);

/// What the two stores answered: (redis, postgres).
type Pair = (Result<(), types::Error>, Result<(), types::Error>);

impl both::Host for Invocation {
    async fn put(&mut self, record: Resource<Record>) -> wasmtime::Result<Pair> {
        self.charge(2)?;
        let write = match self.offered(&record)? {
            Ok(write) => write,
            Err(refused) => return Ok((Err(refused.clone().into()), Err(refused.into()))),
        };
        let (redis, postgres) = self.sides.put(&write).await;
        self.waited = true;
        Ok((self.note_conflict(&write, redis), self.note_conflict(&write, postgres)))
    }

    async fn add(&mut self, _: Resource<Usage>) -> wasmtime::Result<Pair> {
        self.charge(2)?;
        let usage = self.usage()?;
        let (redis, postgres) = self.sides.add(&usage).await;
        self.waited = true;
        Ok((redis.map_err(Into::into), postgres.map_err(Into::into)))
    }
}

impl types::Host for Invocation {}

impl types::HostRecord for Invocation {
    fn key(&mut self, handle: Resource<Record>) -> wasmtime::Result<types::Key> {
        let key = &self.record(&handle)?.key;
        Ok(types::Key { kind: key.kind.name.to_owned(), id: key.id.to_string() })
    }

    fn field(&mut self, handle: Resource<Record>, name: String) -> wasmtime::Result<Option<String>> {
        let record = self.record(&handle)?;
        let shown = |value| secret::shown(&record.key, &name, value).into_owned();
        Ok(record.fields.get(&name).map(|value| shown(value)))
    }

    fn version(&mut self, handle: Resource<Record>) -> wasmtime::Result<u64> {
        Ok(self.record(&handle)?.version)
    }

    fn deleted(&mut self, handle: Resource<Record>) -> wasmtime::Result<bool> {
        Ok(self.record(&handle)?.deleted)
    }

    fn drop(&mut self, handle: Resource<Record>) -> wasmtime::Result<()> {
        self.handles.take(handle.rep());
        Ok(())
    }
}

impl types::HostUsage for Invocation {
    fn len(&mut self, _: Resource<Usage>) -> wasmtime::Result<u32> {
        Ok(self.usage()?.events.len() as u32)
    }

    fn drop(&mut self, _: Resource<Usage>) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl log::Host for Invocation {
    fn write(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        self.log_lines += 1;
        if self.log_lines > LOG_LINES {
            return Ok(());
        }
        let (strategy, generation) = (self.label.name.as_str(), self.label.generation);
        let message = clean(&message);
        match level {
            log::Level::Debug => tracing::debug!(strategy, generation, "{message}"),
            log::Level::Info => tracing::info!(strategy, generation, "{message}"),
            log::Level::Warn => tracing::warn!(strategy, generation, "{message}"),
            log::Level::Error => tracing::error!(strategy, generation, "{message}"),
        }
        Ok(())
    }
}
