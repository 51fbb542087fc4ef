//! An upstream that makes its answers up, so that the relay can be tried without an account.
