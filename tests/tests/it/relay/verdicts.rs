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
async fn whether_repeating_helps_is_told_as_the_upstream_says() {
    let other = r#"{"error":"slow down"}"#;
    for (status, body) in [("429 x", LIMITED), ("429 x", other), ("503 x", other)] {
        for says in ["false", "true"] {
            let header = format!("x-should-retry: {says}\r\nretry-after: 2\r\n");
            let (relay, _upstream) = only(canned(status, &header, body)).await;
            let told = relay.ask(false).await;
            assert_eq!(told.headers()["x-should-retry"], says, "{status} {body}");
            assert_eq!(told.headers()["retry-after"], "2");
            relay.host.stop().await;
        }
    }
}

#[tokio::test]
async fn what_passes_is_told_rather_than_what_does_not() {
    for acts in [[limited(2), plain(401)], [plain(403), limited(2)], [limited(2), limited(9)]] {
        let relay = Relay::start(&["first", "second"]).await;
        relay.script("first", acts[0]);
        relay.script("second", acts[1]);
        let told = relay.ask(false).await;
        assert_eq!((told.status().as_u16(), &told.headers()["retry-after"]), (429, &"2".parse().unwrap()));
        assert!(!told.headers().contains_key("x-should-retry"), "{acts:?}");
        assert_eq!(relay.asked(), ["first", "second"]);
        relay.host.stop().await;
    }
}

