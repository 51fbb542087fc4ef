//! What nodes admit by themselves, of limits that all of them keep to.

use std::sync::atomic::{AtomicU64, Ordering};

use switchyard_tests::host::Client;

use super::*;

const TOKENS: u64 = 5;

/// Metered, so that all that is counted can be seen.
fn metered(caps: Caps) -> Caps {
    let window = Some(Duration::from_secs(3_600));
    Caps { window, window_tokens: 1_000_000_000, ..caps }
}

/// How many calls have begun in an advance.
async fn in_advance(client: &Client) -> u64 {
    let metrics = client.get("/metrics").await.body;
    let lines = metrics.as_str().unwrap_or_default().lines();
    let count = lines.filter_map(|line| line.strip_prefix("switchyard_limits_in_advance_total ")).next();
    count.and_then(|count| count.parse().ok()).expect("a count")
}

/// What is done at the same time, on all nodes.
#[derive(Default)]
struct Seen {
    in_flight: AtomicU64,
    most: AtomicU64,
    admitted: AtomicU64,
}

impl Seen {
    /// One client after the other asks this often, as soon as it is answered.
    async fn hammer(&self, host: &Host, caps: &Caps, clients: usize, each: usize) {
        let client = async || {
            for _ in 0..each {
                let estimate = Spent { tokens: 2 * TOKENS, cost_micro: 0 };
                let Ok(begun) = host.limits().begin("k", "request", caps, estimate).await else { continue };
                self.admitted.fetch_add(1, Ordering::SeqCst);
                let now = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
                self.most.fetch_max(now, Ordering::SeqCst);
                tokio::task::yield_now().await;
                self.in_flight.fetch_sub(1, Ordering::SeqCst);
                begun.settle(Spent { tokens: TOKENS, cost_micro: 0 });
            }
        };
        futures::future::join_all((0..clients).map(|_| client())).await;
    }

    fn admitted(&self) -> u64 {
        self.admitted.load(Ordering::SeqCst)
    }
}

