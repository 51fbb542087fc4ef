//! Switchyard: a relay for Claude clients whose storage policy is a WebAssembly component.
//!
//! # Layout, in reading order. A module uses what stands above it, never what stands below.
//! - [`telemetry`]: metrics and log lines
//! - [`store`]: the `Store` trait, records and versions; Redis, PostgreSQL, SQLite, memory
//! - [`engine`]: strategies as components: check, compile, lease, limits
//! - [`strategy`]: versions of strategies, what is active, the live switch, the watched folder
//! - [`recovery`]: probes, the drain, full copies that make a store complete
//! - [`config`]: every setting

#![deny(unsafe_code)]

pub mod config;
pub mod engine;
pub mod recovery;
pub mod store;
pub mod strategy;
pub mod telemetry;
