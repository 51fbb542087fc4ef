//! Limits of keys: with Redis shared by all nodes, without it in shares.

mod advances;
mod alone;

use std::time::Duration;

use futures::future::maybe_done;
use jiff::Timestamp;
use serde_json::json;
use switchyard::limits::{Caps, Exceeded, Limits, Reservation, Spent};
use switchyard_tests::host::{Behind, Host};
use switchyard_tests::relay_database::RelayDatabase;
use switchyard_tests::servers::{Postgres, Redis};

/// Deadlines that a busy machine keeps.
const PATIENT: [&str; 4] = ["--redis-deadline-ms", "10000", "--postgres-deadline-ms", "10000"];

const NOTHING: Spent = Spent { tokens: 0, cost_micro: 0 };

async fn begin(limits: &Limits, caps: &Caps) -> Result<Reservation, Exceeded> {
    limits.begin("k", "request", caps, NOTHING).await
}

/// As many as are admitted of this many that want to begin at once on each of these hosts.
async fn admitted(hosts: &[&Host], of_each: usize, caps: &Caps) -> Vec<Reservation> {
    let wanted = hosts.iter().flat_map(|host| (0..of_each).map(|_| begin(host.limits(), caps)));
    let answers = futures::future::join_all(wanted).await;
    answers.into_iter().filter_map(Result::ok).collect()
}

async fn two_nodes(redis: &Redis, flags: &[&str]) -> [Host; 2] {
    let (postgres, redis) = (Postgres::shared().database().await, redis.url());
    let node = async |id: &str| {
        let fixed = ["--node-id", id, "--redis-url", &redis, "--postgres-url", &postgres];
        let flags: Vec<&str> = fixed.iter().chain(&PATIENT).chain(flags).copied().collect();
        let host = Host::start_in(tempfile::tempdir().expect("a folder"), None, &flags).await;
        let ready = async |client: &switchyard_tests::host::Client| {
            client.get("/admin/database/status").await.expect(200)["data"]["mode"] == json!("normal")
        };
        host.client.until("both stores are used", ready).await;
        host
    };
    let nodes = [node("one").await, node("two").await];
    for host in &nodes {
        let both = async |client: &switchyard_tests::host::Client| {
            let known = client.get("/admin/nodes").await.expect(200)["nodes"].clone();
            known.as_array().is_some_and(|known| known.len() == 2)
        };
        host.client.until("it knows the other one", both).await;
    }
    nodes
}

async fn stop(hosts: impl IntoIterator<Item = Host>) {
    for host in hosts {
        host.stop().await;
    }
}

