//! All integration tests, in one binary: one link, and one PostgreSQL shared by all.

mod accounts;
mod amnesia;
mod checking;
mod cluster;
mod command_line;
mod completeness;
mod contract;
mod degrading;
mod draining;
mod faulty;
mod hostile;
mod http_admin;
mod http_bad_input;
mod http_limits;
mod http_records;
mod http_usage;
mod outages;
mod proxy;
mod restarts;
mod servers;
mod shim;
mod spooling;
mod switching;
mod syncing;
mod tidy;
mod watching;
