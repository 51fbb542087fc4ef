//! What an upstream call used and cost, recorded once.
