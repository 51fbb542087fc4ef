//! What only this backend promises; the contract it shares with the others is tested in `tests/`.

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use super::super::{Expect, Fields, Key, Kind, Mark, Receipts, Record, Version, Write, kind};
use super::*;

mod counting;
mod crash;
mod opening;
mod records;

const DEADLINE: Duration = Duration::from_secs(20);

/// An empty folder and the store in it.
async fn fresh() -> (TempDir, Sqlite) {
    let folder = tempfile::tempdir().unwrap();
    let store = Sqlite::open(folder.path(), DEADLINE).await.unwrap();
    (folder, store)
}

async fn reopen(store: Sqlite, folder: &TempDir) -> Sqlite {
    drop(store);
    Sqlite::open(folder.path(), DEADLINE).await.unwrap()
}

fn key(kind: &'static Kind, id: &str) -> Key {
    Key::new(kind, id).unwrap()
}

fn record(kind: &'static Kind, id: &str, version: Version, fields: &[(&str, &str)]) -> Record {
    let fields: Fields = fields.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    Record { key: key(kind, id), version, deleted: false, fields, expires_at: None, cached_at: None }
}

fn write(record: Record, mark: Mark, expect: Expect) -> Write {
    Write { record: Arc::new(record), mark, expect, receipts: Receipts::default() }
}

fn dirty(record: Record) -> Write {
    write(record, Mark::Dirty, Expect::Anything)
}

fn clean(record: Record) -> Write {
    write(record, Mark::Clean, Expect::Anything)
}
