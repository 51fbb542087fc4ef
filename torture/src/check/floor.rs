//! The greatest version that was known by a moment.

use crate::history::{At, Entry};

#[derive(Default)]
pub struct Floor<'a> {
    /// Ascending.
    ends: Vec<At>,
    /// Of the first entries up to each, the one with the greatest version.
    best: Vec<&'a Entry>,
}

impl<'a> Floor<'a> {
    /// Over entries that have a version.
    pub fn of(entries: impl Iterator<Item = &'a Entry>) -> Self {
        let mut entries: Vec<_> = entries.filter(|entry| entry.version().is_some()).collect();
        entries.sort_by_key(|entry| entry.ended);
        let mut floor = Self::default();
        for entry in entries {
            let best = floor.best.last().copied().filter(|best| best.version() >= entry.version());
            floor.ends.push(entry.ended);
            floor.best.push(best.unwrap_or(entry));
        }
        floor
    }

    /// The entry with the greatest version of those that had ended before `at`.
    pub fn at(&self, at: At) -> Option<&'a Entry> {
        let ended = self.ends.partition_point(|end| *end < at);
        self.best.get(ended.checked_sub(1)?).copied()
    }

    pub fn last(&self) -> Option<&'a Entry> {
        self.best.last().copied()
    }
}
