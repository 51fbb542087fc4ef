//! Limits where there is no Redis, or none any more.

use super::*;

/// Waits until a node asks Redis no more.
async fn until_alone(host: &Host) {
    let down = async |client: &switchyard_tests::host::Client| {
        client.get("/metrics").await.body.as_str().is_some_and(|metrics| {
            metrics.lines().any(|line| line == "switchyard_redis_writes_breaker_open 1")
        })
    };
    host.client.until("Redis is known to be away", down).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_each_node_has_its_share() {
    let mut redis = Redis::start();
    let nodes = two_nodes(&redis, &[]).await;
    let (limit, n) = (7, 2);
    let caps = Caps { concurrency: limit, ..Caps::default() };
    let before = admitted(&[&nodes[0]], 20, &caps).await;
    assert_eq!(before.len(), 7);
    redis.kill();
    for node in &nodes {
        until_alone(node).await;
    }
    // The first node has all of them already; the other one takes its share: (n - 1) * floor(L / n) too many.
    let after = admitted(&[&nodes[0], &nodes[1]], 20, &caps).await;
    let share = (limit / n) as usize;
    assert_eq!(after.len(), (n as usize - 1) * share);
    drop((before, after));
    assert_eq!(admitted(&[&nodes[0], &nodes[1]], 20, &caps).await.len(), n as usize * share);

    let window = Some(Duration::from_secs(3_600));
    let caps = Caps { window, window_requests: 9, ..Caps::default() };
    for round in [8, 0] {
        let begun = admitted(&[&nodes[0], &nodes[1]], 20, &caps).await;
        assert_eq!(begun.len(), round, "a window has floor(9 / 2) for each node, once");
    }
    let one = Caps { concurrency: 1, ..Caps::default() };
    assert_eq!(admitted(&[&nodes[0], &nodes[1]], 5, &one).await.len(), 2, "one a node at least");

    // Redis is back: what is in flight is shared again.
    let held = admitted(&[&nodes[0]], 20, &Caps { concurrency: 4, ..Caps::default() }).await;
    assert_eq!(held.len(), 2);
    redis.start_again();
    let crs = RelayDatabase::open(&redis.url()).await;
    let shared = async |_: &_| crs.ask::<u64>(&["ZCARD", "concurrency:k"]).await == 2;
    nodes[0].client.until("Redis knows what was admitted without it", shared).await;
    drop(held);
    stop(nodes).await;
}

/// From the first call on that it is asked about, not from the next renewal.
#[tokio::test(flavor = "multi_thread")]
async fn what_began_without_redis_counts_as_soon_as_it_is_back() {
    let mut host = Host::start(Behind::RealServers, &PATIENT).await;
    let caps = Caps { concurrency: 4, ..Caps::default() };
    let before = admitted(&[&host], 1, &caps).await;
    host.redis.as_mut().expect("a Redis").kill();
    until_alone(&host).await;
    let after = admitted(&[&host], 20, &caps).await;
    assert_eq!((before.len(), after.len()), (1, 3));
    host.redis.as_mut().expect("a Redis").start_again();
    let crs = RelayDatabase::open(&host.redis.as_ref().expect("a Redis").url()).await;
    let known = async |_: &_| {
        assert!(begin(host.limits(), &caps).await.is_err(), "a fifth call is admitted");
        crs.ask::<u64>(&["ZCARD", "concurrency:k"]).await == 4
    };
    host.client.until("Redis knows of all four", known).await;
    drop((before, after));
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_keys_with_limits_are_refused_if_that_is_chosen() {
    let mut redis = Redis::start();
    let [one, two] = two_nodes(&redis, &["--limits-without-redis", "closed"]).await;
    redis.kill();
    until_alone(&one).await;
    let caps = Caps { concurrency: 7, ..Caps::default() };
    let refused = begin(one.limits(), &caps).await.err().expect("nobody can tell");
    assert!(matches!(refused, Exceeded::Unavailable(_)), "{refused:?}");
    assert_eq!((refused.status(), refused.retry_after().is_some()), (503, true));
    begin(one.limits(), &Caps::default()).await.expect("nothing is limited").settle(NOTHING);
    stop([one, two]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_alone_is_exact_and_its_costs_survive_a_restart() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let caps = Caps { concurrency: 3, ..Caps::default() };
    let begun = admitted(&[&host], 20, &caps).await;
    assert_eq!(begun.len(), 3);
    drop(begun);
    assert_eq!(admitted(&[&host], 20, &caps).await.len(), 3);

    let caps = Caps { total_cost_micro: 100, ..Caps::default() };
    let used = Spent { tokens: 0, cost_micro: 100 };
    let first = host.limits().begin("k", "a", &caps, NOTHING).await.expect("nothing is used");
    first.settle(used);
    let refused = begin(host.limits(), &caps).await.err().expect("it is not counted yet, and is known");
    assert!(matches!(refused, Exceeded::Reserved { current: 100, .. }), "{refused:?}");
    let event = json!({ "id": "e", "key_id": "k", "model": "m", "at": Timestamp::now().to_string(),
                        "cost_micro_usd": 100 });
    host.client.post("/store/v1/usage", json!({ "events": [event] })).await.expect(200);
    let host = Host::start_in(host.stop().await, None, &[]).await;
    let refused = begin(host.limits(), &caps).await.err().expect("all is used");
    assert_eq!(refused, Exceeded::TotalCost { limit: 100, current: 100 });
    host.stop().await;
}

/// Ten thousand years, as a record may say, would be past the end of all clocks.
#[tokio::test]
async fn a_window_of_any_length_is_no_fault() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let key = host.client.post("/admin/api-keys", json!({ "name": "a" })).await.expect(201)["data"].clone();
    let record = format!("/store/v1/records/api_key/{}", key["id"].as_str().unwrap());
    let mut fields = host.client.get(&record).await.expect(200)["fields"].clone();
    (fields["rateLimitWindow"], fields["rateLimitRequests"]) = (json!("18446744073709551615"), json!("1"));
    host.client.put(&record, json!({ "fields": fields })).await.expect(200);
    let key = host.keys().authenticate(key["apiKey"].as_str().unwrap()).await.expect("it lets in");
    let caps = Caps { window: key.limits().window, window_requests: 1, ..Caps::default() };
    begin(host.limits(), &caps).await.expect("the first one").settle(NOTHING);
    assert!(matches!(begin(host.limits(), &caps).await, Err(Exceeded::Requests { .. })));
    host.stop().await;
}

/// PostgreSQL is away and the strategy does not do without it: what is used is kept on this node alone.
#[tokio::test(flavor = "multi_thread")]
async fn limits_of_cost_do_not_pass_over_usage_that_no_store_has() {
    let (redis, mut postgres) = (Redis::start(), Postgres::start());
    let (redis_url, postgres_url) = (redis.url(), postgres.url());
    let flags = ["--redis-url", &redis_url, "--postgres-url", &postgres_url];
    let host = Host::start_in(tempfile::tempdir().unwrap(), None, &flags).await;
    let caps = Caps { daily_cost_micro: 2_000, ..Caps::default() };
    let counted = async |_: &_| begin(host.limits(), &caps).await.is_ok();
    host.client.until("it is known what was used", counted).await;
    host.client.post("/admin/strategies/database_first/activate", json!({ "pin": true })).await.expect(200);
    postgres.kill();
    let event = json!({
        "id": "e", "key_id": "k", "model": "m", "at": Timestamp::now(), "cost_micro_usd": 5_000
    });
    let kept = host.client.post("/store/v1/usage", json!({ "events": [event] })).await.expect(200);
    assert_eq!(kept["durability"], "local", "{kept}");
    host.client.get("/store/v1/usage/k?window=total").await.expect(503);
    let refused = async |_: &_| matches!(begin(host.limits(), &caps).await, Err(Exceeded::Unavailable(_)));
    // What was read a moment ago is believed for as long as that.
    host.client.until("nobody can tell", refused).await;
    begin(host.limits(), &Caps::default()).await.expect("nothing is limited").settle(NOTHING);

    postgres.restart();
    let refused = async |_: &_| {
        matches!(begin(host.limits(), &caps).await, Err(Exceeded::DailyCost { current: 5_000, .. }))
    };
    host.client.until("it is counted, and too much", refused).await;
    host.stop().await;
}
