//! Streams: every byte, at once, and how they end.

use serde_json::Value;
use switchyard::demo::Act;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::canned::Canned;
use super::{Relay, new_account};

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

#[tokio::test]
async fn a_stream_comes_back_byte_for_byte_however_it_is_cut() {
    let events = "event: message_start\r\ndata: {\"type\":\"message_start\"}\r\n\r\n: a comment\n\nevent: never_heard\n\
                  data: {\"type\":\"never_heard\"}\n\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    for size in [1, 7, 4_096] {
        let pieces: Vec<&str> =
            events.as_bytes().chunks(size).map(|piece| std::str::from_utf8(piece).unwrap()).collect();
        let body: String = pieces.into_iter().map(chunk).collect();
        let upstream = Canned::answering(format!("{HEAD}{body}0\r\n\r\n")).await;
        let relay = Relay::start(&[]).await;
        new_account(&relay.host, "canned", &upstream.url(), serde_json::json!({})).await;
        let response = relay.ask(true).await;
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["x-accel-buffering"], "no");
        assert_eq!(response.text().await.unwrap(), events, "in pieces of {size}");
        relay.host.stop().await;
    }
}

#[tokio::test]
async fn each_event_is_passed_on_before_the_next_one_is_there() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let relay = Relay::start(&[]).await;
    let url = format!("http://{}", listener.local_addr().unwrap());
    new_account(&relay.host, "live", &url, serde_json::json!({})).await;
    // The next event is written only once the client has the one before.
    let (got, mut wait) = tokio::sync::mpsc::channel::<()>(1);
    let upstream = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 8_192];
        assert!(stream.read(&mut request).await.unwrap() > 0);
        stream.write_all(HEAD.as_bytes()).await.unwrap();
        for number in 0..5 {
            stream.write_all(chunk(&format!("event: e\ndata: {number}\n\n")).as_bytes()).await.unwrap();
            wait.recv().await.unwrap();
        }
        stream.write_all(b"0\r\n\r\n").await.unwrap();
    });
    let mut response = relay.ask(true).await;
    for number in 0..5 {
        let piece = response.chunk().await.unwrap().unwrap();
        assert_eq!(piece, format!("event: e\ndata: {number}\n\n"));
        got.send(()).await.unwrap();
    }
    assert_eq!(response.chunk().await.unwrap(), None);
    upstream.await.unwrap();
    relay.host.stop().await;
}

#[tokio::test]
async fn a_stream_that_breaks_off_between_events_ends_with_an_error_event() {
    let relay = Relay::start(&["first"]).await;
    relay.script("first", Act::Cut);
    let text = relay.ask(true).await.text().await.unwrap();
    assert!(text.starts_with("event: message_start\n"), "{text}");
    let (_, last) = text.trim_end().rsplit_once("\n\n").unwrap();
    let data = last.strip_prefix("event: error\ndata: ").expect("an error at the end");
    let error: Value = serde_json::from_str(data).unwrap();
    assert_eq!((&error["type"], &error["error"]["type"]), (&"error".into(), &"api_error".into()));
    relay.host.stop().await;
}

#[tokio::test]
async fn a_stream_that_breaks_off_within_an_event_breaks_off_for_the_client_too() {
    let relay = Relay::start(&["first"]).await;
    relay.script("first", Act::HalfFrame);
    assert!(relay.ask(true).await.text().await.is_err());
    relay.host.stop().await;
}

#[tokio::test]
async fn an_upstream_that_stays_silent_in_the_middle_is_given_up() {
    let relay = Relay::start_with(&["first"], &["--upstream-silence", "1"]).await;
    relay.script("first", Act::Stall);
    let text = relay.ask(true).await.text().await.unwrap();
    assert!(text.contains("event: content_block_delta") && text.contains("stopped answering"), "{text}");
    relay.host.stop().await;
}

#[tokio::test]
async fn what_an_upstream_ends_itself_is_passed_on_as_it_is() {
    let relay = Relay::start(&["first"]).await;
    relay.script("first", Act::NoStop);
    let without = relay.ask(true).await.text().await.unwrap();
    assert!(
        without.contains("message_delta")
            && !without.contains("message_stop")
            && !without.contains("event: error")
    );
    relay.script("first", Act::ErrorEvent);
    let error = relay.ask(true).await.text().await.unwrap();
    assert!(error.ends_with("data: {\"error\":{\"message\":\"Overloaded\",\"type\":\"overloaded_error\"},\"type\":\"error\"}\n\n"), "{error}");
    relay.host.stop().await;
}
