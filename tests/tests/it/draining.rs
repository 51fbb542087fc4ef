//! What one store has and the other has not, left by another node: nobody here announces it.

mod conflicts;
mod refusals;
mod sides;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use switchyard::store::postgres::{Postgres, PostgresSettings};
use switchyard::store::redis::{Redis, RedisSettings};
use switchyard::store::{
    Backend, Clock, Epoch, Expect, Fields, Key, Kind, Mark, Record, StoreError, Usage, UsageEvent, Version,
    Write, kind,
};
use switchyard_tests::host::{Client, Host};
use switchyard_tests::servers;

/// Two stores that are complete, and what another node does to them.
struct Stores {
    redis: Arc<dyn Backend>,
    postgres: Arc<dyn Backend>,
    server: servers::Redis,
    urls: [String; 2],
    clock: Clock,
}

impl Stores {
    async fn start() -> Self {
        let server = servers::Redis::start();
        let urls = [server.url(), servers::Postgres::shared().database().await];
        let deadline = Duration::from_secs(10);
        // Of no epoch that could pass while a test switches.
        let epoch = Arc::<Epoch>::default();
        epoch.raise(1_000);
        let settings = RedisSettings { deadline, epoch: epoch.clone(), ..RedisSettings::new(&urls[0]) };
        let redis = Redis::connect(settings).await;
        let postgres =
            Postgres::connect(PostgresSettings { deadline, epoch, ..PostgresSettings::new(&urls[1]) });
        let redis: Arc<dyn Backend> = Arc::new(redis.expect("a Redis"));
        let postgres: Arc<dyn Backend> = Arc::new(postgres.expect("a PostgreSQL"));
        for store in [&redis, &postgres] {
            for kind in Kind::public().chain([&kind::USAGE]) {
                store.set_complete(kind).await.expect("a store that answers");
            }
        }
        Self { redis, postgres, server, urls, clock: Clock::default() }
    }

    /// A node on these stores.
    async fn node(&self, strategy: &str) -> Host {
        let [redis, postgres] = &self.urls;
        let flags = ["--redis-url", redis, "--postgres-url", postgres, "--strategy", strategy];
        Host::start_in(tempfile::tempdir().expect("a folder"), None, &flags).await
    }

    /// A write as a node makes it that can reach this store only.
    async fn write(&self, store: &Arc<dyn Backend>, key: &Key, n: &str) -> Version {
        let version = self.clock.next();
        write(store, key, version, Some(n)).await;
        version
    }

    async fn command(&self, words: &[&str]) {
        let client = redis::Client::open(self.server.url()).expect("a URL");
        let mut connection = client.get_multiplexed_async_connection().await.expect("a connection");
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]).exec_async(&mut connection).await.expect("a command that works");
    }
}

fn account(id: &str) -> Key {
    Key::new(&kind::ACCOUNT, id).expect("a valid id")
}

/// Writes a record, or its tombstone, with the mark that the other store does not have it.
async fn write(store: &Arc<dyn Backend>, key: &Key, version: Version, n: Option<&str>) {
    let fields = n.map(|n| Fields::from([("n".to_owned(), n.to_owned())]));
    let deleted = fields.is_none();
    let fields = fields.unwrap_or_default();
    let record = Record { key: key.clone(), version, deleted, fields, expires_at: None, cached_at: None };
    store.put(&Write::new(Arc::new(record), Expect::Anything)).await.expect("a write");
}

async fn n(store: &Arc<dyn Backend>, key: &Key) -> Option<String> {
    let record = store.get(key).await.expect("a read")?;
    record.fields.get("n").cloned()
}

/// Asks until something holds; a minute at most. Answers how long it took.
async fn until(what: &str, holds: impl AsyncFn() -> bool) -> Duration {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < Duration::from_secs(60), "not within a minute: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    began.elapsed()
}

