//! Where the commands look, and what they find there.

use std::path::Path;

use serde_json::{Value, json};
use switchyard_tests::relay_service::{ACCOUNTS, ENCRYPTION_KEY, GROUP, KEYS, RelayService};
use switchyard_tests::servers::{Redis, Switchyard};

use super::{run, run_with};

/// The commands that look into a Redis find it as a server does.
#[tokio::test(flavor = "multi_thread")]
async fn the_database_is_found_by_the_names_of_a_server_s_settings() {
    let redis = Redis::start();
    let database = RelayService::open(&redis.url()).await;
    database.write_key(1).await;
    let url = redis.url();
    let port: String =
        url.rsplit(':').next().expect("a port").chars().take_while(char::is_ascii_digit).collect();
    let run = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut program = Switchyard::program();
        program.args(arguments).envs(variables.iter().copied()).env("SWITCHYARD_DATA", "/nonexistent");
        program.env("ENCRYPTION_KEY", ENCRYPTION_KEY);
        let output = program.output().expect("the program");
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let here = [("REDIS_HOST", "127.0.0.1"), ("REDIS_PORT", &*port)];
    let (status, said) = run(&["import", "--check"], &here);
    assert!(status == Some(0) && said.contains("1 API keys"), "{said}");
    let (status, said) =
        run(&["give-back", "--force", "--redis-host", "127.0.0.1", "--redis-port", &port], &[]);
    assert!(status == Some(1) && said.contains("1 API keys expire"), "no sync was made: {said}");
    let elsewhere = [("REDIS_HOST", "127.0.0.1"), ("REDIS_PORT", &*port), ("REDIS_DB", "1")];
    assert!(run(&["import", "--check"], &elsewhere).1.contains("0 API keys"));
    for command in [&["import", "--check"][..], &["give-back", "--force"]] {
        let (status, said) = run(command, &[]);
        assert!(status == Some(2) && said.contains("REDIS_HOST"), "{said}");
        let (status, said) = run(command, &[("REDIS_PORT", "1")]);
        assert!(status == Some(2) && said.contains("REDIS_PORT"), "{said}");
    }
}

/// An old version leads to its keys by a hash for each.
#[tokio::test(flavor = "multi_thread")]
async fn a_survey_follows_the_lookup_of_an_old_version() {
    let redis = Redis::start();
    let database = RelayService::open(&redis.url()).await;
    database.write_key(1).await;
    database.run(&["HDEL", "apikey:hash_map", KEYS[1].hash]).await;
    let old = format!("apikey_hash:{}", KEYS[1].hash);
    for (id, status, broken) in [(KEYS[1].id, 0, 0), ("another", 1, 1)] {
        database.run(&["HSET", &old, "id", id]).await;
        let (ended, survey, _) = run(&redis, &["import", "--check", "--json"]);
        let survey: Value = serde_json::from_str(&survey).expect("JSON");
        assert_eq!((ended, &survey["broken"]), (Some(status), &json!(broken)), "{survey}");
        let list = survey["taken_over"]
            .as_array()
            .expect("a list")
            .iter()
            .any(|one| one["what"] == "lists of API keys");
        assert!(list && survey["not_taken_over"] == json!([]), "{survey}");
    }
}

/// Keys that nobody could use afterwards, although each of them is whole.
#[tokio::test(flavor = "multi_thread")]
async fn a_survey_tells_whether_clients_will_be_recognised() {
    let redis = Redis::start();
    let database = RelayService::open(&redis.url()).await;
    database.write_key(5).await;
    let look = |key: &str| run_with(&redis, &["import", "--check"], key, Path::new("/nonexistent"));
    let (status, said, _) = look("");
    assert!(status == Some(1) && !said.contains("Nothing is broken"), "{said}");
    assert!(said.contains("without ENCRYPTION_KEY the clients of 1 keys cannot be recognised"), "{said}");
    let (status, said, _) = look("any other key of that program");
    assert!(status == Some(0) && said.contains("NOTE: No sealed account"), "{said}");
    database.write().await;
    let (status, said, _) = look(ENCRYPTION_KEY);
    assert!(status == Some(0) && !said.contains("No sealed account"), "{said}");
    assert!(
        said.contains("NOTE: that program's days of usage begin at midnight of TIMEZONE_OFFSET"),
        "{said}"
    );
    let at_its_hours = ["import", "--check", "--timezone-offset", "8"];
    let (status, said, _) = run_with(&redis, &at_its_hours, ENCRYPTION_KEY, Path::new("/nonexistent"));
    assert!(status == Some(0) && !said.contains("NOTE"), "{said}");

    // The server says so, too.
    let warning = "ENCRYPTION_KEY is not given";
    for (key, warns) in [(None, true), (Some(ENCRYPTION_KEY), false)] {
        let url = redis.url();
        let given = key.map(|key| ["--encryption-key", key]);
        let flags = [&["--redis-url", &*url][..], given.as_ref().map_or(&[], |given| &given[..])].concat();
        let server = Switchyard::start(&flags);
        server.client().until_ready().await;
        if warns {
            server.client().until("it warns", async |_| server.log().contains(warning)).await;
        }
        assert_eq!(server.log().contains(warning), warns, "{}", server.log());
        assert_eq!(server.log().contains("TIMEZONE_OFFSET is not given"), !warns, "{}", server.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_survey_names_the_keys_whose_group_serves_nobody() {
    let redis = Redis::start();
    let database = RelayService::open(&redis.url()).await;
    database.write().await;
    let (members, key) = (format!("account_group_members:{GROUP}"), format!("apikey:{}", KEYS[4].id));
    let finding = |says: Option<&str>| {
        let (status, survey, _) = run(&redis, &["import", "--check", "--json"]);
        let survey: Value = serde_json::from_str(&survey).expect("JSON");
        let findings = survey["findings"].as_array().expect("a list");
        assert_eq!((status, findings.len()), (Some(says.is_some().into()), usize::from(says.is_some())));
        if let Some(says) = says {
            let reason = findings[0]["reason"].as_str().expect("a reason");
            assert!(findings[0]["key"] == *key && reason.contains(says), "{findings:?}");
        }
    };
    finding(None);
    database.run(&["SADD", &members, "of-another-platform"]).await;
    finding(None);
    database.run(&["SREM", &members, ACCOUNTS[0].0]).await;
    finding(Some("no member is taken over"));
    database.run(&["DEL", &members]).await;
    finding(Some("no member is taken over"));
    database.run(&["DEL", &format!("account_group:{GROUP}")]).await;
    finding(Some("which there is not"));
    // What that program calls its own accounts' field leads to a group just as well.
    database
        .run(&["HSET", &key, "claudeAccountId", &format!("group:{GROUP}"), "claudeConsoleAccountId", ""])
        .await;
    finding(Some("which there is not"));
}
