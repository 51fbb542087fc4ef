//! API keys: made, changed, listed, and held against what a client presents.
