//! How many bytes of bodies may be under way.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::refusal::Refusal;

/// The largest body, in bytes.
pub const MAX_BODY: usize = 32 << 20;
/// All bodies together, in bytes.
const TOGETHER: usize = 512 << 20;
/// What is counted with, in bytes.
const UNIT: usize = 4 << 10;

pub(super) struct Room(Arc<Semaphore>);

/// Room that is taken as long as this lives.
pub struct Held(OwnedSemaphorePermit);

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(TOGETHER / UNIT)))
    }
}

impl Room {
    /// For a body of this length; for any body when the length is not announced.
    pub(super) fn hold(&self, announced: Option<u64>) -> Result<Held, Refusal> {
        let length = announced.map_or(MAX_BODY, |length| length.min(MAX_BODY as u64) as usize);
        let permit = self.0.clone().try_acquire_many_owned(units(length));
        let full = |_| Refusal::overloaded("The relay has too many large requests under way.");
        permit.map(Held).map_err(full)
    }
}

impl Held {
    /// Gives back what a body of this length does not need.
    pub(super) fn of(mut self, length: usize) -> Self {
        let needed = self.0.split(units(length) as usize);
        match needed {
            Some(needed) => Self(needed),
            None => self,
        }
    }
}

fn units(length: usize) -> u32 {
    // At most MAX_BODY / UNIT.
    length.div_ceil(UNIT).max(1) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_until_there_is_room() {
        let room = Room::default();
        let held: Vec<_> = (0..TOGETHER / MAX_BODY).map(|_| room.hold(None).unwrap()).collect();
        assert_eq!(room.hold(Some(1)).err().unwrap().status, 529);
        let small: Vec<_> = held.into_iter().map(|held| held.of(1)).collect();
        assert_eq!(room.0.available_permits(), TOGETHER / UNIT - small.len());
        assert!(room.hold(None).is_ok());
    }
}
