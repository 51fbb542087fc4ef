//! What an answer may lack that other nodes have acknowledged.

use std::sync::Arc;

use serde_json::json;
use switchyard::store::kind::ACCOUNT;
use switchyard::store::{Backend, Expect, Fields, Key, Record, Write};
use switchyard_tests::host::Answer;

use super::super::Stage;
use super::observed::Said;
use super::{Lost, account, until_nothing_is_owed};

pub(super) const NOTHING: &str = "nothing";
pub(super) const LAST: &str = "last moments";
pub(super) const MARKED: &str = "marked";
pub(super) const UNANSWERED: &str = "-";

pub(super) fn promised(strategy: &str, lost: Lost) -> &'static str {
    match (strategy, lost) {
        (_, Lost::Both) | ("redis_only", Lost::Redis) | ("postgres_only", Lost::Postgres) => UNANSWERED,
        ("database_first", Lost::Postgres) => MARKED,
        ("cache_first", Lost::Redis) => LAST,
        _ => NOTHING,
    }
}

pub(super) fn is_marked(answer: &Answer) -> bool {
    answer.header("x-switchyard-stale") == Some("true")
}

/// Which stores have taken a write when the strategy acknowledges it, before the outage.
pub(super) async fn acknowledging(stage: &Stage, strategy: &str) -> String {
    // Under a strategy of one store nothing is read from the other, and what it would owe might never be carried over.
    if strategy.ends_with("_only") {
        return String::new();
    }
    let written = stage.client.put(&account("other"), json!({ "fields": { "n": "1" } })).await.expect(200);
    until_nothing_is_owed(stage).await;
    written["durability"].as_str().expect("what it is worth").to_owned()
}

/// With the breaker open: what reads say of themselves, and whether a write of another node into the store that is
/// left is seen at once.
pub(super) async fn observe(stage: &Stage, lost: Lost, said: &[Said; 5], alone: &str) -> &'static str {
    let [get, find, writes @ ..] = said;
    assert!(writes.iter().all(|write| !write.marked_stale), "an acknowledgement is never stale");
    assert_eq!((&get.status, get.marked_stale), (&find.status, find.marked_stale), "both ways of reading");
    if get.status != "200" {
        return UNANSWERED;
    }
    let (left, name) = match lost {
        Lost::Redis => (stage.postgres_side(), "redis"),
        _ => (stage.redis_side(), "postgres"),
    };
    write_elsewhere(&*left.backend).await;
    let read = stage.client.get(&account("other")).await;
    let marked = is_marked(&read);
    assert_eq!(read.expect(200)["fields"]["n"], "2", "what another node has written meanwhile");
    assert_eq!(marked, get.marked_stale);
    match marked {
        true => MARKED,
        // Such as `redis-2s`.
        false if alone.starts_with(name) => LAST,
        false => NOTHING,
    }
}

/// As another node does that has lost the other store, too.
async fn write_elsewhere(left: &dyn Backend) {
    let key = Key::new(&ACCOUNT, "other").expect("a key");
    let held = left.get(&key).await.expect("an answer").expect("it was written before");
    let fields = Fields::from([("n".to_owned(), "2".to_owned())]);
    let version = held.version + 1;
    let record = Record { key, version, deleted: false, fields, expires_at: None, cached_at: None };
    left.put(&Write::new(Arc::new(record), Expect::Anything)).await.expect("a write");
}
