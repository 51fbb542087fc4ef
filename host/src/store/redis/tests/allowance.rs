//! Limits that nodes share, beside what Claude Relay Service keeps of them.

use std::time::Duration;

use super::server::Server;
use super::*;
use crate::store::Allowance as _;
use crate::store::allowance::{
    Ask, Cap, Caps, Ended, Lease, Refusal, Size, Spent, Totals, Verdict, WeekStart,
};

pub(super) fn spent(tokens: u64, cost_micro: u64) -> Spent {
    Spent { tokens, cost_micro }
}

fn call(lease: &str, caps: Caps, estimate: Spent) -> Lease {
    Lease { key_id: "k".into(), lease: lease.into(), caps, estimate, size: Size::CALL }
}

pub(super) async fn reserve(store: &Redis, call: &Lease, totals: Option<Totals>) -> Verdict {
    reserve_all(store, std::slice::from_ref(call), totals).await.remove(0).unwrap()
}

pub(super) async fn reserve_all(
    store: &Redis,
    calls: &[Lease],
    totals: Option<Totals>,
) -> Vec<crate::store::Result<Verdict>> {
    // 2025-09-16T10, a Tuesday.
    let ask = |call: &Lease| Ask { call: call.clone(), today: "2025-09-16".into(), hour: 488_338, totals };
    store.reserve(&calls.iter().map(ask).collect::<Vec<_>>()).await.unwrap()
}

async fn end(store: &Redis, call: &Lease, used: Spent) {
    store.spend(&[Ended::call(call.clone(), used)]).await.unwrap();
}

fn refused(verdict: Verdict) -> (Cap, u64, bool) {
    let Verdict::Refused(Refusal { cap, current, reserved, .. }) = verdict else { panic!("{verdict:?}") };
    (cap, current, reserved)
}

#[tokio::test]
async fn a_lease_that_nobody_renews_ends() {
    let server = Server::start(&[]).await;
    let (store, mut crs) = (connect(&server).await, server.other().await);
    let caps = Caps { concurrency: 1, ..Caps::default() };
    let (a, b) = (call("a", caps, Spent::default()), call("b", caps, Spent::default()));
    assert_eq!(reserve(&store, &a, None).await, Verdict::Admitted);
    assert_eq!(refused(reserve(&store, &b, None).await), (Cap::Concurrency, 1, false));
    let life = crs.number("PTTL concurrency:k").await;
    assert!((55_000..=60_000).contains(&life), "{life}");
    // As it is when its node was killed half a minute ago.
    crs.run("ZADD concurrency:k 1 a").await;
    assert_eq!(reserve(&store, &b, None).await, Verdict::Admitted);
    assert_eq!(crs.text("ZSCORE concurrency:k a").await, None);
    // Its node was only slow: the call goes on, and is counted again.
    store.renew(std::slice::from_ref(&a)).await.unwrap();
    assert_eq!(crs.number("ZCARD concurrency:k").await, 2);
    end(&store, &a, Spent::default()).await;
    end(&store, &b, Spent::default()).await;
    assert_eq!(crs.number("EXISTS concurrency:k").await, 0);
}

#[tokio::test]
async fn an_end_counts_once_however_often_it_is_told() {
    let server = Server::start(&[]).await;
    let (store, mut crs) = (connect(&server).await, server.other().await);
    let window = Some(Duration::from_secs(3_600));
    let caps = Caps { window, window_tokens: 100, window_cost_micro: 1_000_000, ..Caps::default() };
    let a = call("a", caps, spent(80, 500_000));
    assert_eq!(reserve(&store, &a, None).await, Verdict::Admitted);
    // Alone it would fit, beside the other one it does not.
    let b = call("b", caps, spent(30, 1));
    assert_eq!(refused(reserve(&store, &b, None).await), (Cap::Tokens, 80, true));
    for _ in 0..3 {
        end(&store, &a, spent(60, 250_000)).await;
    }
    assert_eq!(crs.number("GET rate_limit:tokens:k").await, 60);
    assert_eq!(crs.text("GET rate_limit:cost:k").await.as_deref(), Some("0.250000"));
    assert_eq!(crs.number("GET rate_limit:requests:k").await, 1);
    assert_eq!(reserve(&store, &b, None).await, Verdict::Admitted);
    end(&store, &b, spent(40, 1)).await;
    let verdict = reserve(&store, &call("c", caps, Spent::default()), None).await;
    assert_eq!(refused(verdict), (Cap::Tokens, 100, false));
    for part in ["window_start", "requests", "tokens", "cost"] {
        let life = crs.number(&format!("PTTL rate_limit:{part}:k")).await;
        assert!((1..=3_600_000).contains(&life), "{part} lives for {life} ms");
    }
}

