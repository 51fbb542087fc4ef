//! The last hundred operations and the lease of the one that runs, in the durable store.

use std::sync::Arc;
use std::time::Duration;

use crate::store::clock::now_ms;
use crate::store::kind::OPERATION;
use crate::store::{Backend, Clock, Expect, Fields, Key, Mark, Record, Result, StoreError, Version, Write};

use super::{Entry, State};

/// How many operations are kept.
const KEPT: usize = 100;
/// A lease that is not renewed for this long is free.
const LEASE: Duration = Duration::from_secs(15);
/// How often a change of the lease is tried when another node is quicker.
const ATTEMPTS: usize = 4;

pub(super) struct Journal {
    store: Arc<dyn Backend>,
    clock: Arc<Clock>,
    node: String,
}

/// Who has the lease.
pub(super) enum Taken {
    Ours,
    By(String),
}

/// What became of the lease.
pub(super) enum Renewed {
    Ours,
    /// Someone asks for the operation to end.
    ToEnd,
    Lost,
}

/// The lease as it is stored.
struct Lease {
    version: Version,
    operation: String,
    until: i64,
    to_end: bool,
}

impl Journal {
    pub(super) fn new(store: Arc<dyn Backend>, clock: Arc<Clock>, node: String) -> Self {
        Self { store, clock, node }
    }

    /// Every operation that is kept.
    pub(super) async fn read(&self) -> Result<Vec<Entry>> {
        let page = self.store.scan(&OPERATION, None, KEPT as u32 + 1).await?;
        let entry = |record: &Arc<Record>| serde_json::from_str(record.fields.get("entry")?).ok();
        Ok(page.records.iter().filter_map(entry).collect())
    }

    pub(super) async fn write(&self, entry: &Entry) -> Result<()> {
        let json = serde_json::to_string(entry).map_err(|error| StoreError::Other(error.to_string()))?;
        let fields = Fields::from([("entry".to_owned(), json)]);
        let id = format!("slot.{:02}", entry.slot);
        match self.put(&id, fields.clone(), Expect::Anything, 0).await {
            // Of a clock that was ahead.
            Err(StoreError::Conflict(held)) => self.put(&id, fields, Expect::Anything, held).await,
            done => done,
        }
    }

    /// Where to write a new operation: an unused slot, or that of the oldest. Only for who has the lease.
    /// Whatever is said to run has been left behind by its node, and is ended.
    pub(super) async fn free_slot(&self) -> Result<usize> {
        let mut entries = self.read().await?;
        for entry in entries.iter_mut().filter(|entry| entry.operation.state == State::Running) {
            let why = format!("node {} went away", entry.operation.node);
            entry.operation.end(State::Failed, Some(why));
            self.write(entry).await?;
        }
        let unused = (0..KEPT).find(|slot| entries.iter().all(|entry| entry.slot != *slot));
        let oldest = entries.iter().min_by(|a, b| a.operation.id.cmp(&b.operation.id));
        Ok(unused.or(oldest.map(|entry| entry.slot)).unwrap_or(0))
    }

    /// Takes the lease for an operation, unless another one has it.
    pub(super) async fn take(&self, operation: &str) -> Result<Taken> {
        for _ in 0..ATTEMPTS {
            let held = self.lease().await?;
            if held.until > now_ms() && held.operation != operation {
                return Ok(Taken::By(held.operation));
            }
            match self.put_lease(operation, false, held.version).await {
                Err(StoreError::Conflict(_)) => {}
                done => return done.map(|()| Taken::Ours),
            }
        }
        Err(StoreError::Unavailable("other nodes were quicker; repeat the request".into()))
    }

    /// Keeps the lease that this operation has.
    pub(super) async fn renew(&self, operation: &str) -> Result<Renewed> {
        let held = self.lease().await?;
        if held.operation != operation {
            return Ok(Renewed::Lost);
        }
        if held.to_end {
            return Ok(Renewed::ToEnd);
        }
        match self.put_lease(operation, false, held.version).await {
            // Someone asks for something; the next look tells what.
            Err(StoreError::Conflict(_)) => Ok(Renewed::Ours),
            done => done.map(|()| Renewed::Ours),
        }
    }

    /// Gives the lease up; one that cannot be given up ends by itself.
    pub(super) async fn release(&self, operation: &str) {
        let released = async {
            let held = self.lease().await?;
            if held.operation != operation {
                return Ok(());
            }
            self.put_lease("", false, held.version).await
        };
        if let Err(error) = released.await {
            tracing::debug!(%error, "the lease of an operation ends by itself");
        }
    }

    /// Asks the node that carries an operation out to end it; false when there is none.
    pub(super) async fn ask_to_end(&self, operation: &str) -> Result<bool> {
        for _ in 0..ATTEMPTS {
            let held = self.lease().await?;
            if held.operation != operation || held.until <= now_ms() {
                return Ok(false);
            }
            match self.put_lease(operation, true, held.version).await {
                Err(StoreError::Conflict(_)) => {}
                done => return done.map(|()| true),
            }
        }
        Err(StoreError::Unavailable("other nodes were quicker; repeat the request".into()))
    }

    async fn lease(&self) -> Result<Lease> {
        let record = self.store.get(&key("lease")?).await?;
        let field = |name: &str| record.as_ref().and_then(|record| record.fields.get(name)).cloned();
        Ok(Lease {
            version: record.as_ref().map_or(0, |record| record.version),
            operation: field("operation").unwrap_or_default(),
            until: field("until").and_then(|until| until.parse().ok()).unwrap_or(0),
            to_end: field("to_end").is_some(),
        })
    }

    async fn put_lease(&self, operation: &str, to_end: bool, held: Version) -> Result<()> {
        let until = if operation.is_empty() { 0 } else { now_ms() + LEASE.as_millis() as i64 };
        let mut fields = Fields::from([
            ("operation".to_owned(), operation.to_owned()),
            ("node".to_owned(), self.node.clone()),
            ("until".to_owned(), until.to_string()),
        ]);
        if to_end {
            fields.insert("to_end".to_owned(), "1".to_owned());
        }
        let expect = if held == 0 { Expect::Absent } else { Expect::AtMost(held) };
        self.put("lease", fields, expect, held).await
    }

    /// A node whose clock is off neither takes a lease nor keeps one: both are a matter of time.
    async fn put(&self, id: &str, fields: Fields, expect: Expect, held: Version) -> Result<()> {
        self.clock.check()?;
        let (key, version) = (key(id)?, self.clock.after(held));
        let record = Record { key, version, deleted: false, fields, expires_at: None, cached_at: None };
        let mut write = Write::new(Arc::new(record), expect);
        // There is no other store that it could be owed to.
        write.mark = Mark::Clean;
        self.store.put(&write).await
    }
}

fn key(id: &str) -> Result<Key> {
    Key::new(&OPERATION, id).map_err(|error| StoreError::Unsupported(error.to_string()))
}
