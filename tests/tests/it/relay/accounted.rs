//! What is used is counted, and held against limits.

use std::time::Duration;

use serde_json::{Value, json};
use switchyard::demo::Act;
use switchyard_tests::host::{Behind, Host};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::{Relay, assert_error, message, new_account, new_key};

/// What the key has used in total, once it has made this many requests.
async fn used(relay: &Relay, requests: u64) -> Value {
    let ask = async || -> Value {
        let usage = relay.http.get(relay.url("/v1/usage")).bearer_auth(&relay.key).send().await.unwrap();
        usage.json::<Value>().await.unwrap()["usage"]["total"].clone()
    };
    relay.host.client.until("it is counted", async |_| ask().await["requests"] == json!(requests)).await;
    ask().await
}

/// A message whose prompt is cached.
fn cached(stream: bool) -> Value {
    let mut message = message(stream);
    let forever = json!({ "type": "ephemeral", "ttl": "1h" });
    message["system"] =
        json!([{ "type": "text", "text": "Be kind. ".repeat(200), "cache_control": forever }]);
    message
}

#[tokio::test]
async fn a_plain_and_a_streamed_answer_are_counted_as_the_upstream_says() {
    let relay = Relay::start(&["first"]).await;
    let plain: Value = relay.post("/v1/messages", &cached(false)).await.json().await.unwrap();
    let usage = &plain["usage"];
    let field = |name: &str| usage[name].as_u64().unwrap();
    let once = used(&relay, 1).await;
    assert_eq!(once["inputTokens"], usage["input_tokens"]);
    assert_eq!(once["outputTokens"], usage["output_tokens"]);
    assert_eq!(once["cacheCreateTokens"], usage["cache_creation_input_tokens"]);
    assert_eq!(once["cacheReadTokens"], usage["cache_read_input_tokens"]);
    assert!(field("cache_read_input_tokens") > 0 && once["cost"].as_f64().unwrap() > 0.0, "{once}");
    let stream = relay.post("/v1/messages", &cached(true)).await.text().await.unwrap();
    assert!(stream.contains("message_stop"));
    let twice = used(&relay, 2).await;
    // A byte more or less in the body is no token more or less here, and the answers have the same words.
    assert_eq!(twice["outputTokens"], json!(2 * field("output_tokens")));
    assert_eq!(twice["cacheReadTokens"], json!(2 * field("cache_read_input_tokens")));
    relay.host.stop().await;
}

#[tokio::test]
async fn a_client_that_hangs_up_has_used_what_went_by() {
    let relay = Relay::start(&["first"]).await;
    relay.script("first", Act::Slow(Duration::from_millis(20)));
    let (mut response, mut seen) = (relay.ask(true).await, String::new());
    while seen.matches("text_delta").count() < 12 {
        seen += std::str::from_utf8(&response.chunk().await.unwrap().unwrap()).unwrap();
    }
    drop(response);
    assert!(seen.starts_with("event: message_start") && !seen.contains("message_delta"), "{seen}");
    let events =
        seen.lines().filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok());
    let text: usize = events.filter_map(|event| Some(event["delta"]["text"].as_str()?.len())).sum();
    let used = used(&relay, 1).await;
    assert!(used["inputTokens"].as_u64().unwrap() > 0, "{used}");
    // The upstream has told one: the others go by the bytes that the client has.
    assert!(used["outputTokens"].as_u64().unwrap() >= text.div_ceil(4) as u64, "{text} bytes, {used}");
    relay.host.stop().await;
}

#[tokio::test]
async fn a_client_that_hangs_up_while_the_upstream_is_silent_is_noticed() {
    let start = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":\
                 {\"input_tokens\":7,\"output_tokens\":1}}}\n\n";
    let relay = Relay::start(&[]).await;
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", upstream.local_addr().unwrap());
    new_account(&relay.host, "silent", &url, json!({})).await;
    // Says one thing, then nothing; and is rid of the relay when the relay is rid of its client.
    let upstream = tokio::spawn(async move {
        let (mut stream, _) = upstream.accept().await.unwrap();
        let mut request = [0; 8_192];
        assert!(stream.read(&mut request).await.unwrap() > 0);
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        let piece = format!("{head}{:x}\r\n{start}\r\n", start.len());
        stream.write_all(piece.as_bytes()).await.unwrap();
        stream.read(&mut request).await.unwrap_or(0)
    });
    let mut response = relay.ask(true).await;
    assert_eq!(response.chunk().await.unwrap().unwrap(), start);
    drop(response);
    assert_eq!(used(&relay, 1).await["inputTokens"], 7);
    assert_eq!(upstream.await.unwrap(), 0);
    relay.host.stop().await;
}

