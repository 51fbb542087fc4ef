//! A write of an epoch that has passed is refused by each store, in the step that would write.

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::Offset;
use switchyard::store::epoch::{Authority, Ballot, Epoch, Proposal};
use switchyard::store::identity::Recount;
use switchyard::store::postgres::{Postgres, PostgresSettings};
use switchyard::store::redis::{Redis, RedisSettings};
use switchyard::store::{
    Backend, Expect, Fields, Key, Mark, Record, StoreError, Usage, UsageEvent, Version, Write, kind,
};
use switchyard_tests::servers;

const DEADLINE: Duration = Duration::from_secs(10);

fn write(version: Version) -> Write {
    let key = Key::new(&kind::ACCOUNT, "a").unwrap();
    let (fields, expires_at, cached_at) = (Fields::new(), None, None);
    Write::new(
        Arc::new(Record { key, version, deleted: false, fields, expires_at, cached_at }),
        Expect::Anything,
    )
}

fn usage() -> Usage {
    let event = serde_json::json!({
        "id": "e", "key_id": "k", "model": "m", "at": "2026-01-02T03:04:05Z", "input_tokens": 1
    });
    let event: UsageEvent = serde_json::from_value(event).unwrap();
    Usage::new(vec![event], Offset::UTC, Mark::Dirty)
}

/// The same store twice: through a node whose epoch has passed, and through one that moves on.
async fn refuses_what_has_passed(old: (&dyn Backend, &Epoch), new: (&dyn Backend, &Epoch)) {
    let ((old, old_epoch), (new, new_epoch)) = (old, new);
    old.put(&write(1)).await.unwrap();
    let (cause, authority) = ("test".to_owned(), Authority::Redis);
    let proposal = Proposal { under: 0, epoch: 7, authority, cause };
    let moved = new.control("new", Ballot::None, Some(&proposal)).await.unwrap().unwrap();
    assert_eq!(moved.epoch, 7);
    // Proposed again, nothing changes.
    let again = new.control("new", Ballot::None, Some(&proposal)).await.unwrap().unwrap();
    assert_eq!((again.epoch, again.authority), (moved.epoch, moved.authority));

    let key = write(2).record.key.clone();
    assert_eq!(old.put(&write(2)).await, Err(StoreError::Fenced(7)));
    assert_eq!(old.add(&usage()).await, Err(StoreError::Fenced(7)));
    assert_eq!(old.settle(&[(key.clone(), 1)]).await, Err(StoreError::Fenced(7)));
    if new.durability().starts_with("redis") {
        assert_eq!(old.settle_usage(&["e".into()]).await, Err(StoreError::Fenced(7)));
        assert_eq!(old.set_complete(&kind::ACCOUNT).await, Err(StoreError::Fenced(7)));
        assert_eq!(old.complete_since(&kind::ACCOUNT, 0).await, Err(StoreError::Fenced(7)));
        assert_eq!(old.drop_copies(&kind::ACCOUNT, &[(key.clone(), 1)]).await, Err(StoreError::Fenced(7)));
        assert_eq!(old.recount("any", Recount::Close).await, Err(StoreError::Fenced(7)));
    }
    assert_eq!((old_epoch.get(), old_epoch.refused()), (0, 7));
    assert_eq!(old.get(&key).await.unwrap().unwrap().version, 1);
    let backlog = old.backlog().await.unwrap();
    assert_eq!((backlog.records, backlog.usage), (1, 0), "the mark is there, the event is not");

    new_epoch.raise(7);
    new.put(&write(3)).await.unwrap();
    old_epoch.raise(7);
    old.put(&write(4)).await.unwrap();
    assert_eq!(old.add(&usage()).await, Ok(1));
    old.settle(&[(key, 4)]).await.unwrap();
    old.settle_usage(&["e".into()]).await.unwrap();
    assert!(old.backlog().await.unwrap().is_empty());
}

#[tokio::test]
async fn redis_refuses_writes_of_an_epoch_that_has_passed() {
    let server = servers::Redis::start();
    let node = async || {
        let epoch = Arc::<Epoch>::default();
        let settings =
            RedisSettings { deadline: DEADLINE, epoch: epoch.clone(), ..RedisSettings::new(server.url()) };
        (Redis::connect(settings).await.unwrap(), epoch)
    };
    let (old, new) = (node().await, node().await);
    refuses_what_has_passed((&old.0, &old.1), (&new.0, &new.1)).await;
}

#[tokio::test]
async fn postgres_refuses_writes_of_an_epoch_that_has_passed() {
    let url = servers::Postgres::shared().database().await;
    let node = || {
        let epoch = Arc::<Epoch>::default();
        let settings = PostgresSettings {
            deadline: DEADLINE,
            epoch: epoch.clone(),
            ..PostgresSettings::new(url.clone())
        };
        (Postgres::connect(settings).unwrap(), epoch)
    };
    let (old, new) = (node(), node());
    refuses_what_has_passed((&old.0, &old.1), (&new.0, &new.1)).await;
}

#[tokio::test]
async fn the_authority_stays_with_redis_while_a_node_needs_it_there() {
    let server = servers::Redis::start();
    let settings = RedisSettings { deadline: DEADLINE, ..RedisSettings::new(server.url()) };
    let store = Redis::connect(settings).await.unwrap();
    let step = async |node: &str, ballot, proposal: Option<(u64, u64, Authority)>| {
        let proposal = proposal.map(|(under, epoch, authority)| {
            let cause = format!("said by {node}");
            Proposal { under, epoch, authority, cause }
        });
        store.control(node, ballot, proposal.as_ref()).await.unwrap().unwrap()
    };
    let taken = step("a", Ballot::Lost, Some((0, 1, Authority::Redis))).await;
    assert_eq!((taken.epoch, taken.authority, taken.lost, taken.by.as_str()), (1, Authority::Redis, 1, "a"));
    for ballot in [Ballot::Lost, Ballot::Holds] {
        step("a", ballot, None).await;
        let kept = step("b", Ballot::None, Some((1, 2, Authority::Postgres))).await;
        assert_eq!((kept.epoch, kept.authority), (1, Authority::Redis), "{ballot:?}");
    }
    let counted = step("b", Ballot::Lost, None).await;
    assert_eq!((counted.lost, counted.holds), (1, 1));
    step("b", Ballot::None, None).await;
    step("a", Ballot::None, None).await;
    let given = step("b", Ballot::None, Some((1, 2, Authority::Postgres))).await;
    assert_eq!((given.epoch, given.authority, given.lost, given.holds), (2, Authority::Postgres, 0, 0));
}

/// A managed server lets nobody change how it syncs: then its word is worth less.
#[tokio::test]
async fn a_redis_that_forbids_config_is_worth_two_seconds() {
    let forbidden = ["--rename-command", "CONFIG", ""];
    for (flags, worth) in [(&forbidden[..], "redis-2s"), (&[], "redis")] {
        let server = servers::Redis::start_with(flags);
        let settings = RedisSettings { deadline: DEADLINE, ..RedisSettings::new(server.url()) };
        let store = Redis::connect(settings).await.unwrap();
        assert_eq!(store.durability(), "redis-2s");
        store.sync_all(true).await.unwrap();
        assert_eq!(store.durability(), worth);
        store.sync_all(false).await.unwrap();
        assert_eq!(store.durability(), "redis-2s");
    }
}
