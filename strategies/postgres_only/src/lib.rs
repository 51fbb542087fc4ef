//! `postgres_only`: everything in PostgreSQL, Redis is not needed.
//!
//! Guarantee: a write is acknowledged when PostgreSQL has committed it
//! (class `postgres`): it survives the loss of Redis and a crash of everything. A reader sees the newest
//! acknowledged write. While PostgreSQL is away every call fails; a
//! record that PostgreSQL may not hold yet is unavailable, never absent.

use switchyard_sdk::{Key, Page, Result, Store};

pub struct PostgresOnly<P> {
    pub postgres: P,
}

impl<P: Store> Store for PostgresOnly<P> {
    type Record = P::Record;
    type Usage = P::Usage;

    async fn get(&self, key: &Key) -> Result<Option<P::Record>> {
        self.postgres.get(key).await
    }

    async fn find(&self, kind: &str, index: &str, value: &str) -> Result<Option<P::Record>> {
        self.postgres.find(kind, index, value).await
    }

    async fn scan(&self, kind: &str, cursor: Option<&str>, limit: u32) -> Result<Page<P::Record>> {
        self.postgres.scan(kind, cursor, limit).await
    }

    async fn put(&self, record: &P::Record) -> Result<()> {
        self.postgres.put(record).await
    }

    async fn add(&self, usage: &P::Usage) -> Result<()> {
        self.postgres.add(usage).await
    }
}

switchyard_sdk::strategy!(PostgresOnly { postgres });

#[cfg(test)]
mod tests {
    use super::*;
    use switchyard_sdk::double::{Memory, record};
    use switchyard_sdk::{Error, run};

    #[test]
    fn a_write_is_read_back_from_postgres() {
        let strategy = PostgresOnly { postgres: Memory::default() };
        let written = record("session", "a", 1);
        run(strategy.put(&written)).unwrap();
        assert_eq!(run(strategy.get(&written.key)), Ok(Some(written)));
    }

    #[test]
    fn nothing_is_acknowledged_while_postgres_is_away() {
        let postgres = Memory::default();
        postgres.fail(Error::Unavailable("gone".into()));
        let strategy = PostgresOnly { postgres };
        assert!(run(strategy.put(&record("session", "a", 1))).is_err());
        assert!(run(strategy.add(&vec!["e1".into()])).is_err());
        assert!(run(strategy.find("session", "hash", "x")).is_err());
        assert!(run(strategy.scan("session", None, 10)).is_err());
    }
}
