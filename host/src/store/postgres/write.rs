//! The lane of writes: puts of one kind with one precondition together, batches of events together.

use sqlx::PgConnection;

use super::count::{self, Add};
use super::failure;
use super::lane::{Job, Reply};
use super::put::{self, Put};
use crate::store::clock::now_ms;
use crate::store::{Expect, Kind, Result, StoreError, Version};

/// A write on its way to a worker.
pub(super) enum WriteJob {
    Put(Put),
    Add(Add),
    Probe(Reply<()>),
}

/// Writes that one statement can do.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum WriteGroup {
    Probe,
    Put(&'static Kind, Condition),
    Add,
}

/// A precondition as the statement takes it: the greatest version that may be held, and whether a live
/// record may be.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Condition {
    pub(super) at_most: Version,
    pub(super) absent: bool,
}

impl From<Expect> for Condition {
    fn from(expect: Expect) -> Self {
        let anything = i64::MAX as Version;
        match expect {
            Expect::Anything => Self { at_most: anything, absent: false },
            Expect::AtMost(version) => Self { at_most: version.min(anything), absent: false },
            Expect::Absent => Self { at_most: anything, absent: true },
        }
    }
}

impl Job for WriteJob {
    type Group = WriteGroup;

    fn group(&self) -> WriteGroup {
        match self {
            Self::Put(put) => WriteGroup::Put(put.record.key.kind, put.expect.into()),
            Self::Add(_) => WriteGroup::Add,
            Self::Probe(_) => WriteGroup::Probe,
        }
    }

    async fn run(group: WriteGroup, jobs: Vec<Self>, connection: &mut PgConnection) -> Result<()> {
        let (mut puts, mut adds, mut probes) = (Vec::new(), Vec::new(), Vec::new());
        for job in jobs {
            match job {
                Self::Put(put) => puts.push(put),
                Self::Add(add) => adds.push(add),
                Self::Probe(reply) => probes.push(reply),
            }
        }
        match group {
            WriteGroup::Put(kind, condition) => put::run(kind, condition, puts, connection).await,
            WriteGroup::Add => count::run(adds, connection).await,
            WriteGroup::Probe => probe(probes, connection).await,
        }
    }

    fn refuse(self, error: StoreError) {
        // Nobody may wait any more.
        let _ = match self {
            Self::Put(put) => put.reply.send(Err(error)).is_ok(),
            Self::Add(add) => add.reply.send(Err(error)).is_ok(),
            Self::Probe(reply) => reply.send(Err(error)).is_ok(),
        };
    }

    fn is_abandoned(&self) -> bool {
        match self {
            Self::Put(put) => put.reply.is_closed(),
            Self::Add(add) => add.reply.is_closed(),
            Self::Probe(reply) => reply.is_closed(),
        }
    }
}

/// Writes and reads one row.
async fn probe(replies: Vec<Reply<()>>, connection: &mut PgConnection) -> Result<()> {
    let now = now_ms();
    let read: sqlx::Result<i64> = sqlx::query_scalar(
        "insert into probe (value) values ($1) on conflict (id) do update set value = excluded.value returning value",
    )
    .bind(now)
    .fetch_one(connection)
    .await;
    let outcome = match read {
        Ok(value) if value == now => Ok(()),
        Ok(_) => Err(StoreError::Other("the probe read something else than it wrote".into())),
        Err(error) => Err(failure::of_write(&error)),
    };
    for reply in replies {
        // Nobody may wait any more.
        let _ = reply.send(outcome.clone());
    }
    outcome.or_else(|error| if failure::spares_connection(&error) { Ok(()) } else { Err(error) })
}
