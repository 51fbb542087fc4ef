//! Switchyard: a relay for Claude clients whose storage policy is a WebAssembly component.
//!
//! # Layout, in reading order. A module uses what stands above it, never what stands below.
//! - [`telemetry`]: metrics and log lines
//! - [`store`]: the `Store` trait, records and versions; Redis, PostgreSQL, SQLite, memory

#![forbid(unsafe_code)]

pub mod config;
pub mod engine;
pub mod recovery;
pub mod store;
pub mod strategy;
pub mod telemetry;
