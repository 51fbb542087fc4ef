//! Whether what a read was answered may be old: PostgreSQL, which the strategy asked first, did not answer, and Redis
//! did. A strategy that asks Redis first takes Redis at its word, and its answer is not old.

use std::cell::Cell;

use super::side::{Side, Which};
use super::{Result, StoreError};
use crate::telemetry::Operation;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    Nothing,
    PostgresSilent,
    Stale,
}

tokio::task_local! {
    /// Of the read that this task is about.
    static SEEN: Cell<Seen>;
}

/// Awaits a read of a strategy. True if the answer may be old.
pub async fn noticed<T>(read: impl Future<Output = T>) -> (T, bool) {
    let noticed = async {
        let answer = read.await;
        (answer, SEEN.with(|seen| seen.get() == Seen::Stale))
    };
    SEEN.scope(Cell::new(Seen::Nothing), noticed).await
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
        match result {
            Ok(_) if self.which == Which::Redis => change(Seen::PostgresSilent, Seen::Stale),
            Err(StoreError::Timeout) => self.note_silence(),
            Err(StoreError::Unavailable(_)) if !self.breaker().is_sound() => self.note_silence(),
            _ => {}
        }
    }

    fn note_silence(&self) {
        if self.which == Which::Postgres {
            change(Seen::Nothing, Seen::PostgresSilent);
        }
    }
}

/// Outside of a read of a strategy nobody wants to know.
fn change(from: Seen, to: Seen) {
    let _ = SEEN.try_with(|seen| {
        if seen.get() == from {
            seen.set(to);
        }
    });
}
