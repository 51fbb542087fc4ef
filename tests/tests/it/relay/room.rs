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
