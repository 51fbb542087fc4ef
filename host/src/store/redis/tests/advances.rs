//! Parts of a key's limits that are taken for calls to come.

use std::time::Duration;

use super::allowance::{reserve, spent};
use super::server::{Other, Server};
use super::*;
use crate::store::Allowance as _;
use crate::store::allowance::{Cap, Caps, Ended, Lease, Refusal, Size, Totals, Verdict};

const GIVEN: Option<Totals> = Some(Totals { daily: 40, weekly: 40, total: 40 });

fn advance(lease: &str, caps: Caps, size: (u32, u32), estimate: (u64, u64)) -> Lease {
    let (size, estimate) = (Size { slots: size.0, requests: size.1 }, spent(estimate.0, estimate.1));
    Lease { key_id: "k".into(), lease: lease.into(), caps, estimate, size }
}

fn one(lease: &str, caps: Caps) -> Lease {
    advance(lease, caps, (1, 1), (0, 0))
}

fn in_the_way(verdict: Verdict) -> Option<Cap> {
    match verdict {
        Verdict::Refused(Refusal { cap, .. }) => Some(cap),
        _ => None,
    }
}

async fn of_requests(crs: &mut Other) -> i64 {
    crs.number("GET rate_limit:requests:k").await
}

#[tokio::test]
async fn an_advance_takes_what_it_stands_for_and_gives_back_what_was_not_made() {
    let server = Server::start(&[]).await;
    let (store, mut crs) = (connect(&server).await, server.other().await);
    let window = Some(Duration::from_secs(60));
    let caps = Caps { window, window_requests: 1_000, window_tokens: 1_000, ..Caps::default() };
    let caps = Caps { concurrency: 20, total_cost_micro: 1_000, ..caps };
    let a = advance("a", caps, (4, 30), (200, 100));
    let Verdict::Advanced { left: Some(left) } = reserve(&store, &a, GIVEN).await else { panic!() };
    assert!(left <= Duration::from_secs(60) && left > Duration::from_secs(40), "{left:?}");
    assert_eq!(crs.number("ZCARD concurrency:k").await, 4);
    assert_eq!(
        (of_requests(&mut crs).await, crs.number("HGET switchyard:reserved:sums:k cost").await),
        (30, 100)
    );
    assert_eq!(reserve(&store, &one("b", caps), GIVEN).await, Verdict::Admitted);
    // A call of its own that goes on after it.
    let c = advance("c", caps, (1, 1), (50, 20));
    store.renew(std::slice::from_ref(&c)).await.unwrap();
    let ended = Ended { call: a, used: spent(90, 70), unmade: 10 };
    for _ in 0..3 {
        store.spend(std::slice::from_ref(&ended)).await.unwrap();
    }
    assert_eq!((of_requests(&mut crs).await, crs.number("GET rate_limit:tokens:k").await), (21, 90));
    assert_eq!(crs.number("ZCARD concurrency:k").await, 2, "the call beside it, and the one that goes on");
    let sums = ["tokens", "cost", "held"].map(|sum| format!("HGET switchyard:reserved:sums:k {sum}"));
    let mut of = Vec::new();
    for sum in sums {
        of.push(crs.number(&sum).await);
    }
    assert_eq!(of, [50, 20, 70]);
    let life = crs.number("PTTL rate_limit:requests:k").await;
    assert!((1..=60_000).contains(&life), "it ends with its window: {life}");
}

