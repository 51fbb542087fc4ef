//! `cache_first`: Redis takes writes and answers reads, PostgreSQL follows.
//!
//! Guarantee: a write is acknowledged when Redis has it together with the mark by which the host carries
//! it over to PostgreSQL (class `redis`); while Redis is away PostgreSQL takes it. A reader sees the newest
//! acknowledged write. Losing Redis loses what its own durability loses and the host had not carried over.

use switchyard_sdk::{Error, Key, Page, Result, Store};

pub struct CacheFirst<R, P> {
    pub redis: R,
    pub postgres: P,
}

impl<R, P> CacheFirst<R, P>
where
    R: Store,
    P: Store<Record = R::Record, Usage = R::Usage>,
{
    /// Copies into Redis what PostgreSQL answered. True if Redis holds something newer.
    async fn fill(&self, record: &R::Record) -> bool {
        matches!(self.redis.put(record).await, Err(Error::Conflict(_)))
    }
}

impl<R, P> Store for CacheFirst<R, P>
where
    R: Store,
    P: Store<Record = R::Record, Usage = R::Usage>,
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
        match self.redis.scan(kind, cursor, limit).await {
            Err(error) if error.is_outage() => self.postgres.scan(kind, cursor, limit).await,
            page => page,
        }
    }

    async fn put(&self, record: &R::Record) -> Result<()> {
        match self.redis.put(record).await {
            Err(error) if error.is_outage() => self.postgres.put(record).await,
            decided => decided,
        }
    }

    async fn add(&self, usage: &R::Usage) -> Result<()> {
        match self.redis.add(usage).await {
            Err(error) if error.is_outage() => self.postgres.add(usage).await,
            decided => decided,
        }
    }
}

switchyard_sdk::strategy!(CacheFirst { redis, postgres });

#[cfg(test)]
mod tests {
    use super::*;
    use switchyard_sdk::double::{Memory, record, tombstone};
    use switchyard_sdk::run;

    fn strategy() -> CacheFirst<Memory, Memory> {
        CacheFirst { redis: Memory::default(), postgres: Memory::default() }
    }

    #[test]
    fn a_write_needs_redis_only() {
        let s = strategy();
        run(s.put(&record("account", "a", 1))).unwrap();
        run(s.add(&vec!["e".into()])).unwrap();
        assert!(s.redis.held("account", "a").is_some());
        assert!(s.postgres.calls().is_empty());
    }

    #[test]
    fn a_hit_does_not_ask_postgres() {
        let s = strategy();
        run(s.redis.put(&record("account", "a", 1))).unwrap();
        run(s.get(&record("account", "a", 1).key)).unwrap();
        assert!(s.postgres.calls().is_empty());
    }

    #[test]
    fn a_miss_is_filled() {
        let s = strategy();
        let held = record("account", "a", 1);
        run(s.postgres.put(&held)).unwrap();
        assert_eq!(run(s.get(&held.key)), Ok(Some(held.clone())));
        assert_eq!(s.redis.held("account", "a"), Some(held));
    }

    #[test]
    fn postgres_serves_while_redis_is_away() {
        let s = strategy();
        s.redis.fail(Error::Timeout);
        let written = record("account", "a", 1).with("hash", "h");
        assert_eq!(run(s.put(&written)), Ok(()));
        assert_eq!(run(s.get(&written.key)), Ok(Some(written.clone())));
        assert_eq!(run(s.find("account", "hash", "h")), Ok(Some(written)));
        assert_eq!(run(s.scan("account", None, 9)).unwrap().records.len(), 1);
        assert_eq!(run(s.add(&vec!["e".into()])), Ok(()));
        assert!(
            !s.redis.calls().iter().skip(1).any(|call| call.starts_with("put")),
            "no fill into a lost store"
        );
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
    }
}
