//! How many bytes of bodies may be under way.
//!
//! Room is taken as the bytes come, not as they are announced: what is announced may never come.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::refusal::Refusal;

/// The largest body, in bytes.
pub const MAX_BODY: usize = 32 << 20;
/// All bodies together, in bytes.
const TOGETHER: usize = 512 << 20;
/// Those of one key, in bytes: eight of the largest, so that there is room for the others.
const OF_A_KEY: usize = 8 * MAX_BODY;
/// What is counted with, in bytes.
const UNIT: usize = 4 << 10;
/// How much is taken at a time, in bytes. A body of one step or less counts for no key.
const STEP: usize = 256 << 10;

/// The units that the larger bodies of each key take. Has no entry for a key without any.
type Shares = Mutex<HashMap<Arc<str>, usize>>;

pub(super) struct Room {
    together: Arc<Semaphore>,
    shares: Arc<Shares>,
}

/// Room that is taken as long as this lives.
pub struct Held {
    permit: OwnedSemaphorePermit,
    together: Arc<Semaphore>,
    share: Share,
}

/// What one body takes of its key's part.
struct Share {
    of: Arc<Shares>,
    key: Arc<str>,
    units: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self { together: Arc::new(Semaphore::new(TOGETHER / UNIT)), shares: Arc::default() }
    }
}

impl Room {
    /// For the beginning of a body of a key; of this length, if that is announced.
    pub(super) fn hold(&self, key: &Arc<str>, announced: Option<u64>) -> Result<Held, Refusal> {
        let first = announced.map_or(STEP, |length| length.min(STEP as u64) as usize);
        let permit = take(&self.together, units(first))?;
        let share = Share { of: self.shares.clone(), key: key.clone(), units: 0 };
        Ok(Held { permit, together: self.together.clone(), share })
    }
}

impl Held {
    /// Takes more, if a body of so many bytes needs more.
    ///
    /// # Errors
    /// 529 when there is no room left, 429 when the key has taken its part of it.
    pub fn grow(&mut self, length: usize) -> Result<(), Refusal> {
        if units(length) <= self.permit.num_permits() {
            return Ok(());
        }
        let wanted = units(length.next_multiple_of(STEP));
        let more = wanted - self.permit.num_permits();
        self.share.grow(wanted)?;
        self.permit.merge(take(&self.together, more)?);
        Ok(())
    }

    /// Gives back what a body of this length does not need.
    pub(super) fn of(mut self, length: usize) -> Self {
        let needed = units(length);
        if let Some(kept) = self.permit.split(needed) {
            self.permit = kept;
            self.share.shrink(needed);
        }
        self
    }
}

impl Share {
    /// Makes it this many units, if the key has them left.
    fn grow(&mut self, wanted: usize) -> Result<(), Refusal> {
        let mut shares = self.of.lock();
        let others = shares.get(&self.key).map_or(0, |taken| taken - self.units);
        if others + wanted > OF_A_KEY / UNIT {
            let message = "This API key has too many large requests under way. Try again when one has ended.";
            return Err(Refusal::new(429, "too_many_large_requests", message).after(1));
        }
        self.units = wanted;
        shares.insert(self.key.clone(), others + wanted);
        Ok(())
    }

    fn shrink(&mut self, needed: usize) {
        if self.units <= needed {
            return;
        }
        let mut shares = self.of.lock();
        let left = shares.get(&self.key).map_or(0, |taken| taken + needed - self.units);
        self.units = needed;
        match left {
            0 => drop(shares.remove(&self.key)),
            left => drop(shares.insert(self.key.clone(), left)),
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

fn take(together: &Arc<Semaphore>, units: usize) -> Result<OwnedSemaphorePermit, Refusal> {
    // At most MAX_BODY / UNIT.
    let permit = together.clone().try_acquire_many_owned(units as u32);
    permit.map_err(|_| Refusal::overloaded("The relay has too many large requests under way."))
}

fn units(length: usize) -> usize {
    length.div_ceil(UNIT).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_until_there_is_room() {
        let room = Room::default();
        let key = |n: usize| -> Arc<str> { format!("k{n}").into() };
        let mut held: Vec<_> =
            (0..TOGETHER / MAX_BODY).map(|n| room.hold(&key(n), Some(u64::MAX)).unwrap()).collect();
        assert!(held.iter_mut().all(|held| held.grow(MAX_BODY).is_ok()));
        assert_eq!(room.hold(&key(99), Some(1)).err().unwrap().status, 529);
        let small: Vec<_> = held.into_iter().map(|held| held.of(1)).collect();
        assert_eq!(room.together.available_permits(), TOGETHER / UNIT - small.len());
        assert!(room.hold(&key(99), None).is_ok());
    }

    #[test]
    fn a_key_has_a_part_of_it_and_gives_it_back() {
        let (room, key) = (Room::default(), Arc::from("k"));
        let mut held: Vec<_> = (0..9).map(|_| room.hold(&key, None).unwrap()).collect();
        for held in &mut held[..8] {
            held.grow(STEP + 1).unwrap();
            held.grow(MAX_BODY).unwrap();
        }
        let refused = held[8].grow(STEP + 1).unwrap_err();
        assert_eq!((refused.status, refused.retry_after), (429, Some(1)));
        let mut another = room.hold(&Arc::from("another"), None).unwrap();
        assert!(another.grow(MAX_BODY).is_ok());
        let first = held.remove(0).of(2 * STEP);
        assert!(held[7].grow(STEP + 1).is_ok());
        drop((first, held, another));
        assert!(room.shares.lock().is_empty());
        assert_eq!(room.together.available_permits(), TOGETHER / UNIT);
    }
}
