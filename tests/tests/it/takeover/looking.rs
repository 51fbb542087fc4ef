//! Where the commands look, and what they find there.

use serde_json::{Value, json};
use switchyard_tests::relay_service::{KEYS, RelayService};
use switchyard_tests::servers::{Redis, Switchyard};

use super::run;

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
