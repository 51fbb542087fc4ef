//! What becomes of a store that was away: probing, carrying over, comparing, completeness.
//!
//! # Layout
//! - [`health`]: whether each store takes writes, probed
//! - [`degrade`]: which strategy is in force while a store is lost
//! - [`authority`]: which store has the last word, agreed on by all nodes
//! - [`drain`]: carries over what one store has and the other has not
//! - [`conflicts`]: what was written in two stores without each other
//! - [`spool`]: keeps usage events while no store takes them
//! - [`refresh`]: reads old copies anew
//! - [`trust`]: whether a store may be believed, judged at each contact
//! - [`repair`]: compares a store that lost data with the other; `copy`, `forgotten`, `recount` are its steps
//! - [`operations`]: long work of an admin; `sync`, `check`: that work
//! - [`clear`]: clears cached copies
//! - [`complete`]: full copies that make a missing record absent rather than unknown

pub mod authority;
mod check;
pub mod clear;
pub mod complete;
pub mod conflicts;
mod copy;
pub mod degrade;
pub mod drain;
mod forgotten;
pub mod health;
pub mod operations;
mod recount;
pub mod refresh;
pub mod repair;
pub mod rescue;
pub mod spool;
mod sync;
pub mod trust;
