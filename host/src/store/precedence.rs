//! Whether Redis has, or may have, what PostgreSQL lacks: then PostgreSQL's reads do not count.
//!
//! A node knows what it has acknowledged itself. What other nodes have acknowledged in Redis alone it knows from
//! Redis only: that Redis has the last word, or that marks have waited there for long.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use super::side::Side;
use super::{Result, StoreError};

/// What a node knows of the store before this one. Nothing of it concerns Redis.
#[derive(Default)]
pub(super) struct Precedence {
    /// Redis has the last word.
    last_word: AtomicBool,
    /// Marks in Redis have waited for longer than the drain takes.
    held_up: AtomicBool,
    redis: OnceLock<Arc<Side>>,
}

impl Side {
    /// Redis, which may have what this side lacks. To be called once.
    pub fn follows(&self, redis: Arc<Side>) {
        // A second call changes nothing.
        let _ = self.precedence.redis.set(redis);
    }

    /// Whether other nodes may have acknowledged in Redis what is not here: then nothing here is answered.
    pub fn set_preceded(&self, is: bool) {
        self.precedence.last_word.store(is, Ordering::Release);
    }

    /// Whether what waits in Redis to be carried over here has waited for long: then nothing here is answered
    /// while Redis fails.
    pub fn set_held_up(&self, is: bool) {
        self.precedence.held_up.store(is, Ordering::Release);
    }

    pub(super) fn not_preceded(&self) -> Result<()> {
        let Precedence { last_word, held_up, redis } = &self.precedence;
        if last_word.load(Ordering::Acquire) {
            return Err(StoreError::Unavailable("Redis has the last word".into()));
        }
        let fails = |redis: &Arc<Side>| !redis.breaker().is_sound();
        if held_up.load(Ordering::Acquire) && redis.get().is_some_and(fails) {
            let why = "Redis fails, and has what was not carried over";
            return Err(StoreError::Unavailable(why.into()));
        }
        Ok(())
    }
}