/// The first of them asks for itself, the others together: none of these is lost with it, and none of those that have
/// gone away keeps its place.
#[tokio::test(flavor = "multi_thread")]
async fn who_goes_away_takes_nobody_elses_answer_along() {
    let redis = Redis::start();
    let nodes = two_nodes(&redis, &[]).await;
    let (caps, crs) = (Caps { concurrency: 10, ..Caps::default() }, RelayDatabase::open(&redis.url()).await);
    for gone in 1..=20 {
        let begin = || Box::pin(maybe_done(begin(nodes[0].limits(), &caps)));
        let mut calls: Vec<_> = (0..30).map(|_| begin()).collect();
        for call in &mut calls {
            let _ = futures::poll!(call.as_mut());
        }
        // The one that asks, and some of those that wait: they may have been asked for before they go.
        drop(calls.drain(..gone));
        let mut answers = Vec::new();
        for call in &mut calls {
            call.as_mut().await;
            answers.push(call.as_mut().take_output().expect("an answer"));
        }
        let is_told = |answer: &Result<_, _>| matches!(answer, Ok(_) | Err(Exceeded::Concurrency { .. }));
        assert!(answers.iter().all(is_told), "{gone} have gone");
        drop(answers);
        let none = async |_: &_| crs.ask::<u64>(&["ZCARD", "concurrency:k"]).await == 0;
        nodes[0].client.until("nothing is in flight", none).await;
    }
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_share_the_calls_that_may_be_in_flight() {
    let redis = Redis::start();
    let nodes = two_nodes(&redis, &[]).await;
    let caps = Caps { concurrency: 5, ..Caps::default() };
    let mut begun = admitted(&[&nodes[0], &nodes[1]], 20, &caps).await;
    assert_eq!(begun.len(), 5);
    let refused = begin(nodes[1].limits(), &caps).await.err().expect("a sixth one is refused");
    assert_eq!(refused, Exceeded::Concurrency { limit: 5, current: 5 });
    assert_eq!((refused.status(), refused.retry_after()), (429, Some(Duration::from_secs(1))));

    begun.pop().expect("one of them").settle(NOTHING);
    begun.drain(..2).for_each(drop);
    let crs = RelayDatabase::open(&redis.url()).await;
    let in_flight = async |_: &_| crs.ask::<u64>(&["ZCARD", "concurrency:k"]).await == 2;
    nodes[0].client.until("Redis has heard of three ends", in_flight).await;
    assert_eq!(admitted(&[&nodes[1]], 9, &caps).await.len(), 3);
    drop(begun);
    stop(nodes).await;
    assert_eq!(crs.ask::<u64>(&["ZCARD", "concurrency:k"]).await, 0, "an end in order settles all");
}

/// One client that asks again as soon as it is answered.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_has_ended_here_is_not_in_the_way_of_the_next() {
    let redis = Redis::start();
    let nodes = two_nodes(&redis, &[]).await;
    let window = Some(Duration::from_secs(3_600));
    let tokens = Caps { window, window_tokens: 1_000_000, ..Caps::default() };
    let (one, all) = (Caps { concurrency: 1, ..tokens }, Spent { tokens: 999_000, cost_micro: 0 });
    for turn in 0..200 {
        let begun = nodes[0].limits().begin("k", "request", &one, all).await;
        begun.unwrap_or_else(|why| panic!("turn {turn}: {why}")).settle(Spent { tokens: 5, cost_micro: 0 });
    }
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_goes_away_while_a_call_begins_leaves_nothing_behind() {
    let redis = Redis::start();
    let [one, two] = two_nodes(&redis, &[]).await;
    let caps = Caps { concurrency: 1, ..Caps::default() };
    for _ in 0..20 {
        let mut beginning = Box::pin(begin(one.limits(), &caps));
        // The script is on its way, and its answer is not waited for.
        let _ = futures::poll!(&mut beginning);
        drop(beginning);
    }
    let admitted = async |_: &_| begin(two.limits(), &caps).await.is_ok();
    two.client.until("the slot is free", admitted).await;
    stop([one, two]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_a_window_are_shared_and_counted_as_claude_relay_service_does() {
    let redis = Redis::start();
    let nodes = two_nodes(&redis, &[]).await;
    let window = Some(Duration::from_secs(3_600));
    let caps = Caps { window, window_requests: 7, ..Caps::default() };
    let begun = admitted(&[&nodes[0], &nodes[1]], 10, &caps).await;
    assert_eq!(begun.len(), 7);
    begun.into_iter().for_each(|one| one.settle(NOTHING));
    let Err(refused) = begin(nodes[0].limits(), &caps).await else { panic!("an eighth one is admitted") };
    let Exceeded::Requests { limit: 7, current: 7, reset_at } = refused else { panic!("{refused:?}") };
    let left = reset_at.duration_since(Timestamp::now()).as_secs();
    assert!((3_000..=3_600).contains(&left), "{left}");
    assert_eq!(refused.status(), 429);
    let fields = refused.relay_service_fields();
    assert_eq!((&fields["currentRequests"], &fields["requestLimit"]), (&json!(7), &json!(7)));
    let crs = RelayDatabase::open(&redis.url()).await;
    assert_eq!(crs.ask::<u64>(&["GET", "rate_limit:requests:k"]).await, 7);
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_costs_what_both_programs_counted_and_no_more() {
    let redis = Redis::start();
    let nodes = two_nodes(&redis, &[]).await;
    let caps = Caps { daily_cost_micro: 1_000_000, ..Caps::default() };
    let today = Timestamp::now().strftime("%Y-%m-%d").to_string();
    let crs = RelayDatabase::open(&redis.url()).await;
    crs.ask::<String>(&["SET", &format!("usage:cost:daily:k:{today}"), "0.5"]).await;
    let event = json!({ "id": "e", "key_id": "k", "model": "m", "at": Timestamp::now().to_string(),
                        "input_tokens": 1, "cost_micro_usd": 300_000 });
    nodes[0].client.post("/store/v1/usage", json!({ "events": [event] })).await.expect(200);
    let estimate = Spent { tokens: 0, cost_micro: 150_000 };
    let first = nodes[0].limits().begin("k", "a", &caps, estimate).await.expect("0.8 of 1 is used");
    let refused = nodes[1].limits().begin("k", "b", &caps, estimate).await.err().expect("0.95 and 0.15");
    assert!(matches!(refused, Exceeded::Reserved { limit: 1_000_000, current: 950_000, .. }), "{refused:?}");
    assert_eq!(refused.status(), 429);
    first.settle(Spent { tokens: 0, cost_micro: 200_000 });
    let event = json!({ "id": "f", "key_id": "k", "model": "m", "at": Timestamp::now().to_string(),
                        "cost_micro_usd": 200_000 });
    nodes[1].client.post("/store/v1/usage", json!({ "events": [event] })).await.expect(200);
    let refused = begin(nodes[1].limits(), &caps).await.err().expect("all is used");
    assert!(matches!(refused, Exceeded::DailyCost { limit: 1_000_000, .. }), "{refused:?}");
    assert_eq!((refused.status(), refused.retry_after()), (402, None));
    assert_eq!(refused.relay_service_fields()["costLimit"], json!(1.0));
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_without_limits_asks_no_store() {
    let mut host = Host::start(Behind::RealServers, &PATIENT).await;
    let redis = host.redis.as_mut().expect("a Redis");
    redis.pause();
    let free = Caps { window: Some(Duration::from_secs(60)), ..Caps::default() };
    begin(host.limits(), &free).await.expect("nothing is limited").settle(NOTHING);
    let limited = Caps { concurrency: 1, ..Caps::default() };
    let asked = tokio::time::timeout(Duration::from_millis(50), begin(host.limits(), &limited)).await;
    assert!(asked.is_err(), "a key with limits does ask");
    host.redis.as_mut().expect("a Redis").resume();
    host.stop().await;
}
