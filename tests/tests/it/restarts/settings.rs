//! Wrong settings, a data folder that is taken, and secrets that stay secret.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use switchyard_tests::host::{Behind, Body, TOKEN};
use switchyard_tests::servers::{Postgres, Redis, Switchyard};

use super::{Stage, path, put};

/// What a start says that ends by itself with a failure.
async fn refusal(data: &Path, flags: &[&str], variables: &[(&str, &str)]) -> String {
    let mut command = tokio::process::Command::from(Switchyard::program());
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data).args(flags);
    command.envs(variables.iter().copied()).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(60), command.output());
    let output = output.await.unwrap_or_else(|_| panic!("{flags:?} {variables:?}: it serves"));
    let output = output.expect("a process");
    assert!(!output.status.success(), "{flags:?} {variables:?}");
    assert!(output.stdout.is_empty(), "{flags:?} {variables:?}");
    String::from_utf8(output.stderr).expect("UTF-8")
}

#[tokio::test]
async fn a_wrong_setting_is_named_in_one_line() {
    let flags: [(&[&str], &str); 7] = [
        (&["--listen", "nonsense"], "SWITCHYARD_LISTEN"),
        (&["--strategy", "nonsense"], "DATABASE_STRATEGY"),
        (&["--admin-token", "weak"], "SWITCHYARD_ADMIN_TOKEN"),
        (&["--redis-url", "redis+cluster://localhost:6379"], "--redis-url"),
        (&["--redis-url", "gopher://localhost"], "--redis-url"),
        (&["--postgres-url", "mysql://localhost/x"], "--postgres-url"),
        (&["--watch", "/there/is/no/such/folder"], "--watch"),
    ];
    let variables: [(&[(&str, &str)], &str); 10] = [
        (&[("POSTGRES_PORT", "abc")], "POSTGRES_PORT"),
        (&[("POSTGRES_PORT", "5432")], "POSTGRES_HOST"),
        (&[("POSTGRES_ENABLED", "true")], "POSTGRES_HOST"),
        (&[("POSTGRES_ENABLED", "perhaps")], "POSTGRES_ENABLED"),
        (&[("POSTGRES_PASSWORD", "canary-4711")], "POSTGRES_HOST"),
        (&[("REDIS_PORT", "70000")], "REDIS_PORT"),
        (&[("REDIS_HOST", "a"), ("SWITCHYARD_REDIS_URL", "redis://b")], "REDIS_HOST"),
        (&[("DATABASE_STRATEGY", "nonsense")], "DATABASE_STRATEGY"),
        (&[("SWITCHYARD_ADMIN_TOKEN", "canary-4711")], "SWITCHYARD_ADMIN_TOKEN"),
        (&[("SWITCHYARD_REDIS_URL", "off"), ("SWITCHYARD_POSTGRES_URL", "off")], "--redis-url"),
    ];
    let data = tempfile::tempdir().expect("a folder");
    let flags = flags.map(|(flags, word)| (flags, &[][..], word));
    let variables = variables.map(|(variables, word)| (&[][..], variables, word));
    for (flags, variables, word) in flags.into_iter().chain(variables) {
        let line = refusal(data.path(), flags, variables).await;
        assert!(line.contains(word) && line.lines().count() == 1, "{flags:?} {variables:?}: {line}");
        assert!(!line.contains("canary"), "{line}");
    }
}

#[tokio::test]
async fn a_data_folder_has_one_program() {
    for behind in [Behind::Embedded, Behind::RealServers] {
        let stage = Stage::start(behind, &[]).await;
        let line = refusal(&stage.node.data(), &[], &[]).await;
        assert!(line.contains("another Switchyard is using the data folder"), "{behind:?}: {line}");
        put(&stage.client, "a", 1).await.expect(200);
    }
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_stay_out_of_the_log_and_the_data_folder() {
    let [redis_secret, postgres_secret] = ["canary-redis-0123456789", "canary-postgres-0123456789"];
    let [field, index] = ["canary-field-0123456789", "canary-hash-0123456789"];
    let mut redis = Redis::start_with(&["--requirepass", redis_secret]);
    let mut postgres = Postgres::start();
    let redis_url = redis.url().replace("redis://", &format!("redis://:{redis_secret}@"));
    let postgres_url = postgres.url().replace("postgres@", &format!("postgres:{postgres_secret}@"));
    let urls = ["--redis-url", &redis_url, "--postgres-url", &postgres_url];
    let mut node = Switchyard::start(&[&urls[..], &["--log", "debug"]].concat());
    let client = node.client();
    client.until_ready().await;
    let record = "/store/v1/records/api_key/a";
    let body = || json!({"fields": {"secret": field, "apiKey": index}});
    client.put(record, body()).await.expect(200);
    client.get(record).await.expect(200);
    client.get(&format!("/store/v1/records/api_key?index=hash&value={index}")).await.expect(200);
    // Errors of every kind, too.
    let malformed = Body::Bytes(format!("{{\"fields\": {{\"secret\": \"{field}\"").into_bytes());
    client.send(Method::PUT, record, &[], malformed).await.expect(400);
    redis.kill();
    client.put(record, body()).await.expect(200);
    postgres.kill();
    client.put(record, body()).await.expect(503);
    client.until("it says so", async |client| client.get("/readyz").await.status == 503).await;
    redis.restart();
    postgres.restart();
    client.until("a write", async |c| c.put(record, body()).await.body["durability"] == "both").await;
    client.get(&path("none")).await.expect(404);
    assert!(node.stop().is_some_and(|status| status.success()));
    let log = node.log();
    assert!(log.contains("DEBUG"), "{log}");
    let secrets = [TOKEN, redis_secret, postgres_secret, field, index];
    for line in log.lines() {
        assert!(!secrets.iter().any(|secret| line.contains(secret)), "{line}");
    }
    let files = files(&node.data());
    assert!(!files.is_empty());
    for file in files.iter().filter(|file| !file.ends_with("admin-token")) {
        let bytes = std::fs::read(file).expect("a file");
        let has = |secret: &&str| bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!secrets.iter().any(has), "{}", file.display());
    }
}