#[tokio::test]
async fn a_window_of_claude_relay_service_goes_on() {
    let server = Server::start(&[]).await;
    let (store, mut crs) = (connect(&server).await, server.other().await);
    let window = Some(Duration::from_secs(60));
    let caps = Caps { window, window_requests: 3, window_cost_micro: 2_000_000, ..Caps::default() };
    let now = crate::store::clock::now_ms();
    crs.run(&format!("SET rate_limit:window_start:k {} PX 50000", now - 10_000)).await;
    crs.run("SET rate_limit:requests:k 2 PX 50000").await;
    crs.run("SET rate_limit:cost:k 0.30000000000000004 PX 50000").await;
    // An old one counts what is in flight in a string.
    crs.run("SET concurrency:k 7 EX 180").await;
    let caps = Caps { concurrency: 5, ..caps };
    let a = call("a", caps, spent(0, 0));
    assert_eq!(reserve(&store, &a, None).await, Verdict::Admitted);
    end(&store, &a, spent(5, 100_000)).await;
    assert_eq!(crs.text("GET rate_limit:cost:k").await.as_deref(), Some("0.400000"));
    let Verdict::Refused(refusal) = reserve(&store, &a, None).await else { panic!("a fourth request") };
    assert_eq!((refusal.cap, refusal.current), (Cap::Requests, 3));
    let left = refusal.reset.unwrap();
    assert!(left <= Duration::from_secs(50) && left > Duration::from_secs(20), "{left:?}");
    // The window has passed, and its keys are still there.
    crs.run("SET rate_limit:window_start:k 1").await;
    assert_eq!(reserve(&store, &a, None).await, Verdict::Admitted);
    assert_eq!(crs.number("GET rate_limit:requests:k").await, 1);
    assert_eq!(crs.number("EXISTS rate_limit:cost:k").await, 0);
}

#[tokio::test]
async fn costs_are_what_both_programs_counted_and_what_is_reserved() {
    let server = Server::start(&[]).await;
    let (store, mut crs) = (connect(&server).await, server.other().await);
    let caps = Caps { daily_cost_micro: 1_000_000, ..Caps::default() };
    let a = call("a", caps, spent(0, 400_000));
    assert_eq!(reserve(&store, &a, None).await, Verdict::Uncounted);
    crs.run("SADD switchyard:complete usage").await;
    crs.run("HSET usage:daily:k:2025-09-16 costMicroUsd 200000").await;
    crs.run("SET usage:cost:daily:k:2025-09-16 0.5").await;
    assert_eq!(reserve(&store, &a, None).await, Verdict::Admitted);
    let b = call("b", caps, spent(0, 400_000));
    assert_eq!(refused(reserve(&store, &b, None).await), (Cap::DailyCost, 900_000, true));
    // What has ended is held until the counters have it: alone it may go on, to the limit.
    end(&store, &a, spent(0, 450_000)).await;
    assert_eq!(reserve(&store, &b, None).await, Verdict::Admitted);
    end(&store, &b, spent(0, 100_000)).await;
    let c = call("c", caps, spent(0, 1));
    assert_eq!(refused(reserve(&store, &c, None).await), (Cap::DailyCost, 1_050_000, true));
    crs.run("SET usage:cost:daily:k:2025-09-16 1.05").await;
    assert_eq!(refused(reserve(&store, &c, None).await), (Cap::DailyCost, 1_050_000, false));

    let weekly = Caps { weekly_cost_micro: 2_000_000, ..Caps::default() };
    crs.run("SET usage:cost:daily:k:2025-09-15 0.95").await;
    let verdict = reserve(&store, &call("d", weekly, Spent::default()), None).await;
    assert_eq!(refused(verdict), (Cap::WeeklyCost, 2_000_000, false));
    let total = Caps { total_cost_micro: 7, ..Caps::default() };
    let d = call("d", total, Spent::default());
    let given = Totals { total: 8, ..Totals::default() };
    assert_eq!(refused(reserve(&store, &d, Some(given)).await), (Cap::TotalCost, 8, false));
    crs.run("SET usage:cost:total:k 0.000009").await;
    assert_eq!(refused(reserve(&store, &d, None).await), (Cap::TotalCost, 9, false));
}

