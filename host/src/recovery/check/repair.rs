//! What to do about a difference: the newer version wins, by compare-and-set. What no version decides needs a person.

use std::sync::Arc;

use super::judge::{Pair, Reason};
use super::{Check, Stop};
use crate::store::side::{Side, Which};
use crate::store::{Expect, Key, Record, Result, Store, StoreError, Write};

/// A way to make both stores agree.
enum Repair<'a> {
    /// This record into that store.
    Copy(&'a Arc<Record>, Which),
    /// The same contents under a new version into both, which writes the index anew.
    Rewrite(&'a Arc<Record>),
    Person(&'static str),
}

impl Check<'_> {
    /// Repairs one record, or says in a dry run what that would be.
    pub(super) async fn repair(&mut self, key: &Key, pair: &Pair, reason: Reason) -> Result<(), Stop> {
        let dry = self.dry_run != Some(false);
        let name = key.to_string();
        let (done, action) = match choose(pair, reason) {
            Repair::Person(action) => {
                self.report.needs_person(&name, action);
                return Ok(());
            }
            Repair::Copy(record, to) => {
                let side = if to == Which::Redis { self.redis } else { self.postgres };
                let what = if record.deleted { "deleted in" } else { "copied to" };
                let action = format!("version {} {what} {}", record.version, to.name());
                (if dry { Ok(()) } else { self.copy(record, side).await }, action)
            }
            Repair::Rewrite(record) => {
                let action = "written again under a new version, with its index";
                (if dry { Ok(()) } else { self.rewrite(record).await }, action.into())
            }
        };
        match done {
            Ok(()) => self.report.repaired(&name, &action),
            Err(StoreError::Other(why) | StoreError::Unsupported(why)) => {
                self.report.needs_person(&name, &format!("a store refused it: {why}"));
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    async fn copy(&self, record: &Arc<Record>, to: &Side) -> Result<()> {
        let from = if to.is_redis() { self.postgres } else { self.redis };
        let records = std::slice::from_ref(record);
        if !self.work.carry.before_copies(from.which, to.which, records).await?.is_empty() {
            // The drain copies it as soon as it is known whether the two contradict each other.
            return Ok(());
        }
        accepted(to.put(&Write::copy(record.clone())).await)
    }

    async fn rewrite(&self, record: &Arc<Record>) -> Result<()> {
        self.work.clock.observe(record.version);
        let (version, expect) = (self.work.clock.next(), Expect::AtMost(record.version));
        let write = Write::new(Arc::new(Record { version, ..(**record).clone() }), expect);
        // A conflict: someone has written it meanwhile, and the index with it.
        accepted(self.postgres.put(&write).await)?;
        accepted(self.redis.put(&write).await)
    }
}

/// A newer version there is as good.
fn accepted(put: Result<()>) -> Result<()> {
    match put {
        Err(StoreError::Conflict(_)) => Ok(()),
        put => put,
    }
}

fn choose(pair: &Pair, reason: Reason) -> Repair<'_> {
    let person = "both stores hold this version with different contents: write the record again to decide";
    match (reason, &pair.redis, &pair.postgres) {
        (Reason::Unreadable, ..) => Repair::Person(
            "a store holds something there that is no record: remove it by hand, then check again",
        ),
        (Reason::Index, _, Some(record)) => Repair::Rewrite(record),
        (_, Some(redis), Some(postgres)) if redis.version > postgres.version => {
            Repair::Copy(redis, Which::Postgres)
        }
        (_, Some(redis), Some(postgres)) if redis.version < postgres.version => {
            Repair::Copy(postgres, Which::Redis)
        }
        (_, Some(redis), None) => Repair::Copy(redis, Which::Postgres),
        (_, None, Some(postgres)) => Repair::Copy(postgres, Which::Redis),
        _ => Repair::Person(person),
    }
}
