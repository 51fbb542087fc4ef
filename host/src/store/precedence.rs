//! Whether Redis has, or may have, what PostgreSQL lacks: then PostgreSQL's reads do not count.
//!
//! A node knows what it has acknowledged itself. What other nodes have acknowledged in Redis alone it knows from
//! Redis only: that Redis has the last word, or that marks have waited there for long.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use super::side::{HELD_UP, Side, Which};
use super::{Result, StoreError};

/// What a node knows of the store before this one. Nothing of it concerns Redis.
#[derive(Default)]
pub(super) struct Precedence {
    /// From when on it counts that Redis has the last word.
    last_word: Mutex<Option<Instant>>,
    has_last_word: AtomicBool,
}

impl Side {
    /// Whether other nodes may have acknowledged in Redis what is not here: then nothing here is answered from this
    /// time on, and at once while Redis fails. The first of two times holds.
    pub fn set_preceded(&self, from: Option<Instant>) {
        let mut last_word = self.precedence.last_word.lock();
        *last_word = from.map(|from| last_word.map_or(from, |held| held.min(from)));
        self.precedence.has_last_word.store(last_word.is_some(), Ordering::Release);
    }

    /// Whether Redis has the last word, and more than what is here.
    pub fn is_preceded(&self) -> bool {
        self.precedence.has_last_word.load(Ordering::Acquire)
    }

    /// Asked before something is answered or decided by what is here.
    pub(super) fn not_preceded(&self) -> Result<()> {
        let last_word = &self.precedence.last_word;
        let fails = || {
            let redis = self.other().filter(|other| other.which == Which::Redis);
            redis.is_some_and(|redis| !redis.breaker().is_sound())
        };
        let counts = |from: Instant| from <= Instant::now() || fails();
        if self.is_preceded() && last_word.lock().is_some_and(counts) {
            return Err(StoreError::Unavailable("Redis has the last word".into()));
        }
        if self.has_waited(HELD_UP) && fails() {
            let why = "Redis fails, and has what was not carried over";
            return Err(StoreError::Unavailable(why.into()));
        }
        Ok(())
    }
}
