//! `redis_only`: everything in Redis, PostgreSQL is not needed.
//!
//! Guarantee: a write is acknowledged when Redis has it, and is as durable as Redis is configured to be
//! (class `redis`). A reader sees the newest acknowledged write. While Redis is away every call fails; a
//! record that Redis may not hold yet is unavailable, never absent.

use switchyard_sdk::{Key, Page, Result, Store};

pub struct RedisOnly<R> {
    pub redis: R,
}

impl<R: Store> Store for RedisOnly<R> {
    type Record = R::Record;
    type Usage = R::Usage;

    async fn get(&self, key: &Key) -> Result<Option<R::Record>> {
        self.redis.get(key).await
    }

    async fn find(&self, kind: &str, index: &str, value: &str) -> Result<Option<R::Record>> {
        self.redis.find(kind, index, value).await
    }

    async fn scan(&self, kind: &str, cursor: Option<&str>, limit: u32) -> Result<Page<R::Record>> {
        self.redis.scan(kind, cursor, limit).await
    }

    async fn put(&self, record: &R::Record) -> Result<()> {
        self.redis.put(record).await
    }

    async fn add(&self, usage: &R::Usage) -> Result<()> {
        self.redis.add(usage).await
    }
}

switchyard_sdk::strategy!(RedisOnly { redis });

#[cfg(test)]
mod tests {
    use super::*;
    use switchyard_sdk::double::{Memory, record};
    use switchyard_sdk::{Error, run};

    #[test]
    fn a_write_is_read_back_from_redis() {
        let strategy = RedisOnly { redis: Memory::default() };
        let written = record("session", "a", 1);
        run(strategy.put(&written)).unwrap();
        assert_eq!(run(strategy.get(&written.key)), Ok(Some(written)));
    }

    #[test]
    fn nothing_is_acknowledged_while_redis_is_away() {
        let redis = Memory::default();
        redis.fail(Error::Unavailable("gone".into()));
        let strategy = RedisOnly { redis };
        assert!(run(strategy.put(&record("session", "a", 1))).is_err());
        assert!(run(strategy.add(&vec!["e1".into()])).is_err());
        assert!(run(strategy.find("session", "hash", "x")).is_err());
        assert!(run(strategy.scan("session", None, 10)).is_err());
    }
}