#[tokio::test]
async fn requests_are_given_back_to_their_own_window_only() {
    let server = Server::start(&[]).await;
    let (store, mut crs) = (connect(&server).await, server.other().await);
    let window = Some(Duration::from_secs(60));
    // Nothing is metered.
    let caps = Caps { window, window_requests: 100, ..Caps::default() };
    let a = advance("a", caps, (4, 20), (0, 0));
    assert!(matches!(reserve(&store, &a, None).await, Verdict::Advanced { .. }));
    // As if it had been taken a while ago, and its window had passed.
    let mut earlier = redis::cmd("ZINCRBY");
    earlier.arg("switchyard:reserved:k").arg(-5_000).arg("r 0 0 a");
    crs.send(&earlier).await;
    crs.run("SET rate_limit:window_start:k 1").await;
    assert_eq!(reserve(&store, &one("b", caps), None).await, Verdict::Admitted);
    store.spend(&[Ended { call: a, used: spent(0, 0), unmade: 20 }]).await.unwrap();
    assert_eq!(of_requests(&mut crs).await, 1, "the next window has one");
    let c = advance("c", caps, (4, 20), (0, 0));
    assert!(matches!(reserve(&store, &c, None).await, Verdict::Advanced { .. }));
    for _ in 0..2 {
        let ended = Ended { call: c.clone(), used: spent(0, 0), unmade: 5 };
        store.spend(&[ended]).await.unwrap();
    }
    assert_eq!(of_requests(&mut crs).await, 16);
    // The limit is taken away while its window goes on.
    let unlimited = Caps { concurrency: 100, ..Caps::default() };
    let d = advance("d", unlimited, (4, 20), (0, 0));
    assert!(matches!(reserve(&store, &d, None).await, Verdict::Advanced { left: None }));
    store.spend(&[Ended { call: d, used: spent(0, 0), unmade: 9 }]).await.unwrap();
    assert_eq!(of_requests(&mut crs).await, 16, "none of these were counted");
    assert_eq!(crs.number("EXISTS switchyard:reserved:k").await, 0);
}

/// Half of each limit is left to calls that are there.
#[tokio::test]
async fn an_advance_fits_under_half_of_each_limit() {
    let server = Server::start(&[]).await;
    let (store, mut crs) = (connect(&server).await, server.other().await);
    let (window, none) = (Some(Duration::from_secs(60)), Caps::default());
    for (cap, caps) in [
        (Cap::Concurrency, Caps { concurrency: 20, ..none }),
        (Cap::Requests, Caps { window, window_requests: 80, ..none }),
        (Cap::Tokens, Caps { window, window_tokens: 800, ..none }),
        (Cap::WindowCost, Caps { window, window_cost_micro: 800, ..none }),
        (Cap::DailyCost, Caps { daily_cost_micro: 880, ..none }),
        (Cap::WeeklyCost, Caps { weekly_cost_micro: 880, ..none }),
        (Cap::TotalCost, Caps { total_cost_micro: 880, ..none }),
    ] {
        let large = |lease| advance(lease, caps, (5, 20), (200, 200));
        let more = advance("d", caps, (1, 2), (1, 1));
        for lease in ["a", "b"] {
            let verdict = reserve(&store, &large(lease), GIVEN).await;
            assert!(matches!(verdict, Verdict::Advanced { .. }), "{cap:?} {lease}: {verdict:?}");
        }
        assert_eq!(in_the_way(reserve(&store, &more, GIVEN).await), Some(cap));
        assert_eq!(reserve(&store, &one("c", caps), GIVEN).await, Verdict::Admitted, "{cap:?}");
        crs.run("FLUSHALL").await;
    }
}

#[tokio::test]
async fn an_advance_of_a_killed_node_ends_like_a_lease() {
    let server = Server::start(&[]).await;
    let (store, mut crs) = (connect(&server).await, server.other().await);
    let caps = Caps { concurrency: 10, total_cost_micro: 1_000, ..Caps::default() };
    let a = advance("a", caps, (5, 20), (0, 400));
    assert!(matches!(reserve(&store, &a, GIVEN).await, Verdict::Advanced { .. }));
    for slot in 1..=5 {
        crs.run(&format!("ZADD concurrency:k 1 a#{slot}")).await;
    }
    let mut past = redis::cmd("ZADD");
    past.arg("switchyard:reserved:k").arg(1).arg("r 0 400 a");
    crs.send(&past).await;
    let b = advance("b", caps, (5, 20), (0, 400));
    assert!(matches!(reserve(&store, &b, GIVEN).await, Verdict::Advanced { .. }));
    assert_eq!(crs.number("ZCARD concurrency:k").await, 5);
    assert_eq!(crs.number("HGET switchyard:reserved:sums:k cost").await, 400);
}
