//! Why two states of a record differ.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::store::record::UNVERSIONED;
use crate::store::{Key, Record, Version};

/// Why a key is among the differences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Reason {
    /// A store that is said to be complete does not have it.
    Missing,
    /// Both have it, in different versions.
    Older,
    /// The same version with different contents.
    Different,
    /// One store has deleted it, the other has it.
    Deleted,
    /// Redis has it, and PostgreSQL was never said to.
    OnlyInRedis,
    /// PostgreSQL has it, and Redis was never said to.
    OnlyInPostgres,
    /// A store holds something there that is no record.
    Unreadable,
    /// Not found by its index.
    Index,
}

/// What the two stores hold of one key.
#[derive(Debug, Clone, Default)]
pub(super) struct Pair {
    pub(super) redis: Option<Arc<Record>>,
    pub(super) postgres: Option<Arc<Record>>,
    pub(super) unreadable: bool,
}

impl Pair {
    pub(super) fn key(&self) -> Option<&Key> {
        self.postgres.as_ref().or(self.redis.as_ref()).map(|record| &record.key)
    }

    pub(super) fn versions(&self) -> (Option<Version>, Option<Version>) {
        let version = |record: &Option<Arc<Record>>| record.as_ref().map(|record| record.version);
        (version(&self.redis), version(&self.postgres))
    }

    /// The version of the store that is behind; the same while nothing reaches that store.
    pub(super) fn behind(&self) -> Version {
        let (redis, postgres) = self.versions();
        redis.unwrap_or(0).min(postgres.unwrap_or(0))
    }

    /// Why they differ, if they do. `complete` says for Redis and PostgreSQL whether a missing record is absent.
    pub(super) fn differ(&self, complete: (bool, bool)) -> Option<Reason> {
        if self.unreadable {
            return Some(Reason::Unreadable);
        }
        match (&self.redis, &self.postgres) {
            (None, None) => None,
            (Some(redis), Some(postgres)) => differ(redis, postgres),
            (Some(redis), None) if complete.1 && redis.version != UNVERSIONED => Some(Reason::Missing),
            (Some(_), None) => Some(Reason::OnlyInRedis),
            // Redis forgets a tombstone that both stores had, and may be a mere cache of a kind.
            (None, Some(postgres)) if postgres.deleted => None,
            (None, Some(_)) if complete.0 => Some(Reason::Missing),
            (None, Some(postgres)) => postgres.key.kind.whole.then_some(Reason::OnlyInPostgres),
        }
    }
}

fn differ(redis: &Record, postgres: &Record) -> Option<Reason> {
    if redis == postgres {
        return None;
    }
    Some(match (redis.version == postgres.version, redis.deleted == postgres.deleted) {
        (_, false) => Reason::Deleted,
        (false, true) => Reason::Older,
        (true, true) => Reason::Different,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Fields;
    use crate::store::kind::{API_KEY, SESSION};

    fn record(kind: &'static crate::store::Kind, version: Version, deleted: bool) -> Option<Arc<Record>> {
        let key = Key::new(kind, "a").unwrap();
        let (fields, expires_at, cached_at) = (Fields::new(), None, None);
        Some(Arc::new(Record { key, version, deleted, fields, expires_at, cached_at }))
    }

    fn why(redis: Option<Arc<Record>>, postgres: Option<Arc<Record>>, complete: bool) -> Option<Reason> {
        Pair { redis, postgres, unreadable: false }.differ((complete, complete))
    }

    #[test]
    fn each_difference_has_its_reason() {
        let live = |version| record(&API_KEY, version, false);
        let deleted = |version| record(&API_KEY, version, true);
        assert_eq!(why(live(5), live(5), true), None);
        assert_eq!(why(live(5), live(6), true), Some(Reason::Older));
        assert_eq!(why(deleted(5), live(6), true), Some(Reason::Deleted));
        assert_eq!(why(live(5), deleted(6), true), Some(Reason::Deleted));
        assert_eq!(why(deleted(5), deleted(6), true), Some(Reason::Older));
        assert_eq!(why(live(5), None, true), Some(Reason::Missing));
        assert_eq!(why(live(5), None, false), Some(Reason::OnlyInRedis));
        assert_eq!(why(live(UNVERSIONED), None, true), Some(Reason::OnlyInRedis));
        assert_eq!(why(None, live(5), true), Some(Reason::Missing));
        assert_eq!(why(None, live(5), false), Some(Reason::OnlyInPostgres));
        assert_eq!(why(None, deleted(5), true), None);
    }

    #[test]
    fn a_session_that_redis_has_not_cached_is_no_difference() {
        assert_eq!(why(None, record(&SESSION, 5, false), false), None);
        assert_eq!(why(None, record(&SESSION, 5, false), true), Some(Reason::Missing));
    }
}
