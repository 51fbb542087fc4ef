//! `database_first`: PostgreSQL decides, Redis is kept warm.
//!
//! Guarantee: a write is acknowledged when PostgreSQL has committed it (class `postgres`, or `both` when
//! Redis was refreshed in the same call). A reader sees the newest acknowledged write; while PostgreSQL is
//! away reads are answered from Redis and may be old, and writes are refused. Losing Redis loses nothing.

use switchyard_sdk::{Key, Page, Result, Store};

pub struct DatabaseFirst<R, P> {
    pub redis: R,
    pub postgres: P,
}

impl<R, P> Store for DatabaseFirst<R, P>
where
    R: Store,
    P: Store<Record = R::Record, Usage = R::Usage>,
{
    type Record = R::Record;
    type Usage = R::Usage;

    async fn get(&self, key: &Key) -> Result<Option<R::Record>> {
        match self.postgres.get(key).await {
            Err(error) if error.is_outage() => self.redis.get(key).await,
            answer => answer,
        }
    }

    async fn find(&self, kind: &str, index: &str, value: &str) -> Result<Option<R::Record>> {
        match self.postgres.find(kind, index, value).await {
            Err(error) if error.is_outage() => self.redis.find(kind, index, value).await,
            answer => answer,
        }
    }

    async fn scan(&self, kind: &str, cursor: Option<&str>, limit: u32) -> Result<Page<R::Record>> {
        match self.postgres.scan(kind, cursor, limit).await {
            Err(error) if error.is_outage() => self.redis.scan(kind, cursor, limit).await,
            answer => answer,
        }
    }

    async fn put(&self, record: &R::Record) -> Result<()> {
        self.postgres.put(record).await?;
        // PostgreSQL has it. What Redis misses now, the host carries over.
        let _ = self.redis.put(record).await;
        Ok(())
    }

    async fn add(&self, usage: &R::Usage) -> Result<()> {
        self.postgres.add(usage).await?;
        let _ = self.redis.add(usage).await;
        Ok(())
    }
}

switchyard_sdk::strategy!(DatabaseFirst { redis, postgres });

#[cfg(test)]
mod tests {
    use super::*;
    use switchyard_sdk::double::{Memory, record};
    use switchyard_sdk::{Error, run};

    fn strategy() -> DatabaseFirst<Memory, Memory> {
        DatabaseFirst { redis: Memory::default(), postgres: Memory::default() }
    }

    #[test]
    fn a_write_is_committed_before_redis_hears_of_it() {
        let s = strategy();
        s.postgres.fail(Error::Timeout);
        assert_eq!(run(s.put(&record("account", "a", 1))), Err(Error::Timeout));
        assert_eq!(run(s.add(&vec!["e".into()])), Err(Error::Timeout));
        assert!(s.redis.calls().is_empty());
    }

    #[test]
    fn a_write_does_not_need_redis() {
        let s = strategy();
        s.redis.fail(Error::Timeout);
        assert_eq!(run(s.put(&record("account", "a", 1))), Ok(()));
        assert_eq!(run(s.add(&vec!["e".into()])), Ok(()));
    }

    #[test]
    fn postgres_is_asked_even_if_redis_has_a_copy() {
        let s = strategy();
        run(s.redis.put(&record("account", "a", 1))).unwrap();
        run(s.postgres.put(&record("account", "a", 2))).unwrap();
        assert_eq!(run(s.get(&record("account", "a", 1).key)).unwrap().map(|r| r.version), Some(2));
    }

    #[test]
    fn reads_go_on_from_redis_while_postgres_is_away() {
        let s = strategy();
        let written = record("account", "a", 1).with("hash", "h");
        run(s.put(&written)).unwrap();
        s.postgres.fail(Error::Unavailable("gone".into()));
        assert_eq!(run(s.get(&written.key)), Ok(Some(written.clone())));
        assert_eq!(run(s.find("account", "hash", "h")), Ok(Some(written)));
        assert_eq!(run(s.scan("account", None, 9)).unwrap().records.len(), 1);
    }
}
