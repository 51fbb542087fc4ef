//! Clients that leave, upstreams that break off: what is let go, and what is counted.

use std::time::Duration;

use serde_json::{Value, json};
use switchyard::demo::Act;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{Relay, message, new_account, new_key};

const START: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"type\":\"message\",\"id\":\"m\",\
    \"model\":\"claude-sonnet-4-5\",\"usage\":{\"input_tokens\":11,\"output_tokens\":1}}}\n\n";
/// Far below what the relay waits for an upstream that is silent.
const NOTICED: Duration = Duration::from_secs(20);

/// A relay whose only account may have one call under way, and whose key may too, at an upstream of the test.
async fn alone() -> (Relay, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut relay = Relay::start(&[]).await;
    let url = format!("http://{}", listener.local_addr().unwrap());
    new_account(&relay.host, "live", &url, json!({ "maxConcurrentTasks": 1 })).await;
    relay.key = new_key(&relay.host, json!({ "name": "one", "concurrencyLimit": 1 })).await;
    (relay, listener)
}

/// The next request, head and body, on a new connection.
async fn accept(listener: &TcpListener) -> TcpStream {
    let (mut stream, _) = listener.accept().await.unwrap();
    let (mut seen, mut piece) = (Vec::new(), [0; 4_096]);
    while !seen.ends_with(b"}") {
        let read = stream.read(&mut piece).await.unwrap();
        assert!(read > 0, "the request breaks off");
        seen.extend_from_slice(&piece[..read]);
    }
    stream
}

/// Waits until the relay has closed its connection.
async fn closed(mut stream: TcpStream) {
    let end = tokio::time::timeout(NOTICED, stream.read(&mut [0; 16])).await.expect("the relay lets go");
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
}

/// Asks over a connection of its own, which ends when it is dropped.
async fn ask(relay: &Relay, stream: bool) -> TcpStream {
    let body = message(stream).to_string();
    let mut client = TcpStream::connect(relay.url("").strip_prefix("http://").unwrap()).await.unwrap();
    let head = format!(
        "POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: {}\r\ncontent-length: {}\r\n\r\n",
        relay.key,
        body.len()
    );
    client.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    client
}

/// The next request is let in and reaches the upstream: neither the key nor the account has a call under way.
async fn is_free(relay: &Relay, listener: &TcpListener) {
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{}", WHOLE.len(), WHOLE);
    let served = async { accept(listener).await.write_all(answer.as_bytes()).await.unwrap() };
    let again = async |_: &_| relay.ask(false).await.status() == 200;
    tokio::join!(served, relay.host.client.until("there is room again", again));
}

const WHOLE: &str = "{\"type\":\"message\",\"id\":\"m1\",\"model\":\"claude-sonnet-4-5\",\"content\":[],\
    \"usage\":{\"input_tokens\":3,\"output_tokens\":4}}";

/// What the key has used in total, once that are so many requests.
async fn used(relay: &Relay, requests: u64) -> Value {
    let ask = async || -> Value {
        let usage = relay.http.get(relay.url("/v1/usage")).bearer_auth(&relay.key).send().await.unwrap();
        usage.json::<Value>().await.unwrap()["usage"]["total"].clone()
    };
    relay.host.client.until("it is counted", async |_| ask().await["requests"] == json!(requests)).await;
    ask().await
}

#[tokio::test]
async fn a_client_that_leaves_before_the_first_byte_lets_go_of_everything() {
    let (relay, listener) = alone().await;
    for stream in [false, true] {
        let client = ask(&relay, stream).await;
        let upstream = accept(&listener).await;
        drop(client);
        closed(upstream).await;
        is_free(&relay, &listener).await;
    }
    relay.host.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_between_two_events_lets_go_of_everything_and_has_used_what_went_by() {
    let (relay, listener) = alone().await;
    let mut client = ask(&relay, true).await;
    let mut upstream = accept(&listener).await;
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let first = format!("{head}{:x}\r\n{START}\r\n", START.len());
    upstream.write_all(first.as_bytes()).await.unwrap();
    let (mut seen, mut piece) = (String::new(), [0; 4_096]);
    while !seen.contains("message_start") {
        let read = client.read(&mut piece).await.unwrap();
        assert!(read > 0, "{seen}");
        seen += std::str::from_utf8(&piece[..read]).unwrap();
    }
    drop(client);
    closed(upstream).await;
    let used = used(&relay, 1).await;
    assert_eq!((&used["inputTokens"], &used["outputTokens"]), (&json!(11), &json!(1)));
    is_free(&relay, &listener).await;
    relay.host.stop().await;
}

#[tokio::test]
async fn a_client_that_only_closes_its_half_has_left_too() {
    let (relay, listener) = alone().await;
    let mut client = ask(&relay, true).await;
    let upstream = accept(&listener).await;
    client.shutdown().await.unwrap();
    closed(upstream).await;
    relay.host.stop().await;
}

fn head(kind: &str, length: usize) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n")
}

/// So many requests, and not a token.
async fn assert_nothing_known(relay: &Relay, requests: u64) {
    let used = used(relay, requests).await;
    assert_eq!((&used["allTokens"], &used["cost"]), (&json!(0), &json!(0.0)), "{used}");
}

#[tokio::test]
async fn an_answer_that_the_upstream_cuts_short_is_counted_without_what_cannot_be_known() {
    for (kind, half) in [("application/json", &WHOLE[..40]), ("text/event-stream", "")] {
        let (relay, listener) = alone().await;
        let cut = async {
            let mut upstream = accept(&listener).await;
            upstream.write_all(format!("{}{half}", head(kind, WHOLE.len())).as_bytes()).await.unwrap();
        };
        let (told, ()) = tokio::join!(relay.ask(false), cut);
        assert_eq!(told.status(), 502, "{kind}");
        assert_nothing_known(&relay, 1).await;
        relay.host.stop().await;
    }
}

#[tokio::test]
async fn each_attempt_that_was_begun_to_be_answered_is_counted() {
    let relay = Relay::start(&["first", "second"]).await;
    relay.script("first", Act::Cut);
    let whole: Value = relay.ask(false).await.json().await.unwrap();
    assert_eq!(relay.asked(), ["first", "second"]);
    assert_eq!(used(&relay, 2).await["outputTokens"], whole["usage"]["output_tokens"]);
    relay.host.stop().await;
}

#[tokio::test]
async fn what_is_no_answer_under_a_status_of_200_is_not_counted() {
    for stream in [false, true] {
        let relay = Relay::start(&["first", "second"]).await;
        relay.script("first", Act::ErrorFirst);
        relay.ask(stream).await.text().await.unwrap();
        assert_eq!(relay.asked(), ["first", "second"]);
        assert!(used(&relay, 1).await["outputTokens"].as_u64().unwrap() > 0, "{stream}");
        relay.host.stop().await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_within_a_plain_answer_is_counted_without_what_cannot_be_known() {
    let (relay, listener) = alone().await;
    let client = ask(&relay, false).await;
    let mut upstream = accept(&listener).await;
    upstream.write_all(head("application/json", 31 << 20).as_bytes()).await.unwrap();
    // More than fits between the two: the relay has begun to read it.
    upstream.write_all(&vec![b' '; 30 << 20]).await.unwrap();
    drop(client);
    closed(upstream).await;
    assert_nothing_known(&relay, 1).await;
    is_free(&relay, &listener).await;
    relay.host.stop().await;
}
