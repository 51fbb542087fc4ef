//! Long work in the server, followed to its end.

use serde_json::json;

use super::fake::{Fake, Reply};
use super::program::{self, run, run_on_a_terminal};
use super::{EVENTS, FIX, OPERATION, TO_POSTGRES, shapes};

const LATEST: &str = "GET /admin/strategies/events?limit=1000";
const SYNC: [&str; 6] = ["sync", "--source", "redis", "--target", "postgres", "--force"];

fn begun() -> (&'static str, Reply) {
    let running = shapes::operation("sync", "running", json!({ "done": 0 }));
    (TO_POSTGRES, Reply::Begun("/admin/operations/op-1", running))
}

fn at(done: u64) -> (&'static str, serde_json::Value) {
    ("progress", shapes::operation("sync", "running", json!({ "done": done })))
}

#[tokio::test]
async fn a_stream_of_events_is_followed_to_its_end() {
    let events = vec![at(120), at(130), at(560), ("end", shapes::synced(0))];
    let fake = Fake::start(&[begun(), (EVENTS, Reply::Events { events, breaks_off: false })]).await;
    let ran = run(&fake.url, &SYNC).await.with(0);
    ran.says(&["Copied 990"]);
    let lines: Vec<_> = ran.stderr.lines().collect();
    assert_eq!(lines, ["sync: 10 % (120 of 1000)", "sync: 50 % (560 of 1000)"]);
    let json = run(&fake.url, &[&SYNC[..], &["--json"]].concat()).await.with(0);
    assert_eq!((json.json(), json.stderr.as_str()), (shapes::synced(0), ""));
}

#[tokio::test]
async fn a_broken_stream_does_not_fail_the_command() {
    let broken = Reply::Events { events: vec![at(120)], breaks_off: true };
    // An end that does not say how it ended, no stream at all, and a page of a proxy.
    let ended = Reply::Events { events: vec![("end", json!({}))], breaks_off: false };
    for stream in [broken, ended, Reply::Problem(500, "internal"), Reply::Page(200)] {
        let fake = Fake::start(&[
            begun(),
            (EVENTS, stream),
            (OPERATION, Reply::Plain(200, at(700).1)),
            (OPERATION, Reply::Problem(503, "overloaded")),
            (OPERATION, Reply::Page(502)),
            (OPERATION, Reply::Plain(200, shapes::synced(1))),
        ])
        .await;
        let ran = run(&fake.url, &SYNC).await.with(1);
        ran.says(&["Copied 990", "skipped 1"]);
        ran.complains(&["sync: 70 % (700 of 1000)"]);
    }
}

#[tokio::test]
async fn a_silent_stream_is_given_up() {
    let silent = Reply::Events { events: vec![at(120)], breaks_off: false };
    let replies = [begun(), (EVENTS, silent), (OPERATION, Reply::Plain(200, shapes::synced(0)))];
    let fake = Fake::start(&replies).await;
    run(&fake.url, &SYNC).await.with(0).says(&["Copied 990"]);
}

#[tokio::test]
async fn an_operation_that_fails_is_cancelled_or_forgotten_fails_the_command() {
    let failed = shapes::operation("sync", "failed", json!({ "error": "PostgreSQL is gone" }));
    let cancelled = shapes::operation("sync", "cancelled", json!({ "done": 17 }));
    for (reply, words) in [
        (Reply::Plain(200, failed), ["operation-failed", "PostgreSQL is gone"]),
        (Reply::Plain(200, cancelled), ["was cancelled after 17 records", "start it again"]),
        (Reply::Problem(404, "unknown-operation"), ["unknown-operation", "the detail"]),
    ] {
        let fake = Fake::start(&[begun(), (OPERATION, reply)]).await;
        run(&fake.url, &SYNC).await.with(2).complains(&words);
    }
}

