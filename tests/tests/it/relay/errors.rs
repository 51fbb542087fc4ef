//! What a client does wrong, and what it is told.

use reqwest::{Method, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Relay, message};

async fn told(response: Response, status: u16, kind: &str) -> Value {
    let headers = format!("{:?}", response.headers());
    let (status_is, id) = (response.status().as_u16(), response.headers()["request-id"].clone());
    let body: Value = response.json().await.unwrap();
    assert_eq!((status_is, &body["error"]["type"]), (status, &json!(kind)), "{body}");
    assert_eq!((&body["type"], body["request_id"].as_str()), (&json!("error"), id.to_str().ok()), "{body}");
    assert_eq!(body["message"], body["error"]["message"]);
    let lasting = [401, 402, 403].contains(&status);
    assert_eq!(headers.contains("\"x-should-retry\": \"false\""), lasting, "{headers}");
    body
}

#[tokio::test]
async fn a_key_that_is_missing_unknown_or_ambiguous_is_401() {
    let relay = Relay::start(&["first"]).await;
    let post = || relay.http.post(relay.url("/v1/messages")).json(&message(false));
    let stranger = format!("cr_{}", "0".repeat(64));
    let missing = told(post().send().await.unwrap(), 401, "authentication_error").await;
    assert_eq!(missing["code"], "missing_api_key");
    let unknown = post().bearer_auth(&stranger).send().await.unwrap();
    let unknown = told(unknown, 401, "authentication_error").await;
    assert!(!unknown.to_string().contains(&stranger));
    let two = post().bearer_auth(&stranger).header("x-api-key", &relay.key);
    let two = told(two.send().await.unwrap(), 401, "authentication_error").await;
    assert_eq!(two["code"], "ambiguous_api_key");
    for header in ["x-api-key", "x-goog-api-key", "api-key"] {
        assert_eq!(post().header(header, &relay.key).send().await.unwrap().status(), 200, "{header}");
    }
    let both = post().bearer_auth(&relay.key).header("x-api-key", &relay.key).send().await.unwrap();
    assert_eq!(both.status(), 200);
    for path in ["/v1/models", "/v1/me", "/v1/key-info", "/v1/usage"] {
        told(relay.http.get(relay.url(path)).send().await.unwrap(), 401, "authentication_error").await;
    }
    relay.host.stop().await;
}

#[tokio::test]
async fn a_key_in_the_query_goes_nowhere() {
    let relay = Relay::start(&["first"]).await;
    let every = |key: &str| key.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
    for key in [relay.key.clone(), relay.key.replace('_', "%5F"), every(&relay.key)] {
        let path = format!("/v1/messages?key={key}");
        told(relay.post(&path, &message(false)).await, 400, "invalid_request_error").await;
    }
    assert!(relay.asked().is_empty());
    relay.host.stop().await;
}

#[tokio::test]
async fn a_body_that_is_no_request_is_400_and_goes_nowhere() {
    let relay = Relay::start(&["first"]).await;
    for (body, says) in [
        ("", "JSON object"),
        ("[]", "JSON object"),
        ("{\"model\":", "not JSON"),
        (r#"{"model":"m"}"#, "messages (must be an array)"),
        (r#"{"model":"m","messages":{}}"#, "messages (must be an array)"),
        (r#"{"messages":[]}"#, "model"),
    ] {
        let post = relay.http.post(relay.url("/v1/messages")).header("x-api-key", &relay.key);
        let answer = told(post.body(body).send().await.unwrap(), 400, "invalid_request_error").await;
        assert!(answer["message"].as_str().unwrap().contains(says), "{body}: {answer}");
    }
    assert!(relay.asked().is_empty());
    relay.host.stop().await;
}

#[tokio::test]
async fn a_body_may_have_32_mib_and_not_a_byte_more() {
    let relay = Relay::start(&["first"]).await;
    let body = |length: usize| {
        let start = r#"{"model":"m","max_tokens":1,"messages":[],"padding":""#;
        format!("{start}{}\"}}", "x".repeat(length - start.len() - 2))
    };
    let post =
        |body: String| relay.http.post(relay.url("/v1/messages")).header("x-api-key", &relay.key).body(body);
    assert_eq!(post(body(32 << 20)).send().await.unwrap().status(), 200);
    told(post(body((32 << 20) + 1)).send().await.unwrap(), 413, "request_too_large").await;
    let pieces = body((32 << 20) + 1).into_bytes();
    let pieces: Vec<_> =
        pieces.chunks(1 << 20).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect();
    let chunked = reqwest::Body::wrap_stream(futures::stream::iter(pieces));
    let post = relay.http.post(relay.url("/v1/messages")).header("x-api-key", &relay.key).body(chunked);
    told(post.send().await.unwrap(), 413, "request_too_large").await;
    relay.host.stop().await;
}

#[tokio::test]
async fn a_chunked_body_is_taken() {
    let relay = Relay::start(&["first"]).await;
    let pieces: Vec<_> = message(false).to_string().into_bytes();
    let pieces: Vec<_> = pieces.chunks(7).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect();
    let chunked = reqwest::Body::wrap_stream(futures::stream::iter(pieces));
    let post = relay.http.post(relay.url("/v1/messages")).header("x-api-key", &relay.key).body(chunked);
    assert_eq!(post.send().await.unwrap().status(), 200);
    assert_eq!(relay.demo.requests()[0].body, message(false).to_string());
    relay.host.stop().await;
}

#[tokio::test]
async fn a_body_that_stops_coming_is_408() {
    let relay = Relay::start(&["first"]).await;
    let mut stream =
        TcpStream::connect(relay.host.client.base.strip_prefix("http://").unwrap()).await.unwrap();
    let head = format!(
        "POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: {}\r\ncontent-length: 99\r\n\r\n{{",
        relay.key
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("timeout_error"), "{answer}");
    relay.host.stop().await;
}

#[tokio::test]
async fn an_encoded_body_is_refused_and_what_is_not_there_is_404() {
    let relay = Relay::start(&["first"]).await;
    let post = relay.http.post(relay.url("/v1/messages")).header("x-api-key", &relay.key);
    let post = post.header("content-encoding", "gzip").body("x");
    told(post.send().await.unwrap(), 415, "invalid_request_error").await;
    for path in ["/v1/complete", "/api/v1/nothing", "/claude/v1/nothing"] {
        told(relay.post(path, &json!({})).await, 404, "not_found_error").await;
    }
    let wrong = relay.http.request(Method::DELETE, relay.url("/v1/messages")).send().await.unwrap();
    assert_eq!(wrong.headers()["allow"], "POST");
    told(wrong, 405, "invalid_request_error").await;
    relay.host.stop().await;
}

#[tokio::test]
async fn the_admin_token_is_no_key_and_a_key_is_no_admin_token() {
    let relay = Relay::start(&["first"]).await;
    let post = relay.http.post(relay.url("/v1/messages")).bearer_auth(switchyard_tests::host::TOKEN);
    told(post.json(&message(false)).send().await.unwrap(), 401, "authentication_error").await;
    let admin = relay.http.get(relay.url("/admin/strategies")).bearer_auth(&relay.key).send().await.unwrap();
    assert_eq!(admin.status(), 401);
    assert_eq!(admin.headers()["content-type"], "application/problem+json");
    relay.host.stop().await;
}