async fn metric(client: &Client, name: &str) -> f64 {
    let text = client.get("/metrics").await.body;
    let line = text.as_str().and_then(|text| text.lines().find_map(|line| line.strip_prefix(name)));
    line.unwrap_or_else(|| panic!("no metric {name}")).trim().parse().expect("a number")
}

/// The key is revoked on a node that sees only PostgreSQL; this node answers from its near cache.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_that_only_postgres_has_soon_holds_here() {
    let stores = Stores::start().await;
    let node = stores.node("redis_only").await;
    for strategy in ["redis_only", "dual_write", "cache_first", "database_first"] {
        node.client.activate(strategy).await;
        let (key, path) = (account(strategy), format!("/store/v1/records/account/{strategy}"));
        node.client.put(&path, serde_json::json!({ "fields": { "n": "1" } })).await.expect(200);
        until("in both", async || n(&stores.redis, &key).await.is_some()).await;
        for _ in 0..3 {
            node.client.get(&path).await.expect(200);
        }
        write(&stores.postgres, &key, stores.clock.next(), None).await;
        let took = until("revoked", async || node.client.get(&path).await.status == 404).await;
        println!("{strategy}: revoked after {took:?}");
        assert!(took < Duration::from_secs(5), "five times the aim: {took:?}");
        let deleted = async || stores.redis.get(&key).await.expect("a read").is_some_and(|r| r.deleted);
        until("Redis has the tombstone", deleted).await;
    }
    node.stop().await;
}

/// Under a strategy of one store only what that store lacks is carried over, except shortly after a switch: other
/// nodes may not have followed it yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_store_lacks_that_is_not_needed_waits() {
    for strategy in ["redis_only", "postgres_only"] {
        let stores = Stores::start().await;
        let both = [&stores.redis, &stores.postgres];
        let [needed, other] = if strategy == "redis_only" { both } else { [both[1], both[0]] };
        let node = stores.node(strategy).await;
        let waits = account(&format!("{strategy}-waits"));
        for round in 0..8 {
            if round == 1 {
                // A look that began before the switch has ended by now.
                stores.write(needed, &waits, "1").await;
            }
            // Each of these is a look that has found something.
            let key = account(&format!("{strategy}-{round}"));
            stores.write(other, &key, "1").await;
            until("carried over", async || n(needed, &key).await.is_some()).await;
        }
        assert_eq!(n(other, &waits).await, None, "{strategy}");
        assert_eq!(needed.marked(std::slice::from_ref(&waits)).await.expect("marks").len(), 1);
        let store = if strategy == "redis_only" { "redis" } else { "postgres" };
        let lag = metric(&node.client, &format!("switchyard_{store}_lag_seconds")).await;
        assert!(lag > 0.1, "{lag}");
        node.client.activate("dual_write").await;
        assert_eq!(n(other, &waits).await.as_deref(), Some("1"), "the switch has carried it over");
        node.stop().await;
    }
}

/// One record that a store refuses, whatever it is asked, is older than a whole batch of others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_a_store_refuses_stops_no_other() {
    let stores = Stores::start().await;
    let (refused, lost) = (account("refused"), account("lost"));
    stores.command(&["SET", "claude_console_account:refused", "x"]).await;
    write(&stores.postgres, &refused, stores.clock.next(), Some("1")).await;
    stores.write(&stores.redis, &lost, "1").await;
    stores.command(&["SET", "claude_console_account:lost", "x"]).await;
    for n in 0..600 {
        let store = if n % 2 == 0 { &stores.redis } else { &stores.postgres };
        stores.write(store, &account(&format!("r{n}")), "1").await;
    }
    let node = stores.node("dual_write").await;
    let owed = async |store: &Arc<dyn Backend>| store.backlog().await.expect("a backlog").records;
    until("all but one", async || owed(&stores.redis).await == 1 && owed(&stores.postgres).await == 1).await;
    for n_of in [0, 299, 598] {
        assert_eq!(n(&stores.postgres, &account(&format!("r{n_of}"))).await.as_deref(), Some("1"));
        assert_eq!(n(&stores.redis, &account(&format!("r{}", n_of + 1))).await.as_deref(), Some("1"));
    }
    assert!(metric(&node.client, "switchyard_carry_over_refused_total").await >= 1.0);
    stores.command(&["DEL", "claude_console_account:refused"]).await;
    until("it is tried again", async || n(&stores.redis, &refused).await.is_some()).await;
    node.stop().await;
}

