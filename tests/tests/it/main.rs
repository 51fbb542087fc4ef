//! All integration tests, in one binary: one link, and one PostgreSQL shared by all.

mod contract;
mod faulty;
mod hostile;
mod restarts;
mod servers;
mod switching;
mod tidy;
mod watching;
