//! Whether what a read was answered may be old: PostgreSQL, which the strategy asked first, did not answer, and Redis
//! did. A strategy that asks Redis first takes Redis at its word, and its answer is not old.

use std::cell::Cell;

use super::side::{Side, Which};
use super::{Result, StoreError};
use crate::telemetry::Operation;

#[derive(Clone, Copy, Default)]
struct Seen {
    redis_failed: bool,
    postgres_silent: bool,
    stale: bool,
}

tokio::task_local! {
    /// Of the read that this task is about.
    static SEEN: Cell<Seen>;
}

/// Awaits a read of a strategy. True if the answer may be old.
pub async fn noticed<T>(read: impl Future<Output = T>) -> (T, bool) {
    let noticed = async {
        let answer = read.await;
        (answer, SEEN.with(|seen| seen.get().stale))
    };
    SEEN.scope(Cell::default(), noticed).await
}

/// Whether PostgreSQL is asked in Redis's place.
pub(super) fn redis_has_failed() -> bool {
    SEEN.try_with(|seen| seen.get().redis_failed).unwrap_or(false)
}

impl Side {
    /// The breaker has refused a call.
    pub(super) fn refused(&self, operation: Operation, error: &StoreError) {
        self.metrics().refused(operation, error.outcome());
        self.note_silence();
    }

    /// A read has ended. A store that refuses though it is well, because it knows of something newer in the other
    /// one, says nothing against the other one's answer.
    pub(super) fn note_read<T>(&self, result: &Result<T>) {
        match (self.which, result) {
            (Which::Redis, Ok(_)) => change(|seen| seen.stale |= seen.postgres_silent),
            (Which::Redis, Err(_)) => change(|seen| seen.redis_failed = true),
            (_, Err(StoreError::Timeout)) => self.note_silence(),
            (_, Err(StoreError::Unavailable(_))) if !self.breaker().is_sound() => self.note_silence(),
            _ => {}
        }
    }

    fn note_silence(&self) {
        change(|seen| match self.which {
            Which::Redis => seen.redis_failed = true,
            Which::Postgres => seen.postgres_silent = true,
        });
    }
}

/// Outside of a read of a strategy nobody wants to know.
fn change(by: impl FnOnce(&mut Seen)) {
    let _ = SEEN.try_with(|seen| {
        let mut changed = seen.get();
        by(&mut changed);
        seen.set(changed);
    });
}
