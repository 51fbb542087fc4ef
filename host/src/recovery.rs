//! What becomes of a store that was away: probing, carrying over, completeness.
//!
//! # Layout
//! - [`health`]: whether each store takes writes, probed
//! - [`drain`]: carries over what one store has and the other has not
//! - [`complete`]: full copies that make a missing record absent rather than unknown

pub mod complete;
pub mod drain;
pub mod health;