#[tokio::test]
async fn an_account_that_rests_is_worth_waiting_for_when_another_is_refused() {
    let relay = Relay::start(&["first", "second"]).await;
    relay.script("first", limited(20));
    assert_eq!(relay.ask(false).await.status(), 200);
    relay.script("second", plain(401));
    let told = relay.ask(false).await;
    assert_eq!(told.status(), 429);
    assert!(!told.headers().contains_key("x-should-retry"));
    relay.host.stop().await;
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

#[tokio::test]
async fn an_address_without_the_api_is_a_broken_account() {
    for status in ["404 Not Found", "405 Method Not Allowed"] {
        let (relay, _upstream) = only(canned(status, "", "<html>nothing here")).await;
        assert_eq!(relay.ask(false).await.status(), 502);
        new_account(&relay.host, "good", &relay.demo.url(), json!({ "priority": 2 })).await;
        assert_eq!(relay.ask(false).await.status(), 200);
        relay.host.stop().await;
    }
    let error = r#"{"type":"error","error":{"type":"not_found_error","message":"model: x"}}"#;
    let (relay, _upstream) = only(canned("404 Not Found", "", error)).await;
    assert_eq!(relay.ask(false).await.status(), 404);
    relay.host.stop().await;
}

#[tokio::test]
async fn a_success_that_is_not_200_is_no_answer() {
    let body = r#"{"type":"message","usage":{"input_tokens":1,"output_tokens":1}}"#;
    for status in ["202 Accepted", "204 No Content", "206 Partial Content"] {
        let answer = match status {
            "204 No Content" => "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n".to_owned(),
            _ => canned(status, "content-type: application/json\r\n", body),
        };
        let (relay, _upstream) = only(answer).await;
        let told = relay.ask(false).await;
        assert_eq!(told.status(), 502, "{status}");
        assert_eq!(told.json::<Value>().await.unwrap()["code"], "upstream_garbage");
        relay.host.stop().await;
    }
}

/// A port that takes connections and says nothing.
async fn mute() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

#[tokio::test]
async fn a_connection_that_does_not_come_about_in_time_is_given_up_for_another_account() {
    let (tls, proxy) = (mute().await, mute().await);
    let (tls, proxy) = (tls.local_addr().map(|at| (at, tls)), proxy.local_addr().map(|at| (at, proxy)));
    let ((tls, _tls), (proxy, _proxy)) = (tls.unwrap(), proxy.unwrap());
    let relay = Relay::start_with(&[], &["--upstream-connect", "1"]).await;
    let through = json!({ "type": "http", "host": proxy.ip().to_string(), "port": proxy.port() });
    new_account(&relay.host, "mute", &format!("https://{tls}"), json!({ "priority": 1 })).await;
    let proxied = json!({ "priority": 2, "proxy": through });
    new_account(&relay.host, "proxied", &relay.demo.url(), proxied).await;
    let told = tokio::time::timeout(Duration::from_secs(15), relay.ask(false)).await.expect("an answer");
    assert_eq!(told.status(), 502);
    assert_eq!(told.json::<Value>().await.unwrap()["code"], "upstream_unreachable");
    new_account(&relay.host, "good", &relay.demo.url(), json!({ "priority": 3 })).await;
    assert_eq!(relay.ask(false).await.status(), 200);
    relay.host.stop().await;
}

#[tokio::test]
async fn an_account_that_may_not_is_asked_last_for_a_while() {
    for status in [402, 403] {
        let relay = Relay::start(&["first", "second"]).await;
        relay.script("first", plain(status));
        for _ in 0..2 {
            assert_eq!(relay.ask(false).await.status(), 200);
        }
        assert_eq!(relay.asked(), ["first", "second", "second"]);
        let accounts = relay.host.client.get("/admin/accounts").await.expect(200);
        let accounts = accounts["data"].as_array().unwrap();
        let first = accounts.iter().find(|account| account["name"] == "first").unwrap();
        assert_eq!(first["health"]["status"], "refused");
        relay.host.stop().await;
    }
}

#[tokio::test]
async fn an_answer_that_nobody_can_read_is_paid_once() {
    let encoded = "content-type: application/json\r\ncontent-encoding: gzip\r\n";
    let json = "content-type: application/json\r\n";
    for (headers, body) in [(encoded, "\u{1f}\u{8b}x"), (json, "{\"type\":\"message\",\"usa")] {
        let (relay, _upstream) = only(canned("200 OK", headers, body)).await;
        new_account(&relay.host, "good", &relay.demo.url(), json!({ "priority": 2 })).await;
        let told = relay.ask(false).await;
        assert_eq!(told.status(), 502, "{body:?}");
        assert!(relay.asked().is_empty(), "{body:?}");
        let counted = async || -> Value {
            let usage = relay.http.get(relay.url("/v1/usage")).bearer_auth(&relay.key).send().await.unwrap();
            usage.json::<Value>().await.unwrap()["usage"]["total"]["requests"].clone()
        };
        relay.host.client.until("it is counted", async |_| counted().await == json!(1)).await;
        relay.host.stop().await;
    }
    // A page for people is no answer of this API, and costs nothing.
    let (relay, _upstream) = only(canned("200 OK", "content-type: text/html\r\n", "<html>")).await;
    new_account(&relay.host, "good", &relay.demo.url(), json!({ "priority": 2 })).await;
    assert_eq!(relay.ask(false).await.status(), 200);
    relay.host.stop().await;
}

#[tokio::test]
async fn what_every_upstream_asks_for_is_there_when_the_client_left_it_out() {
    let relay = Relay::start(&["first"]).await;
    let post = relay.http.post(relay.url("/v1/messages")).header("x-api-key", &relay.key);
    assert_eq!(post.body(message(false).to_string()).send().await.unwrap().status(), 200);
    let sent = relay.demo.requests()[0].headers.clone();
    assert_eq!(sent["anthropic-version"], "2023-06-01");
    assert_eq!(sent["content-type"], "application/json");
    assert!(sent["user-agent"].to_str().unwrap().starts_with("switchyard/"));
    relay.host.stop().await;
}

#[tokio::test]
async fn a_conversation_that_another_node_has_moved_is_followed() {
    let relay = Relay::start(&["first", "second"]).await;
    let user = json!({ "device_id": "d", "account_uuid": "", "session_id": "s-1" }).to_string();
    let mut talk = message(false);
    talk["metadata"] = json!({ "user_id": user });
    assert_eq!(relay.post("/v1/messages", &talk).await.status(), 200);
    let client = &relay.host.client;
    let sessions = async || client.get("/store/v1/records/session").await.body["records"].clone();
    client
        .until("it is written down", async |_| sessions().await.as_array().is_some_and(|all| !all.is_empty()))
        .await;
    let id = sessions().await[0]["id"].as_str().expect("an id").to_owned();
    let accounts = client.get("/admin/accounts").await.body["data"].clone();
    let second = accounts.as_array().unwrap().iter().find(|account| account["name"] == "second").unwrap();
    let moved = json!({ "fields": { "accountId": second["id"] }, "ttl_seconds": 600 });
    client.put(&format!("/store/v1/records/session/{id}"), moved).await.expect(200);
    client
        .until("it is followed", async |_| {
            assert_eq!(relay.post("/v1/messages", &talk).await.status(), 200);
            relay.asked().last().unwrap() == "second"
        })
        .await;
    relay.host.stop().await;
}
