//! Switchyard: a relay for Claude clients whose storage policy is a WebAssembly component.
//!
//! # Layout, in reading order. A module uses what stands above it, never what stands below.
//! - `planted`: faults that the torture bench plants; none unless the feature of that name is on
//! - [`telemetry`]: metrics and log lines
//! - [`store`]: the `Store` trait, records and versions; Redis, PostgreSQL, SQLite, memory
//! - [`engine`]: strategies as components: check, compile, lease, limits
//! - [`strategy`]: versions of strategies, what is active, the live switch, the watched folder
//! - [`recovery`]: probes, the drain, full copies that make a store complete
//! - [`cluster`]: several nodes on the same stores
//! - [`config`]: every setting
//! - [`http`]: the store API, the admin API, health and metrics
//! - [`server`]: all of it put together
//! - [`cli`]: the commands

#![deny(unsafe_code)]

pub mod cli;
pub mod cluster;
pub mod config;
pub mod engine;
pub mod http;
mod planted;
pub mod recovery;
pub mod server;
pub mod store;
pub mod strategy;
pub mod telemetry;
