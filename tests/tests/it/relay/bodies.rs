//! What goes upstream and what comes back, byte for byte.

use serde_json::json;
use switchyard_tests::host::{Behind, Host};

use super::canned::Canned;
use super::{Relay, new_account, new_key};

/// With fields that nobody knows, in an order and with spaces that no serializer would choose.
const BODY: &str = "{ \"zzz\" : [1.0, 1e2, \"\\u00e9\"],\"model\":\"claude-sonnet-4-5\",\n  \"max_tokens\":5,\
    \"messages\":[{\"role\":\"system\",\"content\":\"é\"},{\"content\":[],\"role\":\"user\"}] ,\"stream\":false}";
const ANSWER: &str = "{\"type\" : \"message\", \"id\":\"m1\",\"model\":\"claude-sonnet-4-5\",\"content\":[ ],\
    \"usage\":{\"input_tokens\":3,\"output_tokens\":4,\"new\":{}}}";

#[tokio::test]
async fn a_plain_request_goes_up_and_its_answer_comes_back_unchanged() {
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nrequest-id: req_up\r\nset-cookie: a=b\r\n\
         anthropic-organization-id: org\r\nanthropic-ratelimit-requests-remaining: 7\r\n\
         content-length: {}\r\n\r\n{ANSWER}",
        ANSWER.len()
    );
    let upstream = Canned::answering(answer).await;
    let relay = Relay::start(&[]).await;
    new_account(&relay.host, "canned", &upstream.url(), json!({})).await;
    let request = relay.http.post(relay.url("/v1/messages?beta=true&x=%20y"));
    let request = request
        .header("authorization", format!("Bearer {}", relay.key))
        .header("anthropic-version", "2026-10-21")
        .header("anthropic-beta", "claude-code-20250219,interleaved-thinking-2025-05-14")
        .header("x-stainless-retry-count", "0")
        .header("content-type", "application/json")
        .header("accept-encoding", "gzip, br")
        .header("cookie", format!("key={}", relay.key));
    let response = request.body(BODY).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(header("request-id").as_deref(), Some("req_up"));
    assert_eq!(header("anthropic-ratelimit-requests-remaining").as_deref(), Some("7"));
    assert!(header("x-request-id").is_some());
    assert_eq!((header("set-cookie"), header("anthropic-organization-id")), (None, None));
    assert_eq!(response.text().await.unwrap(), ANSWER);

    let seen = upstream.seen().await;
    let seen = String::from_utf8(seen[0].clone()).unwrap();
    let (head, body) = seen.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, BODY);
    assert!(head.starts_with("POST /v1/messages?beta=true&x=%20y HTTP/1.1"), "{head}");
    for line in [
        "anthropic-version: 2026-10-21",
        "anthropic-beta: claude-code-20250219,interleaved-thinking-2025-05-14",
        "x-stainless-retry-count: 0",
        "x-api-key: sk-ant-canned",
        "accept-encoding: identity",
    ] {
        assert!(head.lines().any(|found| found.eq_ignore_ascii_case(line)), "{line} is not in {head}");
    }
    assert!(
        !seen.contains(&relay.key) && !head.contains("cookie") && !head.contains("authorization"),
        "{head}"
    );
    relay.host.stop().await;
}

#[tokio::test]
async fn a_bearer_account_signs_as_one_and_a_base_may_have_a_path() {
    let upstream =
        Canned::answering(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{ANSWER}", ANSWER.len()))
            .await;
    let host = Host::start(Behind::Embedded, &[]).await;
    let key = new_key(&host, json!({ "name": "Ada" })).await;
    let base = format!("{}/anthropic/v1/messages", upstream.url());
    new_account(&host, "pathed", &base, json!({})).await;
    let response = reqwest::Client::new().post(format!("{}/api/v1/messages", host.client.base));
    let response = response.header("x-api-key", &key).body(BODY).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let seen = String::from_utf8(upstream.seen().await[0].clone()).unwrap();
    assert!(seen.starts_with("POST /anthropic/v1/messages HTTP/1.1"), "{seen}");
    host.stop().await;
}

#[tokio::test]
async fn tokens_are_counted_by_the_upstream() {
    let relay = Relay::start(&["first"]).await;
    let body =
        json!({ "model": "claude-sonnet-4-5", "messages": [{ "role": "user", "content": "Say hi." }] });
    let answer = relay.post("/v1/messages/count_tokens", &body).await;
    let answer: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(answer["input_tokens"], json!(body.to_string().len() / 4));
    assert!(relay.asked().is_empty());
    relay.host.stop().await;
}
