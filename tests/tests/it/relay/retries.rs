//! From one account to the next, and which account a conversation stays with.

use reqwest::Response;
use serde_json::{Value, json};
use switchyard::demo::Act;
use switchyard_tests::host::Host;

use super::{Relay, assert_error, message, new_account};

const ELSEWHERE: [Act; 8] = [
    Act::Status { status: 429, retry_after: Some(1) },
    Act::Status { status: 529, retry_after: None },
    Act::Status { status: 500, retry_after: None },
    Act::Status { status: 401, retry_after: None },
    Act::Status { status: 403, retry_after: None },
    Act::Status { status: 302, retry_after: None },
    Act::Nothing,
    Act::ErrorFirst,
];

#[tokio::test]
async fn another_account_answers_when_the_first_cannot() {
    for act in ELSEWHERE {
        for stream in [false, true] {
            let relay = Relay::start(&["first", "second"]).await;
            relay.script("first", act);
            let response = relay.ask(stream).await;
            assert_eq!(response.status(), 200, "{act:?}");
            let text = response.text().await.unwrap();
            assert!(text.contains("demo upstream") || text.contains("message_stop"), "{act:?}: {text}");
            assert_eq!(relay.asked(), ["first", "second"], "{act:?}");
            relay.host.stop().await;
        }
    }
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_passed_over() {
    let relay = Relay::start(&[]).await;
    new_account(&relay.host, "gone", "http://127.0.0.1:9", json!({ "priority": 1 })).await;
    new_account(&relay.host, "there", &relay.demo.url(), json!({ "priority": 2 })).await;
    assert_eq!(relay.ask(true).await.status(), 200);
    assert_eq!(relay.asked(), ["there"]);
    relay.host.stop().await;
}

#[tokio::test]
async fn what_the_client_did_wrong_is_not_tried_elsewhere() {
    for status in [400, 404, 413, 422] {
        let relay = Relay::start(&["first", "second"]).await;
        relay.script("first", Act::Status { status, retry_after: None });
        assert_eq!(relay.ask(false).await.status(), status);
        assert_eq!(relay.asked(), ["first"]);
        relay.host.stop().await;
    }
}

#[tokio::test]
async fn a_stream_that_has_begun_is_not_begun_again() {
    let relay = Relay::start(&["first", "second"]).await;
    relay.script("first", Act::Cut);
    let text = relay.ask(true).await.text().await.unwrap();
    assert_eq!(text.matches("event: message_start").count(), 1);
    assert_eq!(relay.asked(), ["first"]);
    relay.host.stop().await;
}

async fn refused(act: Act, status: u16, kind: &str) -> (Response, Value) {
    let relay = Relay::start(&["only"]).await;
    relay.script("only", act);
    let mut response = relay.ask(true).await;
    let mut bytes = Vec::new();
    while let Some(piece) = response.chunk().await.unwrap() {
        bytes.extend_from_slice(&piece);
    }
    let body = serde_json::from_slice(&bytes).unwrap();
    assert_error(response.status().as_u16(), response.headers(), &body, status, kind);
    relay.host.stop().await;
    (response, body)
}

#[tokio::test]
async fn the_last_error_is_told_in_the_shape_that_clients_know() {
    let status = |status| Act::Status { status, retry_after: Some(2) };
    let (response, body) = refused(status(429), 429, "rate_limit_error").await;
    assert_eq!(response.headers()["retry-after"], "2");
    assert!(body["request_id"].as_str().unwrap().starts_with("req_demo_"));
    refused(status(529), 529, "overloaded_error").await;
    refused(status(500), 500, "api_error").await;
    let (response, _) = refused(status(403), 403, "permission_error").await;
    assert_eq!(response.headers()["x-should-retry"], "false");
    // Whose credential is refused is the relay's, not the client's.
    let (response, body) = refused(status(401), 502, "api_error").await;
    assert_eq!(response.headers()["x-should-retry"], "false");
    assert!(body["message"].as_str().unwrap().contains("operator"));
    refused(Act::ErrorFirst, 529, "overloaded_error").await;
    refused(Act::Garbage, 502, "api_error").await;
    refused(Act::Nothing, 502, "api_error").await;
}

#[tokio::test]
async fn an_upstream_that_repeats_the_credential_is_not_repeated() {
    let (response, body) = refused(Act::Echo, 400, "invalid_request_error").await;
    assert!(!format!("{body}{:?}", response.headers()).contains("sk-ant-only"));
}

#[tokio::test]
async fn a_silent_upstream_is_given_up_with_a_timeout() {
    let relay = Relay::start_with(&["first", "second"], &["--upstream-timeout", "1"]).await;
    relay.script("first", Act::Silent);
    let response = relay.ask(false).await;
    assert_eq!(response.status(), 504);
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["error"]["type"], "timeout_error");
    assert_eq!(relay.asked(), ["first"]);
    relay.host.stop().await;
}

#[tokio::test]
async fn no_account_at_all_is_said_and_not_worth_repeating() {
    let relay = Relay::start(&[]).await;
    let response = relay.ask(false).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["x-should-retry"]),
        (503, &"false".parse().unwrap())
    );
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["error"]["type"], "api_error");
    relay.host.stop().await;
}

fn in_session(session: &str) -> Value {
    let user = json!({ "device_id": "d", "account_uuid": "", "session_id": session }).to_string();
    let mut message = message(true);
    message["metadata"] = json!({ "user_id": user });
    message
}

#[tokio::test]
async fn a_conversation_stays_with_its_account_even_after_a_restart() {
    let mut relay = Relay::start(&["first", "second"]).await;
    // The first account cannot, once: the conversation goes to the second and stays there.
    relay.script("first", Act::Status { status: 400, retry_after: None });
    relay.script("first", Act::Nothing);
    relay.ask(true).await;
    for _ in 0..2 {
        let response = relay.post("/v1/messages", &in_session("s-1")).await;
        assert!(response.text().await.unwrap().contains("message_stop"));
    }
    assert_eq!(relay.asked(), ["first", "first", "second", "second"]);
    relay
        .host
        .client
        .until("it is written down", async |client| {
            let page = client.get("/store/v1/records/session").await;
            page.body["records"].as_array().is_some_and(|records| !records.is_empty())
        })
        .await;
    let data = relay.host.stop().await;
    relay.host = Host::start_in(data, None, &[]).await;
    let response = relay.post("/v1/messages", &in_session("s-1")).await;
    assert!(response.text().await.unwrap().contains("message_stop"));
    assert_eq!(relay.asked().last().unwrap(), "second");
    let response = relay.post("/v1/messages", &in_session("s-2")).await;
    assert!(response.text().await.unwrap().contains("message_stop"));
    assert_eq!(relay.asked().last().unwrap(), "first");
    relay.host.stop().await;
}
