//! Who a store is, so that one that lost its data is known at the first contact.
//!
//! What was last seen of each store is kept in the other one. A store whose data is not what the other remembers has
//! lost something, and is not read until the two have been compared.

use async_trait::async_trait;

use super::{Result, StoreError, UsageEvent};

/// A store's data, as it describes itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Another one whenever the server starts, or another server takes its place.
    pub run: String,
    /// Given once to the data and kept with it; none in an empty store.
    pub incarnation: Option<String>,
    /// Whether the data is known to have survived the start of this run.
    pub verified: bool,
    /// Whether every write before the start of this run was on the disk before it was acknowledged.
    pub synced: bool,
    /// A number that never falls as long as no data is lost: what the other store remembers is not greater.
    pub mark: u64,
    /// The same number for a node that has watched all the time.
    pub beat: u64,
    /// What this store remembers of the other.
    pub counterpart: Option<Seen>,
}

/// What was last seen of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub incarnation: String,
    pub mark: u64,
}

/// What became of a store's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    Emptied,
    Replaced,
    Older,
    Restarted,
}

impl Loss {
    /// In words that continue "it".
    pub fn reason(self) -> &'static str {
        match self {
            Self::Emptied => "it is empty",
            Self::Replaced => "it holds another data set than before",
            Self::Older => "it holds older data than before",
            Self::Restarted => "it restarted, and may have lost its last writes",
        }
    }
}

/// How a store stands to what was there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing is lost.
    Same,
    /// Nobody has ever seen it.
    Fresh,
    Lost(Loss),
}

impl Identity {
    /// Compares this with what the other store remembers, or else with what this node does.
    pub fn standing(&self, other: Option<&Seen>, node: Option<&Seen>) -> Standing {
        let mark = if other.is_some() { self.mark } else { self.beat };
        match (&self.incarnation, other.or(node)) {
            (None, None) => Standing::Fresh,
            (None, Some(_)) => Standing::Lost(Loss::Emptied),
            (Some(own), Some(seen)) if *own != seen.incarnation => Standing::Lost(Loss::Replaced),
            (_, Some(seen)) if mark < seen.mark => Standing::Lost(Loss::Older),
            _ if !self.verified => Standing::Lost(Loss::Restarted),
            _ => Standing::Same,
        }
    }
}

/// What the host needs of a backend that may come back with other data than it had. The defaults are those of a store
/// that lives and ends with this process.
#[async_trait]
pub trait Lineage: Send + Sync {
    /// Rises, before any call is served, with each connection to a server that may hold other data than the one
    /// before.
    fn contact(&self) -> u64 {
        0
    }

    /// Who it is; none if it lives and ends with this process.
    async fn identity(&self) -> Result<Option<Identity>> {
        Ok(None)
    }

    /// Notes, durably, that this node sees the store now, and what it sees of the other. That only raises the mark
    /// of an incarnation that is already known. Answers this store's own mark.
    async fn beat(&self, _other: Option<&Seen>) -> Result<u64> {
        Ok(0)
    }

    /// Remembers the other store as it is now, whatever was remembered before.
    async fn remember(&self, _other: &Seen) -> Result<()> {
        Ok(())
    }

    /// Takes the right to repair, for ten seconds, or with `renew` keeps it for another ten. False when another holds
    /// it or, renewing, when it was lost.
    async fn claim(&self, _holder: &str, _renew: bool) -> Result<bool> {
        Ok(true)
    }

    /// The store may lack anything from now on: no kind is complete any more. Gives the data this name if it has none.
    async fn doubt(&self, _incarnation: &str) -> Result<()> {
        Ok(())
    }

    /// The data has been compared in this run and is as whole as it can be: raises the mark above this one, and
    /// gives up the holder's right to repair. False if the run has ended or the right was lost.
    async fn vouch(&self, _holder: Option<&str>, _run: &str, _above: u64) -> Result<bool> {
        Ok(true)
    }

    /// Notes whether from now on every write is on the disk before it is acknowledged. To be set after that has
    /// become so, and unset before it ends.
    async fn note_synced(&self, _synced: bool) -> Result<()> {
        Ok(())
    }

    /// At most `limit` of all usage events with ids after this one, in byte order of id.
    async fn usage_events(&self, _after: Option<&str>, _limit: u32) -> Result<Vec<UsageEvent>> {
        Err(StoreError::Unsupported("this store keeps no usage events".into()))
    }

    /// Takes the store through counting anew, one bounded step at a time. Nothing else counts here until it is open
    /// again, or for ten seconds after the last step.
    ///
    /// # Errors
    /// `Unavailable` when the right to repair, or to count anew, was lost.
    async fn recount(&self, _holder: &str, _step: Recount) -> Result<Recounted> {
        Err(StoreError::Unsupported("this store cannot count anew".into()))
    }
}

/// A step of counting usage anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recount {
    /// Adds to windows what they begin with: balances taken over from another program.
    Add(Vec<super::maintenance::Counted>),
    /// Refuses further events.
    Close,
    /// Forgets some counters, and the ids of some counted events. Begins at "0".
    Forget(String),
    /// Takes events again.
    Open,
    /// Every event has been counted.
    Finish,
}

/// What a step has left to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recounted {
    Done,
    /// To be forgotten from here on.
    More(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(incarnation: Option<&str>, mark: u64, verified: bool) -> Identity {
        let (run, incarnation) = ("run".into(), incarnation.map(str::to_owned));
        Identity { run, incarnation, verified, synced: false, mark, beat: mark, counterpart: None }
    }

    fn seen(incarnation: &str, mark: u64) -> Option<Seen> {
        Some(Seen { incarnation: incarnation.into(), mark })
    }

    #[test]
    fn data_is_the_same_only_if_nothing_that_was_seen_is_missing() {
        let judge = |own: Identity, other: Option<Seen>| own.standing(other.as_ref(), None);
        assert_eq!(judge(identity(Some("a"), 5, true), seen("a", 5)), Standing::Same);
        assert_eq!(judge(identity(Some("a"), 5, true), None), Standing::Same);
        assert_eq!(judge(identity(None, 0, false), None), Standing::Fresh);
        for (own, lost) in [
            (identity(None, 0, false), Loss::Emptied),
            (identity(Some("b"), 5, true), Loss::Replaced),
            (identity(Some("a"), 4, true), Loss::Older),
            (identity(Some("a"), 5, false), Loss::Restarted),
        ] {
            assert_eq!(judge(own, seen("a", 5)), Standing::Lost(lost));
        }
    }

    #[test]
    fn the_other_store_knows_better_than_this_node() {
        let own = identity(Some("b"), 5, true);
        assert_eq!(own.standing(seen("b", 5).as_ref(), seen("a", 9).as_ref()), Standing::Same);
        assert_eq!(own.standing(None, seen("b", 6).as_ref()), Standing::Lost(Loss::Older));
    }
}
