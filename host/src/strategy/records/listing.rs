//! Lists of records, from whichever store of the active strategy can answer them.

use std::sync::Arc;

use super::{Read, Records};
use crate::engine::Needs;
use crate::store::list::ListQuery;
use crate::store::side::Side;
use crate::store::{Kind, Page, Result, StoreError};

impl Records {
    /// A page of live records as the query wants them. No strategy is asked: a list is for people, and may be as
    /// old as the drain is late. What this node has acknowledged is in it.
    ///
    /// # Errors
    /// `Unavailable` when no store of the active strategy has all that was acknowledged.
    pub async fn list(&self, kind: &'static Kind, query: &ListQuery) -> Result<Read<Page>> {
        let generation = self.active.enter();
        let mut refused = StoreError::Unavailable("the active strategy uses no store".into());
        for side in self.readable(generation.needs) {
            match side.list(kind, query).await {
                Ok(value) => return Ok(Read { value, generation, stale: false }),
                Err(error @ (StoreError::Unsupported(_) | StoreError::Other(_))) => return Err(error),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    /// The stores of the active strategy in the order in which a list is asked of them.
    pub fn readers(&self) -> Vec<Arc<Side>> {
        // Not held: what is read after a switch is as whole.
        let needs = self.active.enter().needs;
        self.readable(needs).into_iter().cloned().collect()
    }

    fn readable(&self, needs: Needs) -> Vec<&Arc<Side>> {
        let durable = self.sides.postgres.as_ref().filter(|_| needs.postgres);
        let fast = self.sides.redis.as_ref().filter(|_| needs.redis);
        let mut sides: Vec<_> = durable.into_iter().chain(fast).collect();
        sides.sort_by_key(|side| !side.is_caught_up());
        sides
    }
}