/// Begins calls one after the other until some begin in an advance.
async fn until_busy(host: &Host, caps: &Caps) {
    let some = async |client: &Client| {
        Seen::default().hammer(host, caps, 1, 50).await;
        in_advance(client).await > 0
    };
    host.client.until("calls begin in an advance", some).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn busy_nodes_keep_to_the_calls_in_flight_and_count_each_request_and_token() {
    let redis = Redis::start();
    let nodes = two_nodes(&redis, &[]).await;
    let (seen, caps) = (Seen::default(), metered(Caps { concurrency: 256, ..Caps::default() }));
    let caps = Caps { window_requests: 100_000_000, ..caps };
    // More of them than may be in flight: sometimes advances are to be had, sometimes not.
    for clients in [20, 200] {
        tokio::join!(
            seen.hammer(&nodes[0], &caps, clients, 100),
            seen.hammer(&nodes[1], &caps, clients, 100)
        );
    }
    assert!(seen.most.load(Ordering::SeqCst) <= 256, "{:?}", seen.most);
    let (one, two) = (in_advance(&nodes[0].client).await, in_advance(&nodes[1].client).await);
    assert!(one > 500 && two > 500, "{one} and {two} of {} began in advances", seen.admitted());
    stop(nodes).await;
    let crs = RelayDatabase::open(&redis.url()).await;
    assert_eq!(crs.ask::<u64>(&["GET", "rate_limit:requests:k"]).await, seen.admitted());
    assert_eq!(crs.ask::<u64>(&["GET", "rate_limit:tokens:k"]).await, TOKENS * seen.admitted());
    assert_eq!(crs.ask::<u64>(&["EXISTS", "concurrency:k", "switchyard:reserved:k"]).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn busy_nodes_admit_all_requests_of_a_window_and_no_more() {
    let redis = Redis::start();
    let nodes = two_nodes(&redis, &[]).await;
    let (seen, caps) = (Seen::default(), metered(Caps { window_requests: 4_000, ..Caps::default() }));
    let all = async |_: &Client| {
        tokio::join!(seen.hammer(&nodes[0], &caps, 4, 250), seen.hammer(&nodes[1], &caps, 4, 250));
        seen.admitted() >= 4_000
    };
    nodes[0].client.until("all are admitted", all).await;
    seen.hammer(&nodes[1], &caps, 4, 50).await;
    assert_eq!(seen.admitted(), 4_000);
    assert!(in_advance(&nodes[0].client).await > 250);
    stop(nodes).await;
    let crs = RelayDatabase::open(&redis.url()).await;
    assert_eq!(crs.ask::<u64>(&["GET", "rate_limit:requests:k"]).await, 4_000);
}

/// A call that has begun in an advance.
async fn begun_in_advance(host: &Host, caps: &Caps, estimate: Spent) -> Reservation {
    for _ in 0..100 {
        until_busy(host, caps).await;
        let before = in_advance(&host.client).await;
        Seen::default().hammer(host, caps, 1, 5).await;
        let begun = host.limits().begin("k", "long", caps, estimate).await.expect("there is room");
        if in_advance(&host.client).await == before + 6 {
            return begun;
        }
        begun.settle(NOTHING);
    }
    panic!("no call begins in an advance")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_outlasts_its_advance_gets_a_lease_of_its_own() {
    let redis = Redis::start();
    let nodes = two_nodes(&redis, &[]).await;
    let caps = metered(Caps { concurrency: 256, ..Caps::default() });
    let long = begun_in_advance(&nodes[0], &caps, Spent { tokens: 7, cost_micro: 0 }).await;
    let crs = RelayDatabase::open(&redis.url()).await;
    let alone = async |_: &_| {
        let sum: Option<u64> = crs.ask(&["HGET", "switchyard:reserved:sums:k", "tokens"]).await;
        let held: u64 = crs.ask(&["ZCARD", "concurrency:k"]).await;
        assert!(held > 0 && sum.is_some_and(|sum| sum >= 7), "it is held at any time: {held}, {sum:?}");
        held == 1 && sum == Some(7)
    };
    nodes[0].client.until("nothing is held but the long call", alone).await;
    let counted: u64 = crs.ask(&["GET", "rate_limit:tokens:k"]).await;
    long.settle(Spent { tokens: 3, cost_micro: 0 });
    let none = async |_: &_| crs.ask::<u64>(&["ZCARD", "concurrency:k"]).await == 0;
    nodes[0].client.until("it has ended", none).await;
    assert_eq!(crs.ask::<u64>(&["GET", "rate_limit:tokens:k"]).await, counted + 3);
    stop(nodes).await;
}

/// Many calls at once, some time after calls of the same key began one after the other: while an advance is handed out,
/// when its time is over, and after that.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_has_in_advance_is_not_in_its_own_way() {
    let redis = Redis::start();
    let nodes = two_nodes(&redis, &[]).await;
    let caps = Caps { concurrency: 32, ..Caps::default() };
    for pause in (0..420).step_by(14) {
        let (key, busy) = (format!("key-{pause}"), tokio::time::Instant::now() + Duration::from_millis(230));
        while tokio::time::Instant::now() < busy {
            let begun = nodes[0].limits().begin(&key, "request", &caps, NOTHING).await;
            begun.expect("one at a time").settle(NOTHING);
        }
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let calls = (0..40).map(|_| nodes[0].limits().begin(&key, "request", &caps, NOTHING));
        let answers = futures::future::join_all(calls).await;
        assert_eq!(answers.iter().flatten().count(), 32, "{pause} ms later");
    }
    assert!(in_advance(&nodes[0].client).await > 1_000);
    stop(nodes).await;
}

/// With the data that Redis had on disk, in which the advance is.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_an_advance_that_redis_was_lost_with() {
    let mut redis = Redis::start();
    let nodes = two_nodes(&redis, &["--limits-without-redis", "closed"]).await;
    let caps = metered(Caps { concurrency: 256, ..Caps::default() });
    until_busy(&nodes[0], &caps).await;
    redis.kill();
    let refused = async |_: &Client| begin(nodes[0].limits(), &caps).await.is_err();
    nodes[0].client.until("calls are refused", refused).await;
    redis.start_again();
    let admitted = async |_: &Client| begin(nodes[0].limits(), &caps).await.is_ok();
    nodes[0].client.until("calls are admitted", admitted).await;
    let crs = RelayDatabase::open(&redis.url()).await;
    stop(nodes).await;
    assert_eq!(crs.ask::<u64>(&["EXISTS", "concurrency:k"]).await, 0);
}