#[tokio::test]
async fn what_comes_to_nothing_is_not_counted_and_each_try_that_does_is_counted_once() {
    let relay = Relay::start(&["first", "second"]).await;
    relay.script("first", Act::Status { status: 400, retry_after: None });
    relay.script("first", Act::Status { status: 529, retry_after: None });
    relay.ask(true).await;
    relay.ask(true).await.text().await.unwrap();
    relay.ask(false).await.text().await.unwrap();
    assert_eq!(used(&relay, 2).await["requests"], 2);
    relay.host.stop().await;
}

#[tokio::test]
async fn the_demo_upstream_serves_where_there_is_no_account_and_is_counted() {
    let host = Host::start(Behind::Embedded, &["--demo-upstream"]).await;
    let key = new_key(&host, json!({ "name": "Ada" })).await;
    let http = reqwest::Client::new();
    let post = http.post(format!("{}/v1/messages", host.client.base)).header("x-api-key", &key);
    let answer: Value = post.json(&message(false)).send().await.unwrap().json().await.unwrap();
    assert!(answer["content"][0]["text"].as_str().unwrap().contains("Say hi."), "{answer}");
    host.client
        .until("it is counted", async |_| {
            let usage = http.get(format!("{}/v1/usage", host.client.base)).header("x-api-key", &key);
            usage.send().await.unwrap().json::<Value>().await.unwrap()["usage"]["total"]["requests"] == 1
        })
        .await;
    host.stop().await;
}

#[tokio::test]
async fn a_limit_of_concurrency_is_429_until_the_other_request_has_ended() {
    let mut relay = Relay::start(&["first"]).await;
    relay.key = new_key(&relay.host, json!({ "name": "one", "concurrencyLimit": 1 })).await;
    relay.script("first", Act::Slow(Duration::from_millis(20)));
    let mut first = relay.ask(true).await;
    first.chunk().await.unwrap().unwrap();
    let second = relay.ask(false).await;
    let told: Told = Told::of(second).await;
    told.assert(429, "rate_limit_error");
    assert_eq!((&told.body["concurrencyLimit"], &told.body["currentConcurrency"]), (&json!(1), &json!(1)));
    assert_eq!(told.headers["retry-after"], "1");
    drop(first);
    let again = async |_: &_| relay.ask(false).await.status() == 200;
    relay.host.client.until("the first has ended", again).await;
    relay.host.stop().await;
}

#[tokio::test]
async fn limits_of_requests_are_429_and_those_of_cost_402() {
    let mut relay = Relay::start(&["first"]).await;
    let limit = json!({ "name": "few", "rateLimitWindow": 5, "rateLimitRequests": 1 });
    relay.key = new_key(&relay.host, limit).await;
    assert_eq!(relay.ask(false).await.status(), 200);
    let told = Told::of(relay.ask(false).await).await;
    told.assert(429, "rate_limit_error");
    assert_eq!(told.body["requestLimit"], 1);
    assert!(told.headers.contains_key("retry-after"));
    relay.key = new_key(&relay.host, json!({ "name": "poor", "dailyCostLimit": 0.000_001 })).await;
    assert_eq!(relay.ask(false).await.status(), 200);
    // For a moment what has ended is held as reserved, until the counters have it for certain.
    let settled = async |_: &_| {
        let told = Told::of(relay.ask(false).await).await;
        if told.status == 402 {
            return true;
        }
        told.assert(429, "rate_limit_error");
        assert_eq!(told.headers["retry-after"], "3", "{}", told.body);
        false
    };
    relay.host.client.until("the limit is reached", settled).await;
    let told = Told::of(relay.ask(false).await).await;
    told.assert(402, "billing_error");
    assert_eq!(
        (&told.body["code"], &told.headers["x-should-retry"]),
        (&json!("daily_cost_limit_exceeded"), &"false".parse().unwrap())
    );
    assert!(told.body["currentCost"].is_number() && told.body["resetAt"].is_string(), "{}", told.body);
    relay.host.stop().await;
}

/// An error with its headers.
struct Told {
    status: u16,
    headers: reqwest::header::HeaderMap,
    body: Value,
}

impl Told {
    async fn of(response: reqwest::Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, body: response.json().await.unwrap() }
    }

    #[track_caller]
    fn assert(&self, status: u16, kind: &str) {
        assert_error(self.status, &self.headers, &self.body, status, kind);
    }
}
