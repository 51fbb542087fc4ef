//! Bodies that are announced, and what comes of them.

use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::{Relay, message, new_key};

/// A key whose large bodies hardly come does not keep others out.
#[tokio::test]
async fn slow_large_bodies_of_one_key_shut_nobody_out() {
    let relay = Relay::start(&["first"]).await;
    let another = new_key(&relay.host, json!({ "name": "Bea" })).await;
    let address = relay.host.client.base.trim_start_matches("http://").to_owned();
    let mut slow = Vec::new();
    for n in 0..20 {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let length = if n % 2 == 0 { "content-length: 33554432" } else { "transfer-encoding: chunked" };
        let begun = if n % 2 == 0 { "{" } else { "1\r\n{\r\n" };
        let key = &relay.key;
        let head =
            format!("POST /v1/messages HTTP/1.1\r\nhost: a\r\nx-api-key: {key}\r\n{length}\r\n\r\n{begun}");
        stream.write_all(head.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    for key in [&another, &relay.key] {
        let request =
            relay.http.post(relay.url("/v1/messages")).header("x-api-key", key).json(&message(false));
        assert_eq!(request.send().await.unwrap().status(), 200);
    }
    drop(slow);
    relay.host.stop().await;
}

/// What the person in front of Claude Code reads.
#[tokio::test]
async fn refusals_of_bodies_and_paths_say_what_to_do() {
    let relay = Relay::start(&["first"]).await;
    let post = |path: &str| relay.http.post(relay.url(path)).header("x-api-key", &relay.key);
    let get = relay.http.get(relay.url("/v1/messages")).header("x-api-key", &relay.key);
    for (request, status, says) in [
        (post("/v1/messages").body(vec![b' '; (32 << 20) + 1]), 413, "larger than 32 MiB"),
        (post("/v1/v1/messages").json(&message(false)), 404, "ANTHROPIC_BASE_URL"),
        (get, 405, "with POST"),
        (post("/v1/messages").header("content-encoding", "gzip").body("x"), 415, "Content-Encoding"),
        (
            post("/v1/messages").body("{\"model\":\"m\",\"messages\":[],\"metadata\":\"x\"}"),
            400,
            "must be an object",
        ),
    ] {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status);
        let told: serde_json::Value = response.json().await.unwrap();
        let sentence = told["error"]["message"].as_str().unwrap();
        assert!(told["type"] == "error" && sentence.contains(says), "{told}");
    }
    for path in ["/api/health", "/claude/health"] {
        let health: serde_json::Value =
            relay.http.get(relay.url(path)).send().await.unwrap().json().await.unwrap();
        assert_eq!(health["status"], "healthy", "{path}");
    }
    relay.host.stop().await;
}
