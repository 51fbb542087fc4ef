//! A watched folder: complete files go live, everything else leaves what is there serving.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use switchyard::engine::Digest;
use switchyard::strategy::catalogue::BUILT_IN;
use switchyard_tests::host::{Behind, Client, Host};
use switchyard_tests::servers;

/// Two versions of a strategy `mine`.
fn versions() -> [&'static [u8]; 2] {
    [component("redis_only"), component("dual_write")]
}

fn component(name: &str) -> &'static [u8] {
    BUILT_IN.iter().find(|(known, _)| *known == name).expect("a built-in strategy").1
}

/// A server that watches a folder.
struct Watched {
    host: Host,
    folder: PathBuf,
    _parent: tempfile::TempDir,
}

impl Watched {
    /// Starts with this content of `mine.wasm`, waits until it is a version, and makes it active.
    async fn start(behind: Behind, first: &[u8]) -> Self {
        let (parent, folder) = folder();
        fs::write(folder.join("mine.wasm"), first).expect("a file");
        let host = Host::start(behind, &["--watch", folder.to_str().expect("UTF-8")]).await;
        let client = &host.client;
        client
            .until("a version of mine", async |c| c.get("/admin/strategies/mine").await.status == 200)
            .await;
        assert_eq!(active(client).await["name"], "dual_write", "nothing is activated that was not active");
        client.activate("mine").await;
        Self { host, folder, _parent: parent }
    }
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let parent = tempfile::tempdir().expect("a folder");
    let folder = parent.path().join("watched");
    fs::create_dir(&folder).expect("a folder");
    (parent, folder)
}

/// Appears at once, as a careful tool puts it there.
fn rename_into(folder: &Path, name: &str, bytes: &[u8]) {
    let draft = folder.join(format!(".{name}.part"));
    fs::write(&draft, bytes).expect("a file");
    fs::rename(draft, folder.join(name)).expect("a rename");
}

async fn active(client: &Client) -> Value {
    client.get("/admin/strategies").await.expect(200)["active"].clone()
}

async fn watcher(client: &Client) -> Value {
    client.get("/admin/strategies").await.expect(200)["watcher"].clone()
}

async fn metric(client: &Client, name: &str) -> u64 {
    let metrics = client.get("/metrics").await.expect(200);
    let text = metrics.as_str().expect("text");
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("switchyard_watcher_{name} ")));
    line.unwrap_or_else(|| panic!("no {name}: {text}")).parse().expect("a number")
}

async fn until_active(client: &Client, bytes: &[u8]) {
    let digest = Digest::of(bytes).to_string();
    client
        .until("the file is active", async |client| {
            // No answer counts while PostgreSQL, which has the catalogue, is down.
            client.get("/admin/strategies").await.body["active"]["digest"] == digest
        })
        .await;
}

async fn failures(client: &Client) -> Vec<Value> {
    let events = client.get("/admin/strategies/events").await.expect(200)["events"].take();
    let events = events.as_array().expect("events").clone();
    events.into_iter().filter(|event| event["action"] == "watcher-failed").collect()
}

/// Writes and reads until told to stop. Nothing may fail.
async fn load(client: Client, id: String, stop: Arc<AtomicBool>, steps: Arc<AtomicU64>) {
    let path = format!("/store/v1/records/account/{id}");
    for n in 0.. {
        if stop.load(Ordering::Acquire) {
            return;
        }
        client.put(&path, json!({"fields": {"n": n.to_string()}})).await.expect(200);
        assert_eq!(client.get(&path).await.expect(200)["fields"]["n"], n.to_string());
        steps.fetch_add(1, Ordering::AcqRel);
    }
}

