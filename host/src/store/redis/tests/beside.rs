//! What Claude Relay Service counts beside the windows.

use jiff::tz::Offset;
use jiff::{Timestamp, ToSpan as _};

use super::server::{Other, Server};
use super::*;
use crate::store::identity::{Lineage as _, Recount, Recounted};
use crate::store::maintenance::Counted;
use crate::store::{Store, Usage, UsageEvent};

const OFFSET: Offset = Offset::constant(8);

fn event(id: &str, at: Timestamp, model: &str, cost_micro_usd: u64) -> UsageEvent {
    UsageEvent {
        id: id.into(),
        key_id: "k1".into(),
        account_id: Some("a1".into()),
        model: model.into(),
        at,
        input_tokens: 10,
        output_tokens: 2,
        cache_creation_5m_tokens: 3,
        cache_creation_1h_tokens: 4,
        cache_read_tokens: 5,
        cost_micro_usd,
        request_id: Some("r1".into()),
        partial: false,
    }
}

async fn add(store: &Redis, events: &[UsageEvent]) {
    store.add(&Usage::new(events.to_vec(), OFFSET, Mark::Clean)).await.unwrap();
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// What is there after two events: found by the keys that Claude Relay Service reads.
const LAYOUT: [(&str, i64); 17] = [
    ("HGET account_usage:model:daily:a1:m:2025-09-17 inputTokens", 20),
    ("HGET account_usage:model:daily:a1:m:2025-09-17 cacheCreateTokens", 14),
    ("HGET account_usage:model:monthly:a1:m:2025-09 requests", 2),
    ("HGET account_usage:model:hourly:a1:m:2025-09-17:04 allTokens", 48),
    ("HEXISTS account_usage:model:daily:a1:m:2025-09-17 tokens", 0),
    ("SISMEMBER account_usage:model:daily:index:2025-09-17 a1:m", 1),
    ("SISMEMBER account_usage:model:hourly:index:2025-09-17:04 a1:m", 1),
    ("EXISTS account_usage:model:daily:index:2025-09-17:empty", 0),
    ("HGET usage:global:daily:2025-09-17 allTokens", 48),
    ("HGET usage:global:monthly:2025-09 ephemeral1hTokens", 8),
    ("HGET usage:global:total requests", 9),
    ("HGET usage:global:total outputTokens", 4),
    ("TTL usage:global:total", -1),
    ("TTL usage:cost:real:total:k1", -1),
    ("LLEN usage:records:k1", 2),
    // Of no model of Claude's, and of a week that has long ended.
    ("EXISTS usage:opus:weekly:k1:2025-09-15T00", 0),
    ("LLEN usage:records:k2", 0),
];

#[tokio::test]
async fn what_claude_relay_service_reads_for_quotas_and_dashboards_is_counted() {
    let server = Server::start(&[]).await;
    let (store, mut crs) = (connect(&server).await, server.other().await);
    crs.run("HSET usage:global:total requests 7").await;
    crs.run("SET account_usage:model:daily:index:2025-09-17:empty 1").await;
    let when = at("2025-09-16T20:30:00Z");
    add(&store, &[event("a", when, "m", 6), event("b", when, "m", 12)]).await;
    add(&store, &[event("b", when, "m", 12)]).await;
    for (command, count) in LAYOUT {
        assert_eq!(crs.number(command).await, count, "{command}");
    }
    for dollars in ["usage:cost:real:total:k1", "usage:cost:real:daily:k1:2025-09-17"] {
        assert_eq!(crs.text(&format!("GET {dollars}")).await.as_deref(), Some("0.000018"), "{dollars}");
    }
    for (key, days) in [
        ("usage:cost:real:daily:k1:2025-09-17", 33),
        ("usage:global:daily:2025-09-17", 32),
        ("account_usage:model:hourly:a1:m:2025-09-17:04", 7),
        ("usage:records:k1", 90),
    ] {
        let life = crs.number(&format!("TTL {key}")).await;
        assert!(((days - 1) * 86_400..=days * 86_400).contains(&life), "{key} {life}");
    }
    let last = crs.text("LINDEX usage:records:k1 0").await.unwrap();
    let last: serde_json::Value = serde_json::from_str(&last).unwrap();
    let expected = serde_json::json!({
        "timestamp": "2025-09-16T20:30:00.000Z", "model": "m", "accountId": "a1", "accountType": "claude-console",
        "requestId": "r1", "inputTokens": 10, "outputTokens": 2, "cacheCreateTokens": 7, "cacheReadTokens": 5,
        "ephemeral5mTokens": 3, "ephemeral1hTokens": 4, "totalTokens": 24, "cost": 0.000012, "realCost": 0.000012,
        "isLongContext": false,
    });
    assert_eq!(last, expected);
}

#[tokio::test]
async fn a_sum_of_everything_that_is_missing_is_left_to_the_program_that_makes_it() {
    let server = Server::start(&[]).await;
    let (store, mut crs) = (connect(&server).await, server.other().await);
    let now = Timestamp::now();
    let events: Vec<_> = (0..205).map(|n| event(&format!("e{n}"), now, "m", 1)).collect();
    add(&store, &events).await;
    assert_eq!(crs.number("EXISTS usage:global:total").await, 0);
    assert_eq!(crs.number("LLEN usage:records:k1").await, 200, "the last ones");
}

/// The key of the week of this moment, as Claude Relay Service names it.
fn week(now: Timestamp, day: i64, hour: i64) -> String {
    let local = OFFSET.to_datetime(now);
    let since = i64::from(local.weekday().to_monday_zero_offset()) * 24 + i64::from(local.hour());
    let began = local - ((since - (day - 1) * 24 - hour).rem_euclid(168)).hours();
    format!("usage:opus:weekly:k1:{}", began.strftime("%Y-%m-%dT%H"))
}

async fn dollars(crs: &mut Other, key: &str) -> Option<f64> {
    crs.text(&format!("GET {key}")).await.map(|text| (text.parse::<f64>().unwrap() * 1e6).round() / 1e6)
}

#[tokio::test]
async fn the_cost_of_a_week_is_counted_where_its_limit_is_read() {
    let server = Server::start(&[]).await;
    let (store, mut crs) = (connect(&server).await, server.other().await);
    let now = Timestamp::now();
    for (day, hour) in [(1, 0), (3, 5), (7, 23), (4, 12)] {
        crs.run("FLUSHALL").await;
        crs.run(&format!("HSET apikey:k1 weeklyResetDay {day} weeklyResetHour {hour}")).await;
        let key = week(now, day, hour);
        add(&store, &[event("a", now, "claude-opus-4-5", 250_000), event("b", now, "gpt-5", 1)]).await;
        assert_eq!(dollars(&mut crs, &key).await, Some(0.25), "{key}");
        crs.run(&format!("INCRBYFLOAT {key} 1.5")).await;
        add(&store, &[event("c", now, "claude-sonnet-4-5", 250_000)]).await;
        assert_eq!(dollars(&mut crs, &key).await, Some(2.0), "both programs count in it");
        let life = crs.number(&format!("TTL {key}")).await;
        assert!((13 * 86_400..=14 * 86_400).contains(&life), "{life}");
    }
    // What is no day and no hour is Monday and midnight; and no record at all is no key.
    crs.run("FLUSHALL").await;
    crs.run("HSET apikey:k1 weeklyResetDay 9 weeklyResetHour noon").await;
    add(&store, &[event("a", now, "claude-opus-4-5", 250_000)]).await;
    assert_eq!(dollars(&mut crs, &week(now, 1, 0)).await, Some(0.25));
}

/// Older versions of Claude Relay Service count no such week, and one whose beginning was moved is not counted yet.
#[tokio::test]
async fn a_week_that_nobody_counted_goes_on_from_its_days() {
    let server = Server::start(&[]).await;
    let (store, mut crs) = (connect(&server).await, server.other().await);
    let now = Timestamp::now();
    let today = OFFSET.to_datetime(now).strftime("%Y-%m-%d").to_string();
    crs.run(&format!("SET usage:cost:daily:k1:{today} 3")).await;
    add(&store, &[event("a", now, "claude-opus-4-5", 250_000)]).await;
    let key = week(now, 1, 0);
    assert_eq!(dollars(&mut crs, &key).await, Some(3.25));
    add(&store, &[event("b", now, "claude-opus-4-5", 250_000)]).await;
    assert_eq!(dollars(&mut crs, &key).await, Some(3.5));
}

async fn recount(store: &Redis, events: &[UsageEvent], openings: Vec<Counted>) {
    let take = async |step| store.recount("me", step).await.unwrap();
    assert!(store.claim("me", false).await.unwrap());
    take(Recount::Close).await;
    let mut cursor = String::from("0");
    while let Recounted::More(next) = take(Recount::Forget(cursor)).await {
        cursor = next;
    }
    take(Recount::Open).await;
    store.add(&Usage::replay(events.to_vec(), OFFSET)).await.unwrap();
    take(Recount::Add(openings)).await;
    take(Recount::Finish).await;
}

/// What is counted anew is what was counted, however often, and with what another program had counted before.
#[tokio::test]
async fn counting_anew_doubles_nothing() {
    let server = Server::start(&[]).await;
    let (store, mut crs) = (connect(&server).await, server.other().await);
    let now = Timestamp::now();
    let local = OFFSET.to_datetime(now);
    let today = local.strftime("%Y-%m-%d").to_string();
    let opening = |window: String| (format!("k1:{window}"), [7, 70, 0, 0, 0, 0, 1_000_000]);
    let openings = vec![opening("total".into()), opening(format!("daily:{today}"))];
    crs.run("HSET usage:global:total requests 7 inputTokens 70").await;
    crs.run(&format!("HSET usage:global:daily:{today} requests 7 inputTokens 70")).await;
    crs.run(&format!("MSET usage:cost:real:total:k1 1 {} 1", week(now, 1, 0))).await;
    let events = [event("a", now, "claude-opus-4-5", 250_000), event("b", now, "claude-opus-4-5", 250_000)];
    add(&store, &events).await;
    let hour = local.strftime("%H").to_string();
    let told = [
        ("HGET usage:global:total requests".to_owned(), "9"),
        ("HGET usage:global:total inputTokens".into(), "90"),
        (format!("HGET usage:global:daily:{today} requests"), "9"),
        ("GET usage:cost:real:total:k1".into(), "1.5"),
        (format!("GET {}", week(now, 1, 0)), "1.5"),
        (format!("HGET account_usage:model:hourly:a1:claude-opus-4-5:{today}:{hour} requests"), "2"),
        ("HGET usage:k1 totalRequests".into(), "2"),
    ];
    for round in 0..3 {
        for (command, expected) in &told {
            // Of what is counted anew, the key's own totals have the balance, too.
            let expected = if round > 0 && command.ends_with("totalRequests") { "9" } else { expected };
            assert_eq!(crs.text(command).await.as_deref(), Some(expected), "{command} in round {round}");
        }
        assert_eq!(crs.number("LLEN usage:records:k1").await, 2, "in round {round}");
        recount(&store, &events, openings.clone()).await;
    }
    // All was lost: then the sum of everything is made here, and no request is listed again.
    crs.run("FLUSHALL").await;
    recount(&store, &events, openings).await;
    assert_eq!(crs.text("HGET usage:global:total requests").await.as_deref(), Some("9"));
    assert_eq!(crs.text(&format!("GET {}", week(now, 1, 0))).await.as_deref(), Some("1.5"));
}
