//! What the integration tests and the benchmarks share.
//!
//! - [`servers`]: real Redis and PostgreSQL servers, started and ended by the tests
//! - [`contract`]: the one suite that every store passes
//! - [`host`]: a server in this process and its client
//! - [`hostile`]: components that misbehave
//! - [`faulty`]: a store that fails on command
//! - [`relay_database`]: a Redis as Claude Relay Service fills it
//! - [`relay_service`]: a Redis as Claude Relay Service leaves it, in its documented layout
//! - [`proxy`]: a TCP proxy that fails on command
//! - [`timing`]: times that are promised
//! - [`shim`]: slow disks and wrong clocks for the processes that the tests start

pub mod contract;
pub mod faulty;
pub mod host;
pub mod hostile;
pub mod proxy;
pub mod relay_database;
pub mod relay_service;
pub mod servers;
pub mod shim;
pub mod timing;
