//! The two stores together.

use std::sync::Arc;

use super::side::{Side, Which};
use super::{Expect, Result, Store, StoreError, Usage, Write};

/// The two stores that a strategy is made of. Either may be switched off by configuration.
#[derive(Clone)]
pub struct Sides {
    pub redis: Option<Arc<Side>>,
    pub postgres: Option<Arc<Side>>,
}

impl Sides {
    /// The side, or what to say when it is switched off.
    pub fn side(&self, which: Which) -> Result<&Arc<Side>> {
        let side = match which {
            Which::Redis => self.redis.as_ref(),
            Which::Postgres => self.postgres.as_ref(),
        };
        side.ok_or_else(|| StoreError::Unavailable(format!("{} is not configured", which.name())))
    }

    /// One write into both at once; (redis, postgres).
    ///
    /// A write with a precondition goes to PostgreSQL first, so that one of the two decides. Redis is then
    /// asked without the precondition, or with it when PostgreSQL could not be reached.
    pub async fn put(&self, write: &Write) -> (Result<()>, Result<()>) {
        if write.expect == Expect::Anything {
            return tokio::join!(self.put_one(Which::Redis, write), self.put_one(Which::Postgres, write));
        }
        let postgres = self.put_one(Which::Postgres, write).await;
        let redis = match &postgres {
            Ok(()) | Err(StoreError::Unavailable(_) | StoreError::Overloaded) => {
                self.put_one(Which::Redis, write).await
            }
            Err(refused) => Err(refused.clone()),
        };
        (redis, postgres)
    }

    /// One batch into both; (redis, postgres). Redis first: where it has counted the batch PostgreSQL marks nothing, for
    /// which it would write each event twice.
    pub async fn add(&self, usage: &Usage) -> (Result<()>, Result<()>) {
        let one = async |which| self.side(which)?.add(usage).await.map(drop);
        let redis = one(Which::Redis).await;
        (redis, one(Which::Postgres).await)
    }

    async fn put_one(&self, which: Which, write: &Write) -> Result<()> {
        self.side(which)?.put(write).await
    }
}
