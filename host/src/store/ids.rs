//! Ids that no other process gives.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use uuid::{Builder, Uuid};

use super::clock::now_ms;

/// Gives UUIDs of version 7 with a counter in their random part, because asking the system for randomness each time
/// would cost more than the rest of a small request. For names, not for secrets: they can be guessed.
pub struct Ids {
    random: [u8; 10],
    count: AtomicU64,
}

impl Ids {
    /// # Errors
    /// When the system has no randomness.
    pub fn new() -> io::Result<Self> {
        let mut random = [0; 10];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        Ok(Self { random, count: AtomicU64::new(0) })
    }

    pub fn next(&self) -> Uuid {
        let mut random = self.random;
        let count = self.count.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        random[2..].iter_mut().zip(count).for_each(|(byte, count)| *byte ^= count);
        Builder::from_unix_timestamp_millis(now_ms().unsigned_abs(), &random).into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_differ_within_a_process_and_between_two() {
        let (one, other) = (Ids::new().unwrap(), Ids::new().unwrap());
        let given: HashSet<_> = (0..10_000).flat_map(|_| [one.next(), other.next()]).collect();
        assert_eq!(given.len(), 20_000);
        assert!(given.iter().all(|id| id.get_version() == Some(uuid::Version::SortRand)));
    }
}
