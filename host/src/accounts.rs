//! Upstreams, their sealed credentials, their health, and which one is next.