#[tokio::test]
async fn a_server_that_is_lost_meanwhile_leaves_word_of_how_to_go_on() {
    let fake = Fake::start(&[begun(), (OPERATION, Reply::Silence)]).await;
    let ran = run(&fake.url, &[&SYNC[..], &["--timeout", "1"]].concat()).await.with(2);
    ran.complains(&["lost-contact", "switchyard operation show op-1", "switchyard operation cancel op-1"]);
}

#[tokio::test]
async fn ctrl_c_leaves_the_operation_to_the_server() {
    let events = Reply::Events { events: vec![at(120)], breaks_off: false };
    let fake = Fake::start(&[begun(), (EVENTS, events)]).await;
    let child = program::command(&fake.url, &SYNC).spawn().expect("the program");
    fake.until_asked(EVENTS).await;
    program::interrupt(child.id().expect("its id"));
    let ran = program::end(child).await.with(2);
    ran.complains(&["op-1 goes on in the server", "switchyard operation cancel op-1"]);
    assert!(!fake.lines().iter().any(|line| line.starts_with("DELETE")), "{:?}", fake.lines());
}

/// Each node numbers its own events, and another node's may come to light later than they happened.
#[tokio::test]
async fn the_events_of_every_node_are_followed_once_each() {
    let event = |node: &str, number: u64| {
        let action = format!("{node}-{number}");
        json!({ "node": node, "number": number, "at": 1_700_000_000_000_u64 + number, "action": action,
                "strategy": "mine", "by": "admin", "detail": "" })
    };
    let list = |events: &[(&str, u64)]| {
        let events: Vec<_> = events.iter().map(|(node, number)| event(node, *number)).collect();
        Reply::Plain(200, json!({ "events": events }))
    };
    let fake = Fake::start(&[
        (LATEST, list(&[("a", 41), ("a", 40), ("b", 3)])),
        (LATEST, list(&[("a", 41), ("a", 40), ("b", 4), ("b", 3), ("c", 1)])),
        (LATEST, list(&[("a", 42), ("a", 41), ("a", 40), ("b", 4), ("b", 3), ("c", 1)])),
        (LATEST, Reply::Problem(403, "forbidden")),
    ])
    .await;
    let follow = ["strategy", "events", "--follow", "--limit", "2"];
    let ran = run(&fake.url, &follow).await.with(2);
    let shown: Vec<_> = ran.stdout.lines().filter_map(|line| line.split_whitespace().nth(2)).collect();
    assert_eq!(shown, ["a-40", "a-41", "c-1", "b-4", "a-42"], "{ran:?}");
}

#[tokio::test]
async fn on_a_terminal_progress_is_a_bar() {
    let events = vec![at(120), at(560), ("end", shapes::synced(0))];
    let fake = Fake::start(&[begun(), (EVENTS, Reply::Events { events, breaks_off: false })]).await;
    let ran = run_on_a_terminal(&fake.url, &SYNC, "").await.with(0);
    ran.says(&["Copied 990"]);
    assert!(!ran.stderr.contains("sync: 50 %") && ran.stderr.contains("of 1000"), "{ran:?}");
}

#[tokio::test]
async fn a_person_is_asked_between_the_dry_run_and_the_repair() {
    let replies =
        [(FIX, Reply::Data(shapes::repair(true, &[]))), (FIX, Reply::Data(shapes::repair(false, &[])))];
    let fake = Fake::start(&replies).await;
    let ran = run_on_a_terminal(&fake.url, &["check-consistency", "--fix"], "n\n").await.with(2);
    ran.says(&["Would repair 1"]);
    ran.complains(&["Repair this? [y/N]", "nothing was done"]);
    assert_eq!(fake.lines().len(), 1);
    let fake = Fake::start(&replies).await;
    let ran = run_on_a_terminal(&fake.url, &["check-consistency", "--fix"], "y\n").await.with(0);
    ran.says(&["Would repair 1", "Repaired 1; 0 need a person"]);
}
