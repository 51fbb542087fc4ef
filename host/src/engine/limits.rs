//! What a strategy may use.

use std::time::Duration;

/// How often guest code is interrupted to look at its budget.
pub(super) const TICK: Duration = Duration::from_millis(10);

/// The most a component, one of its instances or one of its calls may use.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Size of a component in bytes. Rust needs 40 KB, QuickJS 1.1 MB.
    pub component_bytes: usize,
    /// Size of one function body in bytes: compile time grows faster than a function does.
    pub function_bytes: usize,
    /// Linear memory of an instance in bytes. Rust touches 1 MiB; a JavaScript engine starts with 10.
    pub memory_bytes: usize,
    /// Elements of one table. The interpreters need about 10,000.
    pub table_elements: usize,
    /// Live handles of an instance: some pages of a scan.
    pub handles: usize,
    /// Stack of a call in bytes; the host's part of the same fiber has three times as much beside it.
    pub stack_bytes: usize,
    /// Bytes a guest may hand to the host in one import or one answer: a value of 1 MiB and its frame.
    pub hostcall_bytes: usize,
    /// Calls of a store in one invocation. The built-in strategies make four at most.
    pub store_calls: u32,
    /// Calls of one strategy at a time; each has a stack and an instance.
    pub in_flight: usize,
    /// Calls that may wait for one of those to end. More are refused at once.
    pub queue: usize,
    /// How long they may wait: a client gives up or repeats after about this.
    pub queue_wait: Duration,
    /// Wall clock of one call: several times the deadline of the slowest store.
    pub call_deadline: Duration,
    /// CPU of one call's guest code, in steps of 10 ms. Well-behaved calls need microseconds.
    pub guest_cpu: Duration,
    /// Calls after which an instance is replaced, so that what it leaks stays bounded.
    pub calls_per_instance: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            component_bytes: 8 << 20,
            function_bytes: 256 << 10,
            memory_bytes: 32 << 20,
            table_elements: 20_000,
            handles: 4_096,
            stack_bytes: 512 << 10,
            hostcall_bytes: 2 << 20,
            store_calls: 64,
            in_flight: 256,
            queue: 1_024,
            queue_wait: Duration::from_secs(1),
            call_deadline: Duration::from_secs(5),
            guest_cpu: Duration::from_millis(100),
            calls_per_instance: 10_000,
        }
    }
}

impl Limits {
    pub(super) fn ticks(&self) -> u32 {
        self.guest_cpu.as_millis().div_ceil(TICK.as_millis()) as u32
    }
}
