//! Switchyard: a relay for Claude clients whose storage policy is a WebAssembly component.
//!
//! # Layout, in reading order. A module uses what stands above it, never what stands below.
//! - [`telemetry`]: metrics and log lines
//! - [`store`]: the `Store` trait, records and versions; Redis, PostgreSQL, SQLite, memory
//! - [`engine`]: strategies as components: check, compile, lease, limits

#![deny(unsafe_code)]

pub mod engine;
pub mod store;
pub mod telemetry;
