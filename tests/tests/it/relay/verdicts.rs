//! What upstreams' answers mean: for their accounts, for the next one, and for the client.

use std::time::Duration;

use serde_json::{Value, json};
use switchyard::demo::Act;
use tokio::net::TcpListener;

use super::canned::Canned;
use super::{Relay, message, new_account};

const LIMITED: &str = r#"{"type":"error","error":{"type":"rate_limit_error","message":"slow down"}}"#;

fn canned(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
}

/// A relay whose only account is at an upstream that answers this.
async fn only(answer: String) -> (Relay, Canned) {
    let (relay, upstream) = (Relay::start(&[]).await, Canned::answering(answer).await);
    new_account(&relay.host, "only", &upstream.url(), json!({ "priority": 1 })).await;
    (relay, upstream)
}

fn limited(seconds: u16) -> Act {
    Act::Status { status: 429, retry_after: Some(seconds) }
}

fn plain(status: u16) -> Act {
    Act::Status { status, retry_after: None }
}

#[tokio::test]
async fn a_pool_that_is_rate_limited_says_so_and_when_it_is_ready() {
    let relay = Relay::start(&["first", "second"]).await;
    relay.script("first", limited(50));
    relay.script("second", limited(20));
    assert_eq!(relay.ask(false).await.status(), 429);
    let told = relay.ask(false).await;
    let wait: u64 = told.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert_eq!((told.status().as_u16(), (15..=20).contains(&wait)), (429, true), "{wait}");
    let told: Value = told.json().await.unwrap();
    assert_eq!(told["error"]["type"], "rate_limit_error");
    relay.host.stop().await;

    let relay = Relay::start(&["first", "second"]).await;
    relay.script("first", limited(50));
    relay.script("second", plain(529));
    relay.ask(false).await;
    assert_eq!(relay.ask(false).await.status(), 529);
    relay.host.stop().await;
}
