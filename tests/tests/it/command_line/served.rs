//! The commands against a real server.

use serde_json::Value;
use switchyard::strategy::catalogue::BUILT_IN;
use switchyard_tests::host::{Behind, Host};

use super::program::run;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_well_is_seen_to_be() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let url = &*host.client.base;
    run(url, &["health"]).await.with(0).says(&["healthy", "dual_write", "redis", "postgres", " up "]);
    assert_eq!(run(url, &["health", "--json"]).await.with(0).json()["status"], "healthy");
    run(url, &["strategy", "list"]).await.with(0).says(&["ACTIVE", "cache_first", "built in"]);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strategies_are_uploaded_switched_and_rolled_back() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let url = &*host.client.base;
    let file = host.data.path().join("mine.wasm");
    let (_, bytes) = BUILT_IN.iter().find(|(name, _)| *name == "database_first").expect("a strategy");
    std::fs::write(&file, bytes).expect("a file");
    let file = file.to_str().expect("UTF-8");

    run(url, &["strategy", "upload", file, "mine"]).await.with(0).says(&["mine is kept"]);
    let list = run(url, &["strategy", "list", "--json"]).await.with(0).json();
    assert_eq!(list["active"]["name"], "dual_write");
    let ran = run(url, &["strategy", "upload", file, "mine", "--activate", "--force"]).await.with(0);
    ran.says(&["mine was there already", "mine has taken over from dual_write"]);
    run(url, &["switch-strategy", "cache-first", "--force"]).await.with(0).says(&["from mine"]);
    run(url, &["switch-strategy", "cache_first", "--force"]).await.with(0).says(&["was active already"]);
    let back = run(url, &["strategy", "rollback", "--force", "--json"]).await.with(0).json();
    assert_eq!(back["strategy"], "mine");
    run(url, &["health"]).await.with(0).says(&["mine in force"]);

    let ran = run(url, &["strategy", "events", "--limit", "2"]).await.with(0);
    let lines: Vec<_> = ran.stdout.lines().collect();
    assert!(lines.len() == 2 && lines[1].contains("rolled-back"), "{lines:?}");
    let events: Value = run(url, &["strategy", "events", "--json"]).await.with(0).json();
    assert!(events["events"].as_array().is_some_and(|events| events.len() >= 4), "{events}");

    let ran = run(url, &["switch-strategy", "nonsense", "--force"]).await.with(2);
    ran.complains(&["unknown-strategy", "switchyard strategy list"]);
    std::fs::write(file, b"no component").expect("a file");
    run(url, &["strategy", "upload", file, "mine"]).await.with(2);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_events_are_followed() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let url = &*host.client.base;
    let child = super::program::command(url, &["strategy", "events", "--follow"]).spawn();
    let mut child = child.expect("the program");
    let stdout = child.stdout.take().expect("its output");
    let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(stdout));
    run(url, &["switch-strategy", "cache_first", "--force"]).await.with(0);
    let seen = async {
        while let Some(line) = lines.next_line().await.expect("a line") {
            if line.contains("activated") && line.contains("cache_first") {
                return;
            }
        }
        panic!("it ended");
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), seen).await.expect("the event is shown");
    super::program::interrupt(child.id().expect("its id"));
    let ended = tokio::time::timeout(std::time::Duration::from_secs(30), child.wait()).await;
    assert!(ended.expect("an end in time").expect("an end").success());
    host.stop().await;
}
