//! One call of a strategy: what it was asked, what it may still use, and what the stores told it.

use std::sync::Arc;

use wasmtime::component::Resource;
use wasmtime::{ResourceLimiter, UpdateDeadline};

use super::failure::Exceeded;
use super::handles::Handles;
use super::limits::Limits;
use crate::store::side::Sides;
use crate::store::{Key, Kind, Record, Result, StoreError, Usage, Version, Write};

/// Who is called: for log lines.
#[derive(Debug)]
pub(super) struct Label {
    pub(super) name: String,
    pub(super) generation: u64,
}

/// What a strategy is asked.
pub(super) enum Question {
    /// Nothing: the instance is being made, or is idle.
    Nothing,
    Get(Key),
    Find {
        kind: &'static Kind,
        index: String,
        value: String,
    },
    Scan {
        kind: &'static Kind,
    },
    /// The handle is the one lent for this record: only it carries the caller's write.
    Put {
        handle: u32,
        write: Arc<Write>,
    },
    Add(Arc<Usage>),
}

/// The data of an instance's store. What concerns a single call is reset by [`Invocation::begin`].
pub(super) struct Invocation {
    pub(super) sides: Sides,
    pub(super) label: Arc<Label>,
    pub(super) handles: Handles,
    pub(super) question: Question,
    /// A store itself has answered the question with "absent", or with a page.
    pub(super) answered: bool,
    /// The greatest version of each record that a store has shown in this call.
    pub(super) seen: Vec<(Key, Version)>,
    pub(super) log_lines: u32,
    limits: Arc<Limits>,
    store_calls: u32,
    ticks: u32,
    /// The host waited for a store since the last tick, which is therefore not the guest's.
    pub(super) waited: bool,
}

impl Invocation {
    pub(super) fn new(sides: Sides, label: Arc<Label>, limits: Arc<Limits>) -> Self {
        Self {
            sides,
            label,
            handles: Handles::default(),
            question: Question::Nothing,
            answered: false,
            seen: Vec::new(),
            log_lines: 0,
            store_calls: 0,
            ticks: limits.ticks(),
            limits,
            waited: false,
        }
    }

    /// Starts a call with its full allowance.
    pub(super) fn begin(&mut self, question: Question) {
        self.question = question;
        self.answered = false;
        self.seen.clear();
        self.log_lines = 0;
        self.store_calls = 0;
        self.ticks = self.limits.ticks();
        self.waited = false;
    }

    /// Guest code has run into the next tick of the clock.
    pub(super) fn tick(&mut self) -> UpdateDeadline {
        if std::mem::take(&mut self.waited) {
            return UpdateDeadline::Continue(1);
        }
        match self.ticks.checked_sub(1) {
            Some(left) => {
                self.ticks = left;
                UpdateDeadline::Yield(1)
            }
            None => UpdateDeadline::Interrupt,
        }
    }

    /// Takes calls of a store off the allowance.
    pub(super) fn charge(&mut self, calls: u32) -> wasmtime::Result<()> {
        self.store_calls += calls;
        if self.store_calls > self.limits.store_calls {
            return Err(wasmtime::Error::new(Exceeded::StoreCalls(self.limits.store_calls)));
        }
        Ok(())
    }

    /// Notes that a store has shown this version of a record.
    pub(super) fn note(&mut self, key: &Key, version: Version) {
        match self.seen.iter_mut().find(|(seen, _)| seen == key) {
            Some((_, greatest)) => *greatest = version.max(*greatest),
            None => self.seen.push((key.clone(), version)),
        }
    }

    /// Takes back what the guest answers.
    pub(super) fn take(&mut self, handle: &Resource<Record>) -> Result<Arc<Record>> {
        let unknown = || StoreError::Strategy("it answered a handle that it does not own".into());
        self.handles.take(handle.rep()).ok_or_else(unknown)
    }
}

impl ResourceLimiter for Invocation {
    fn memory_growing(&mut self, _: usize, asked: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let limit = self.limits.memory_bytes;
        if asked > limit {
            return Err(wasmtime::Error::new(Exceeded::Memory { asked, limit }));
        }
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, asked: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let limit = self.limits.table_elements;
        if asked > limit {
            return Err(wasmtime::Error::new(Exceeded::Table { asked, limit }));
        }
        Ok(true)
    }
}
