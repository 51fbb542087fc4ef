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
//! - [`secrets`]: what seals credentials and salts the hashes of keys
//! - [`keys`]: API keys: made, changed, listed, and held against what a client presents
//! - [`accounts`]: upstreams, their sealed credentials, their health, and which one is next
//! - [`usage`]: what an upstream call used and cost, recorded once
//! - [`limits`]: how much a key may use at a time, in a window and in total
//! - [`relay`]: a client's request on its way upstream and back
//! - [`demo`]: an upstream that makes its answers up
//! - [`config`]: every setting
//! - [`http`]: the store API, the admin API, health and metrics
//! - [`server`]: all of it put together
//! - [`cli`]: the commands

#![deny(unsafe_code)]

pub mod accounts;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod demo;
pub mod engine;
pub mod http;
pub mod keys;
pub mod limits;
mod planted;
pub mod recovery;
pub mod relay;
pub mod secrets;
pub mod server;
pub mod store;
pub mod strategy;
pub mod telemetry;
pub mod usage;
