//! What only a real server can show. The contract itself is tested by the suite of all backends.

mod faults;
mod records;
mod usage;

use std::sync::Arc;
use std::time::Duration;

use super::{Postgres, PostgresSettings};
use crate::store::{Expect, Fields, Key, Mark, Record, Version, Write, kind};

/// Time enough for anything on a busy machine: a test that runs into it has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A store with so much patience that only a test of deadlines sees one.
fn store(url: &str) -> Postgres {
    let deadline = Duration::from_secs(30);
    Postgres::connect(PostgresSettings { deadline, ..PostgresSettings::new(url) }).unwrap()
}

fn key(id: &str) -> Key {
    Key::new(&kind::API_KEY, id).unwrap()
}

fn record(id: &str, version: Version, fields: &[(&str, &str)]) -> Arc<Record> {
    let fields: Fields = fields.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    Arc::new(Record { key: key(id), version, deleted: false, fields, expires_at: None, cached_at: None })
}

fn tombstone(id: &str, version: Version) -> Arc<Record> {
    Arc::new(Record { deleted: true, ..(*record(id, version, &[])).clone() })
}

fn write(record: Arc<Record>, mark: Mark) -> Write {
    Write { mark, ..Write::new(record, Expect::Anything) }
}

/// Calls until the answer is the one wanted.
async fn until<T, F: Future<Output = T>>(call: impl Fn() -> F, wanted: impl Fn(&T) -> bool) -> T {
    let asking = async {
        loop {
            let answer = call().await;
            if wanted(&answer) {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.expect("the wanted answer")
}
