//! Whether what a store holds may be believed: nobody reads one that may have lost its data.

use std::sync::atomic::{AtomicU64, Ordering};

use super::side::{Side, Which};
use super::{Result, StoreError, Version};

/// What a node believes of a store.
pub(super) struct Belief {
    /// The contact at which the data was last found whole, or one of the two below.
    trusted: AtomicU64,
    /// The greatest version that the store has taken from this node.
    taken: AtomicU64,
}

/// Nobody compares this store with the other.
const UNWATCHED: u64 = u64::MAX;
/// No contact has this number.
const NEVER: u64 = u64::MAX - 1;

impl Default for Belief {
    fn default() -> Self {
        Self { trusted: AtomicU64::new(UNWATCHED), taken: AtomicU64::new(0) }
    }
}

impl Belief {
    pub(super) fn took(&self, version: Version) {
        self.taken.fetch_max(version, Ordering::AcqRel);
    }
}

impl Side {
    pub fn is_redis(&self) -> bool {
        self.which == Which::Redis
    }

    /// The data was whole at this contact of the backend: reads are answered until there is another.
    pub fn trust(&self, contact: u64) {
        self.belief.trusted.store(contact, Ordering::Release);
    }

    /// The data may lack anything: reads are refused until somebody has compared it.
    pub fn distrust(&self) {
        self.belief.trusted.store(NEVER, Ordering::Release);
    }

    /// Whether the data is known to be whole since the backend has last made contact.
    pub fn is_trusted(&self) -> bool {
        let trusted = self.belief.trusted.load(Ordering::Acquire);
        trusted == UNWATCHED || trusted == self.backend.contact()
    }

    /// The greatest version that it has taken from this node.
    pub fn taken(&self) -> Version {
        self.belief.taken.load(Ordering::Acquire)
    }

    pub(super) fn believe(&self) -> Result<()> {
        if self.is_trusted() {
            return Ok(());
        }
        let store = self.which.name();
        Err(StoreError::Unavailable(format!("{store} has not been compared since it came back")))
    }

    /// What a read answered counts if the store was trusted all the while: it may have lost its data meanwhile.
    pub(super) async fn read<T>(&self, read: impl Future<Output = Result<T>>) -> Result<T> {
        self.believe()?;
        let answer = read.await;
        self.note_read(&answer);
        answer.and_then(|answer| self.believe().map(|()| answer))
    }
}