/// What Claude Relay Service counts of the week decides where it is there, in the week of the key.
#[tokio::test]
async fn a_week_costs_what_is_counted_of_it_or_else_of_its_days() {
    let server = Server::start(&[]).await;
    let (store, mut crs) = (connect(&server).await, server.other().await);
    crs.run("SADD switchyard:complete usage").await;
    crs.run("SET usage:cost:daily:k:2025-09-15 0.95").await;
    let weekly = Caps { weekly_cost_micro: 2_000_000, ..Caps::default() };
    crs.run("SET usage:opus:weekly:k:2025-09-15T00 1.25").await;
    let refusal = refused(
        reserve(&store, &call("d", Caps { weekly_cost_micro: 1_250_000, ..weekly }, spent(0, 0)), None).await,
    );
    assert_eq!(refusal, (Cap::WeeklyCost, 1_250_000, false));
    crs.run("SET usage:opus:weekly:k:2025-09-16T09 0.000005").await;
    let caps = Caps { weekly_cost_micro: 5, week: WeekStart { day: 1, hour: 9 }, ..Caps::default() };
    let refusal = refused(reserve(&store, &call("d", caps, spent(0, 0)), None).await);
    assert_eq!(refusal, (Cap::WeeklyCost, 5, false));
    // At 11 the week of these hours has not begun: the days before count.
    let caps = Caps { week: WeekStart { day: 1, hour: 11 }, weekly_cost_micro: 950_000, ..caps };
    crs.run("SET usage:cost:hourly:k:2025-09-16:10 0.01").await;
    let refusal = refused(reserve(&store, &call("d", caps, spent(0, 0)), None).await);
    assert_eq!(refusal, (Cap::WeeklyCost, 960_000, false));
}

#[tokio::test]
async fn what_a_killed_node_had_reserved_is_free_again() {
    let server = Server::start(&[]).await;
    let (store, mut crs) = (connect(&server).await, server.other().await);
    let caps = Caps { total_cost_micro: 100, ..Caps::default() };
    let given = Some(Totals::default());
    let (a, b) = (call("a", caps, spent(0, 90)), call("b", caps, spent(0, 90)));
    assert_eq!(reserve(&store, &a, given).await, Verdict::Admitted);
    assert_eq!(refused(reserve(&store, &b, given).await), (Cap::TotalCost, 90, true));
    let mut past = redis::cmd("ZADD");
    past.arg("switchyard:reserved:k").arg(1).arg("r 0 90 a");
    crs.send(&past).await;
    assert_eq!(reserve(&store, &b, given).await, Verdict::Admitted);
    assert_eq!(crs.number("HGET switchyard:reserved:sums:k cost").await, 90);
    // Told late, the end of the first one changes nothing any more.
    end(&store, &a, spent(0, 90)).await;
    assert_eq!(crs.number("HGET switchyard:reserved:sums:k cost").await, 90);
    assert_eq!(crs.text("HGET switchyard:reserved:sums:k held").await, None);
    // Redis has lost its data: what goes on is there again with the next renewal.
    crs.run("FLUSHALL").await;
    for _ in 0..2 {
        store.renew(std::slice::from_ref(&b)).await.unwrap();
    }
    assert_eq!(crs.number("HGET switchyard:reserved:sums:k cost").await, 90);
}
