//! Why a call failed, and whose fault it was.

use std::borrow::Cow;

use wasmtime::{PoolConcurrencyLimitError, Trap};

use super::bindings::switchyard::storage::types::Error;
use super::limits::Limits;
use crate::store::StoreError;

/// The longest text of a guest that the host passes on, in bytes.
const MAX_TEXT: usize = 1_024;

/// A limit that the host itself watches.
#[derive(Debug, thiserror::Error)]
pub(super) enum Exceeded {
    #[error("it made more than {0} calls of a store in one invocation")]
    StoreCalls(u32),
    #[error("it asked for {asked} bytes of memory; the limit is {limit}")]
    Memory { asked: usize, limit: usize },
    #[error("it asked for a table of {asked} elements; the limit is {limit}")]
    Table { asked: usize, limit: usize },
    #[error("it used more than {0} ms of CPU in one invocation")]
    Cpu(u128),
    #[error("its invocation took longer than {0} ms")]
    Deadline(u128),
}

impl From<Exceeded> for StoreError {
    fn from(exceeded: Exceeded) -> Self {
        Self::Strategy(exceeded.to_string())
    }
}

/// What stopped a guest. A full instance pool is the host's fault, all else is the guest's.
pub(super) fn blame(error: &wasmtime::Error, limits: &Limits) -> StoreError {
    if error.is::<PoolConcurrencyLimitError>() {
        return StoreError::Other("the host has no room for another instance".into());
    }
    if let Some(exceeded) = error.downcast_ref::<Exceeded>() {
        return StoreError::Strategy(exceeded.to_string());
    }
    StoreError::Strategy(match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => Exceeded::Cpu(limits.guest_cpu.as_millis()).to_string(),
        Some(Trap::StackOverflow) => {
            format!("it recursed past its stack of {} bytes", limits.stack_bytes)
        }
        Some(Trap::UnreachableCodeReached) => "it panicked".into(),
        Some(trap) => format!("it trapped: {trap}"),
        None => format!("it broke the contract: {}", clean(&error.root_cause().to_string())),
    })
}

/// A guest's text made fit for a log line: bounded, and without control characters.
pub(super) fn clean(text: &str) -> Cow<'_, str> {
    let bounded = &text[..text.floor_char_boundary(MAX_TEXT)];
    if !bounded.contains(char::is_control) {
        return bounded.into();
    }
    let mut escaped = String::with_capacity(bounded.len());
    for c in bounded.chars() {
        match c.is_control() {
            true => escaped.extend(c.escape_default()),
            false => escaped.push(c),
        }
    }
    escaped.into()
}

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        match error {
            Error::Unavailable(why) => Self::Unavailable(clean(&why).into_owned()),
            Error::Timeout => Self::Timeout,
            Error::Conflict(version) => Self::Conflict(version),
            Error::Unsupported(what) => Self::Unsupported(clean(&what).into_owned()),
            Error::Other(why) => Self::Other(clean(&why).into_owned()),
        }
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(why) => Self::Unavailable(why),
            StoreError::Timeout => Self::Timeout,
            StoreError::Conflict(version) => Self::Conflict(version),
            StoreError::Unsupported(what) => Self::Unsupported(what),
            // Not an outage: nothing may be tried instead.
            StoreError::Fenced(_) => Self::Other(error.to_string()),
            StoreError::Overloaded | StoreError::Paused(_) | StoreError::ClockSkewed(_) => {
                Self::Unavailable(error.to_string())
            }
            StoreError::Other(why) | StoreError::Strategy(why) => Self::Other(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guests_text_is_bounded_and_on_one_line() {
        assert_eq!(clean("a\nb\u{1b}[0m"), "a\\nb\\u{1b}[0m");
        assert_eq!(clean(&"\u{e9}".repeat(2_000)).len(), 1_024);
    }
}