async fn replaced_under_load(behind: Behind) {
    let [first, second] = versions();
    let watched = Watched::start(behind, first).await;
    let client = &watched.host.client;
    let (stop, steps) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let load: Vec<_> = (0..8)
        .map(|i| tokio::spawn(load(client.clone(), format!("l{i}"), stop.clone(), steps.clone())))
        .collect();
    for next in [second, first, second, first] {
        let before = steps.load(Ordering::Acquire);
        client.until("the load goes on", async |_| steps.load(Ordering::Acquire) >= before + 8).await;
        rename_into(&watched.folder, "mine.wasm", next);
        until_active(client, next).await;
    }
    stop.store(true, Ordering::Release);
    for task in load {
        task.await.expect("no failed request");
    }
    let status = watcher(client).await;
    assert_eq!((&status["alive"], &status["last_error"]), (&json!(true), &Value::Null), "{status}");
    assert_eq!(status["last_event"], "mine: uploaded and active");
    assert_eq!(metric(client, "alive").await, 1);
    assert!(failures(client).await.is_empty());
    watched.host.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renamed_file_takes_over_under_load_on_the_embedded_stores() {
    replaced_under_load(Behind::Embedded).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renamed_file_takes_over_under_load_on_real_servers() {
    replaced_under_load(Behind::RealServers).await;
}

/// A part of it that lies still is refused, and the rest makes it live.
#[tokio::test]
async fn a_file_written_in_place_goes_live_when_it_is_complete() {
    let [first, second] = versions();
    let watched = Watched::start(Behind::Embedded, first).await;
    let client = &watched.host.client;
    let (begin, rest) = second.split_at(second.len() / 3);
    let mut file = File::create(watched.folder.join("mine.wasm")).expect("a file");
    file.write_all(begin).expect("a write");
    client.until("the part is refused", async |client| !failures(client).await.is_empty()).await;
    assert_eq!(active(client).await["digest"], Digest::of(first).to_string());
    for piece in rest.chunks(rest.len() / 10) {
        file.write_all(piece).expect("a write");
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    until_active(client, second).await;
    client.put("/store/v1/records/account/a", json!({"fields": {}})).await.expect(200);
    watched.host.stop().await;
}

#[tokio::test]
async fn a_broken_file_leaves_the_old_one_serving_and_is_reported() {
    let [first, second] = versions();
    let watched = Watched::start(Behind::Embedded, first).await;
    let client = &watched.host.client;
    rename_into(&watched.folder, "mine.wasm", b"not WebAssembly at all");
    client.until("it is reported", async |client| !failures(client).await.is_empty()).await;
    let failed = failures(client).await;
    assert_eq!((&failed[0]["strategy"], &failed[0]["by"]), (&json!("mine"), &json!("watcher")));
    assert!(failed[0]["detail"].as_str().is_some_and(|d| d.contains("not WebAssembly")), "{failed:?}");
    client.until("the status", async |client| !watcher(client).await["last_error"].is_null()).await;
    let status = watcher(client).await;
    assert!(status["last_error"].as_str().is_some_and(|e| e.contains("mine.wasm")), "{status}");
    assert_eq!((status["alive"].clone(), metric(client, "alive").await), (json!(true), 1));
    assert_eq!(metric(client, "files_failed_total").await, 1);
    assert_eq!(active(client).await["digest"], Digest::of(first).to_string());
    client.put("/store/v1/records/account/a", json!({"fields": {}})).await.expect(200);
    rename_into(&watched.folder, "mine.wasm", second);
    until_active(client, second).await;
    assert_eq!(failures(client).await.len(), 1, "a broken file is reported once");
    watched.host.stop().await;
}

#[tokio::test]
async fn other_files_activate_nothing() {
    let [first, second] = versions();
    let watched = Watched::start(Behind::Embedded, first).await;
    let client = &watched.host.client;
    fs::write(watched.folder.join("notes.txt"), "hello").expect("a file");
    fs::write(watched.folder.join("mine.wasm.bak"), second).expect("a file");
    fs::create_dir(watched.folder.join("folder.wasm")).expect("a folder");
    rename_into(&watched.folder, "other.wasm", second);
    client.until("a version", async |client| client.get("/admin/strategies/other").await.status == 200).await;
    client
        .until("the status", async |client| {
            watcher(client).await["last_event"] == "other: uploaded, not active"
        })
        .await;
    rename_into(&watched.folder, "Not A Name.wasm", second);
    client.until("it is reported", async |client| !failures(client).await.is_empty()).await;
    assert_eq!(failures(client).await.len(), 1, "nothing is said about files that are none of its business");
    assert_eq!(active(client).await["digest"], Digest::of(first).to_string());
    for name in ["notes", "folder", "mine.wasm"] {
        client.get(&format!("/admin/strategies/{name}")).await.expect(404);
    }
    watched.host.stop().await;
}

#[tokio::test]
async fn a_removed_folder_is_noticed_and_works_again_when_it_is_back() {
    let [first, second] = versions();
    let watched = Watched::start(Behind::Embedded, first).await;
    let client = &watched.host.client;
    fs::remove_dir_all(&watched.folder).expect("removed");
    client.until("it is noticed", async |client| watcher(client).await["alive"] == false).await;
    assert_eq!(metric(client, "alive").await, 0);
    assert!(watcher(client).await["last_error"].is_string());
    client.put("/store/v1/records/account/a", json!({"fields": {}})).await.expect(200);
    fs::create_dir(&watched.folder).expect("a folder");
    rename_into(&watched.folder, "mine.wasm", second);
    until_active(client, second).await;
    assert_eq!((watcher(client).await["alive"].clone(), metric(client, "alive").await), (json!(true), 1));
    watched.host.stop().await;
}

/// The catalogue is in PostgreSQL: what cannot be kept there now is not forgotten.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_comes_while_postgres_is_down_goes_live_afterwards() {
    let [first, second] = versions();
    let (_parent, folder) = folder();
    let (redis, mut postgres) = (servers::Redis::start(), servers::Postgres::start());
    let (redis_url, postgres_url) = (redis.url(), postgres.url());
    let watch = folder.to_str().expect("UTF-8");
    let flags = ["--redis-url", &redis_url, "--postgres-url", &postgres_url, "--watch", watch];
    let data = tempfile::tempdir().expect("a folder");
    let host = Host::start_in(data, Some(redis), &flags).await;
    let client = &host.client;
    client.upload("mine", first).await.expect(201);
    client.activate("mine").await;
    postgres.stop();
    rename_into(&folder, "mine.wasm", second);
    client.until("it is noticed", async |client| metric(client, "files_failed_total").await > 0).await;
    client.put("/store/v1/records/account/a", json!({"fields": {}})).await.expect(200);
    postgres.restart();
    until_active(client, second).await;
    host.stop().await;
}

/// Looking is itself something that the system reports: it must not lead to another look.
#[tokio::test]
async fn a_folder_in_which_nothing_happens_is_looked_at_now_and_then() {
    let (_parent, folder) = folder();
    let host = Host::start(Behind::Embedded, &["--watch", folder.to_str().expect("UTF-8")]).await;
    let looks = async || {
        let listed = host.client.get("/admin/strategies").await.expect(200);
        listed["watcher"]["looks"].as_u64().expect("a number")
    };
    let (before, asked) = (looks().await, AtomicU64::new(0));
    // Asks so often that a watcher which goes round in circles has long done so.
    let again = async |_: &Client| asked.fetch_add(1, Ordering::AcqRel) > 40 && looks().await > before;
    host.client.until("it looks again", again).await;
    let after = looks().await;
    assert!(after < before + 100, "from {before} looks to {after}");
}
