//! The backend against a real server, started by each test.

mod addresses;
mod advances;
mod allowance;
mod beside;
mod faults;
mod near;
mod records;
mod reference;
mod server;
mod together;
mod usage;

use std::sync::Arc;
use std::time::Duration;

use super::{Redis, RedisSettings};
use crate::store::{Expect, Fields, Key, Kind, Mark, Record, Version, Write};
use server::Server;

/// How long anything that happens in the background may take.
const EVENTUALLY: Duration = Duration::from_secs(20);

/// Settings with a deadline that a busy machine keeps.
fn settings(server: &Server) -> RedisSettings {
    RedisSettings { deadline: Duration::from_secs(5), ..RedisSettings::new(server.url()) }
}

async fn connect(server: &Server) -> Redis {
    Redis::connect(settings(server)).await.unwrap()
}

fn key(kind: &'static Kind, id: &str) -> Key {
    Key::new(kind, id).unwrap()
}

fn record(key: &Key, version: Version, fields: &[(&str, &str)]) -> Record {
    let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let (key, fields) = (key.clone(), fields.collect::<Fields>());
    Record { key, version, deleted: false, fields, expires_at: None, cached_at: None }
}

fn tombstone(key: &Key, version: Version) -> Record {
    Record { deleted: true, ..record(key, version, &[]) }
}

fn dirty(record: Record) -> Write {
    Write::new(Arc::new(record), Expect::Anything)
}

fn clean(record: Record) -> Write {
    Write::copy(Arc::new(record))
}

fn expecting(record: Record, expect: Expect) -> Write {
    Write { mark: Mark::Clean, ..Write::new(Arc::new(record), expect) }
}

/// Asks again until the answer is there; fails when it does not come.
async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(EVENTUALLY, asking).await.unwrap_or_else(|_| panic!("never happened: {what}"))
}
