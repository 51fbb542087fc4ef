//! Test doubles: stores in memory that can be told to fail, and that remember what they were asked.
//!
//! ```
//! use switchyard_sdk::double::{Memory, record};
//! use switchyard_sdk::{Error, Store, run};
//!
//! let redis = Memory::default();
//! run(redis.put(&record("session", "a", 1))).unwrap();
//! redis.fail(Error::Timeout);
//! assert_eq!(run(redis.put(&record("session", "a", 2))), Err(Error::Timeout));
//! assert_eq!(redis.calls(), ["put session/a@1", "put session/a@2"]);
//! ```

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::{Both, Error, Key, Page, Result, Store};

/// A record that a test made up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its name.
    pub key: Key,
    /// Its contents.
    pub fields: BTreeMap<String, String>,
    /// Its version.
    pub version: u64,
    /// Whether it is a tombstone.
    pub deleted: bool,
}

/// A live record without fields.
pub fn record(kind: &str, id: &str, version: u64) -> Record {
    let key = Key { kind: kind.into(), id: id.into() };
    Record { key, fields: BTreeMap::new(), version, deleted: false }
}

/// A tombstone.
pub fn tombstone(kind: &str, id: &str, version: u64) -> Record {
    Record { deleted: true, ..record(kind, id, version) }
}

impl Record {
    /// The record with this field set.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.fields.insert(name.into(), value.into());
        self
    }
}

impl crate::Record for Record {
    fn key(&self) -> Key {
        self.key.clone()
    }
    fn field(&self, name: &str) -> Option<String> {
        self.fields.get(name).cloned()
    }
    fn version(&self) -> u64 {
        self.version
    }
    fn deleted(&self) -> bool {
        self.deleted
    }
}

/// A batch of usage events, of which a test needs the ids only.
pub type Usage = Vec<String>;

/// A store in memory. Clones are the same store. Compare-and-set as the host's stores have it; any field
/// serves as an index.
#[derive(Debug, Clone, Default)]
pub struct Memory(Rc<RefCell<State>>);

#[derive(Debug, Default)]
struct State {
    records: BTreeMap<(String, String), Record>,
    events: BTreeSet<String>,
    failure: Option<Error>,
    calls: Vec<String>,
}

impl Memory {
    /// From now on every call fails so, and changes nothing.
    pub fn fail(&self, error: Error) {
        self.0.borrow_mut().failure = Some(error);
    }

    /// Calls succeed again.
    pub fn recover(&self) {
        self.0.borrow_mut().failure = None;
    }

    /// What was asked so far, in order, such as `put session/a@7`.
    pub fn calls(&self) -> Vec<String> {
        self.0.borrow().calls.clone()
    }

    /// The record or tombstone held, unseen by `calls` and failures.
    pub fn held(&self, kind: &str, id: &str) -> Option<Record> {
        self.0.borrow().records.get(&(kind.into(), id.into())).cloned()
    }

    /// The ids of the events counted.
    pub fn events(&self) -> Vec<String> {
        self.0.borrow().events.iter().cloned().collect()
    }

    fn call(&self, call: String) -> Result<std::cell::RefMut<'_, State>> {
        let mut state = self.0.borrow_mut();
        state.calls.push(call);
        match &state.failure {
            Some(error) => Err(error.clone()),
            None => Ok(state),
        }
    }
}

impl Store for Memory {
    type Record = Record;
    type Usage = Usage;

    async fn get(&self, key: &Key) -> Result<Option<Record>> {
        let state = self.call(format!("get {}/{}", key.kind, key.id))?;
        Ok(state.records.get(&(key.kind.clone(), key.id.clone())).cloned())
    }

    async fn find(&self, kind: &str, index: &str, value: &str) -> Result<Option<Record>> {
        let state = self.call(format!("find {kind} {index}={value}"))?;
        let matches = |r: &&Record| {
            r.key.kind == kind && !r.deleted && r.fields.get(index).is_some_and(|held| held == value)
        };
        Ok(state.records.values().find(matches).cloned())
    }

    async fn scan(&self, kind: &str, cursor: Option<&str>, limit: u32) -> Result<Page<Record>> {
        let state = self.call(format!("scan {kind}"))?;
        let after = |r: &&Record| r.key.kind == kind && !r.deleted && cursor.is_none_or(|c| *r.key.id > *c);
        let mut records: Vec<_> = state.records.values().filter(after).cloned().collect();
        let more = records.len() > limit as usize;
        records.truncate(limit as usize);
        let next = records.last().filter(|_| more).map(|r| r.key.id.clone());
        Ok(Page { records, next })
    }

    async fn put(&self, record: &Record) -> Result<()> {
        let Key { kind, id } = record.key.clone();
        let mut state = self.call(format!("put {kind}/{id}@{}", record.version))?;
        if let Some(held) = state.records.get(&(kind.clone(), id.clone()))
            && held.version > record.version
        {
            return Err(Error::Conflict(held.version));
        }
        state.records.insert((kind, id), record.clone());
        Ok(())
    }

    async fn add(&self, usage: &Usage) -> Result<()> {
        let mut state = self.call(format!("add {}", usage.len()))?;
        state.events.extend(usage.iter().cloned());
        Ok(())
    }
}

/// Two doubles written one after the other, in place of the host's `both`.
#[derive(Debug, Clone, Default)]
pub struct Pair {
    /// Written first.
    pub redis: Memory,
    /// Written second, whatever came of the first.
    pub postgres: Memory,
}

impl Both for Pair {
    type Record = Record;
    type Usage = Usage;

    async fn put(&self, record: &Record) -> (Result<()>, Result<()>) {
        (self.redis.put(record).await, self.postgres.put(record).await)
    }

    async fn add(&self, usage: &Usage) -> (Result<()>, Result<()>) {
        (self.redis.add(usage).await, self.postgres.add(usage).await)
    }
}
