//! What an upstream call used and cost, recorded once.
//!
//! # Layout
//! - [`meter`]: reads usage from an answer that goes by, streamed or plain
//! - [`price`]: what tokens cost, from a table that is data
//! - [`journal`]: what is known of attempts that no store has counted yet, on this machine's disk
//! - [`recorder`]: from an attempt's first token to its event in the stores
//! - [`totals`]: what the stores have counted, for people

mod journal;
pub mod meter;
pub mod price;
mod recorder;
pub mod totals;

pub use meter::{Meter, Metered};
pub use price::{Cost, Prices};
pub use recorder::{Attempt, OpenAttempt, Recorder};

/// What a call used, in the five kinds that are priced apart. No kind contains another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Tokens {
    pub input: u64,
    pub output: u64,
    pub cache_creation_5m: u64,
    pub cache_creation_1h: u64,
    pub cache_read: u64,
}

impl Tokens {
    /// All that the model was given: what decides on the price of a long prompt.
    pub fn prompt(&self) -> u64 {
        let Self { input, cache_creation_5m, cache_creation_1h, cache_read, .. } = *self;
        [cache_creation_5m, cache_creation_1h, cache_read].into_iter().fold(input, u64::saturating_add)
    }

    /// All of them, as limits count.
    pub fn total(&self) -> u64 {
        self.prompt().saturating_add(self.output)
    }
}
