//! `dual_write`, the default: write both stores at once, read Redis first.
//!
//! Guarantee: a write is acknowledged when PostgreSQL has it, or, while PostgreSQL is away, when Redis has
//! it together with the mark by which the host carries it over (class `both`, else that of the store that
//! took it). A reader sees the newest write that Redis was offered; after a loss of Redis, what PostgreSQL
//! has. Either store may be lost without losing an acknowledged write of class `both`.

use switchyard_sdk::{Both, Error, Key, Page, Result, Store};

pub struct DualWrite<R, P, B> {
    pub redis: R,
    pub postgres: P,
    pub both: B,
}

impl<R, P, B> DualWrite<R, P, B>
where
    R: Store,
    P: Store<Record = R::Record, Usage = R::Usage>,
{
    /// Copies into Redis what PostgreSQL answered. True if Redis holds something newer.
    async fn fill(&self, record: &R::Record) -> bool {
        matches!(self.redis.put(record).await, Err(Error::Conflict(_)))
    }
}

/// The write counts if PostgreSQL has it, or if only an outage kept PostgreSQL from it.
fn acknowledged((redis, postgres): (Result<()>, Result<()>)) -> Result<()> {
    match postgres {
        Err(error) if error.is_outage() => redis,
        decided => decided,
    }
}

impl<R, P, B> Store for DualWrite<R, P, B>
where
    R: Store,
    P: Store<Record = R::Record, Usage = R::Usage>,
    B: Both<Record = R::Record, Usage = R::Usage>,
{
    type Record = R::Record;
    type Usage = R::Usage;

    async fn get(&self, key: &Key) -> Result<Option<R::Record>> {
        let missed = match self.redis.get(key).await {
            Ok(Some(hit)) => return Ok(Some(hit)),
            missed => missed,
        };
        let found = match self.postgres.get(key).await {
            // Redis has said that there is none, and holds every record: PostgreSQL need not agree.
            Err(error) if error.is_outage() && missed.is_ok() => return Ok(None),
            answer => answer?,
        };
        match &found {
            Some(record) if missed.is_ok() && self.fill(record).await => self.redis.get(key).await,
            _ => Ok(found),
        }
    }

    async fn find(&self, kind: &str, index: &str, value: &str) -> Result<Option<R::Record>> {
        let missed = match self.redis.find(kind, index, value).await {
            Ok(Some(hit)) => return Ok(Some(hit)),
            missed => missed,
        };
        let found = match self.postgres.find(kind, index, value).await {
            Err(error) if error.is_outage() && missed.is_ok() => return Ok(None),
            answer => answer?,
        };
        match &found {
            Some(record) if missed.is_ok() && self.fill(record).await => {
                self.redis.find(kind, index, value).await
            }
            _ => Ok(found),
        }
    }

    async fn scan(&self, kind: &str, cursor: Option<&str>, limit: u32) -> Result<Page<R::Record>> {
        match self.postgres.scan(kind, cursor, limit).await {
            Err(error) if error.is_outage() => self.redis.scan(kind, cursor, limit).await,
            page => page,
        }
    }

    async fn put(&self, record: &R::Record) -> Result<()> {
        acknowledged(self.both.put(record).await)
    }

    async fn add(&self, usage: &R::Usage) -> Result<()> {
        acknowledged(self.both.add(usage).await)
    }
}

switchyard_sdk::strategy!(DualWrite { redis, postgres, both });

#[cfg(test)]
mod tests {
    use super::*;
    use switchyard_sdk::double::{Memory, Pair, record, tombstone};
    use switchyard_sdk::run;

    fn strategy() -> DualWrite<Memory, Memory, Pair> {
        let both = Pair::default();
        DualWrite { redis: both.redis.clone(), postgres: both.postgres.clone(), both }
    }

    fn gone() -> Error {
        Error::Unavailable("gone".into())
    }

    #[test]
    fn a_write_is_in_both_stores() {
        let s = strategy();
        run(s.put(&record("account", "a", 1))).unwrap();
        run(s.add(&vec!["e1".into()])).unwrap();
        assert!(s.redis.held("account", "a").is_some() && s.postgres.held("account", "a").is_some());
        assert_eq!((s.redis.events(), s.postgres.events()), (vec!["e1".into()], vec!["e1".into()]));
    }

    #[test]
    fn a_miss_is_answered_by_postgres_and_filled() {
        let s = strategy();
        let held = record("account", "a", 1).with("hash", "h");
        run(s.postgres.put(&held)).unwrap();
        assert_eq!(run(s.get(&held.key)), Ok(Some(held.clone())));
        assert_eq!(s.redis.held("account", "a"), Some(held));
    }

    #[test]
    fn either_store_may_be_away() {
        for lost in ["redis", "postgres"] {
            let s = strategy();
            if lost == "redis" {
                s.redis.fail(gone())
            } else {
                s.postgres.fail(gone())
            }
            let written = record("account", "a", 1).with("hash", "h");
            assert_eq!(run(s.put(&written)), Ok(()), "put without {lost}");
            assert_eq!(run(s.get(&written.key)), Ok(Some(written.clone())), "get without {lost}");
            assert_eq!(run(s.find("account", "hash", "h")), Ok(Some(written)), "find without {lost}");
            assert_eq!(run(s.scan("account", None, 9)).unwrap().records.len(), 1, "scan without {lost}");
            assert_eq!(run(s.add(&vec!["e".into()])), Ok(()), "add without {lost}");
        }
    }

    #[test]
    fn both_away_is_an_error() {
        let s = strategy();
        s.redis.fail(gone());
        s.postgres.fail(gone());
        assert!(run(s.put(&record("account", "a", 1))).is_err());
        assert!(run(s.get(&record("account", "a", 1).key)).is_err());
    }

    #[test]
    fn a_refusal_by_postgres_is_not_hidden_by_redis() {
        let s = strategy();
        run(s.postgres.put(&record("account", "a", 9))).unwrap();
        assert_eq!(run(s.put(&record("account", "a", 5))), Err(Error::Conflict(9)));
    }

    #[test]
    fn an_absence_is_known_while_postgres_is_away_and_unknown_without_redis() {
        let s = strategy();
        s.postgres.fail(Error::Timeout);
        assert_eq!(run(s.get(&record("account", "a", 1).key)), Ok(None));
        assert_eq!(run(s.find("account", "hash", "h")), Ok(None));
        s.redis.fail(Error::Unavailable("not complete".into()));
        assert!(run(s.get(&record("account", "a", 1).key)).is_err());
        assert!(run(s.find("account", "hash", "h")).is_err());
    }

    #[test]
    fn a_deleted_record_is_not_found_through_a_store_that_lags() {
        let s = strategy();
        run(s.postgres.put(&record("account", "a", 1).with("hash", "h"))).unwrap();
        run(s.redis.put(&tombstone("account", "a", 2))).unwrap();
        assert_eq!(run(s.find("account", "hash", "h")), Ok(None));
        let got = run(s.get(&record("account", "a", 1).key)).unwrap();
        assert!(got.is_some_and(|record| record.deleted));
    }
}