/// A record that is written again and again is always young.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_record_is_carried_over() {
    let stores = Stores::start().await;
    let node = stores.node("redis_only").await;
    let key = account("busy");
    let busy = async {
        loop {
            stores.write(&stores.postgres, &key, "1").await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = busy => {}
        took = until("carried over", async || n(&stores.redis, &key).await.is_some()) => {
            assert!(took < Duration::from_secs(10), "{took:?}");
        }
    }
    node.stop().await;
}

fn event(id: u64, key_id: &str) -> UsageEvent {
    let event = serde_json::json!({ "id": format!("e{id}"), "key_id": key_id, "model": "m",
        "at": jiff::Timestamp::now(), "input_tokens": id });
    serde_json::from_value(event).expect("an event")
}

async fn add(store: &Arc<dyn Backend>, events: Vec<UsageEvent>) {
    store.add(&Usage::new(events, jiff::tz::Offset::UTC, Mark::Dirty)).await.expect("a batch");
}

async fn total(store: &Arc<dyn Backend>, key_id: &str) -> Option<[String; 2]> {
    let key = Key::new(&kind::USAGE, &format!("{key_id}:total")).expect("a valid id");
    let record = store.get(&key).await.expect("a read")?;
    Some(["requests", "input_tokens"].map(|name| record.fields[name].clone()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_counted_once_when_two_nodes_drain_at_once() {
    let stores = Stores::start().await;
    let nodes = [stores.node("dual_write").await, stores.node("dual_write").await];
    for batch in 0..20 {
        let store = if batch % 2 == 0 { &stores.redis } else { &stores.postgres };
        add(store, (batch * 100..(batch + 1) * 100).map(|n| event(n, "k")).collect()).await;
    }
    let owed = async |store: &Arc<dyn Backend>| store.backlog().await.expect("a backlog").usage;
    until("drained", async || owed(&stores.redis).await + owed(&stores.postgres).await == 0).await;
    let expected = ["2000".to_owned(), (0..2_000).sum::<u64>().to_string()];
    for store in [&stores.redis, &stores.postgres] {
        assert_eq!(total(store, "k").await.as_ref(), Some(&expected));
    }
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_a_store_refuses_stops_no_other() {
    let stores = Stores::start().await;
    let node = stores.node("dual_write").await;
    // A Redis that is new is counted anew, whatever was there.
    let complete = async || stores.redis.complete(&kind::USAGE).await.expect("an answer");
    until("the first contact is over", async || {
        complete().await
            && node.client.get("/readyz").await.body["stores"]
                .as_array()
                .is_some_and(|stores| stores.iter().all(|store| store["trusted"] == true))
    })
    .await;
    stores.command(&["SET", "usage:refused", "x"]).await;
    let events = (0..100).map(|n| event(n, if n == 50 { "refused" } else { "k" })).collect();
    add(&stores.postgres, events).await;
    let owed = async || stores.postgres.backlog().await.expect("a backlog").usage;
    until("all but one", async || owed().await == 1).await;
    until("the others are counted", async || {
        total(&stores.redis, "k").await.is_some_and(|counters| counters[0] == "99")
    })
    .await;
    stores.command(&["DEL", "usage:refused"]).await;
    until("it is tried again", async || owed().await == 0).await;
    until("it is counted", async || {
        total(&stores.redis, "refused").await.is_some_and(|counters| counters[0] == "1")
    })
    .await;
    node.stop().await;
}
