//! Connections to upstreams: those that end as they are used, and those over TLS.

use std::io::{Read, Write};
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{Relay, message, new_account};

const WHOLE: &str = "{\"type\":\"message\",\"id\":\"m1\",\"model\":\"claude-sonnet-4-5\",\"content\":[],\
    \"usage\":{\"input_tokens\":3,\"output_tokens\":4}}";

fn answer() -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{WHOLE}",
        WHOLE.len()
    )
}

/// Reads a request, head and body.
async fn read(stream: &mut TcpStream) {
    let (mut seen, mut piece) = (Vec::new(), [0; 4_096]);
    while !seen.ends_with(b"}") {
        let read = stream.read(&mut piece).await.unwrap();
        assert!(read > 0, "the request breaks off");
        seen.extend_from_slice(&piece[..read]);
    }
}

async fn with_upstream() -> (Relay, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let relay = Relay::start(&[]).await;
    new_account(&relay.host, "live", &format!("http://{}", listener.local_addr().unwrap()), json!({})).await;
    (relay, listener)
}

/// Answers one request and leaves the connection open.
async fn serve(listener: &TcpListener) -> TcpStream {
    let accepted = tokio::time::timeout(Duration::from_secs(20), listener.accept());
    let (mut stream, _) = accepted.await.expect("the request comes").unwrap();
    read(&mut stream).await;
    stream.write_all(answer().as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn a_request_that_meets_a_connection_as_it_closes_is_sent_again() {
    let (relay, listener) = with_upstream().await;
    let (first, stream) = tokio::join!(relay.ask(false), serve(&listener));
    assert_eq!(first.bytes().await.unwrap(), WHOLE);
    let closes = async {
        // Its beginning has come, and nobody reads it; its end finds no room.
        stream.readable().await.unwrap();
        drop(stream);
        serve(&listener).await
    };
    let mut long = message(false);
    long["messages"][0]["content"] = "x".repeat(24 << 20).into();
    let (second, _open) = tokio::join!(relay.post("/v1/messages", &long), closes);
    assert_eq!(second.status(), 200);
    assert_eq!(second.text().await.unwrap(), WHOLE);
    relay.host.stop().await;
}

#[tokio::test]
async fn a_request_that_an_upstream_has_read_is_not_sent_again() {
    let (relay, listener) = with_upstream().await;
    let (first, mut stream) = tokio::join!(relay.ask(false), serve(&listener));
    assert_eq!(first.bytes().await.unwrap(), WHOLE);
    let closes = async {
        read(&mut stream).await;
        drop(stream);
    };
    let (second, ()) = tokio::join!(relay.ask(false), closes);
    assert_eq!(second.status(), 502);
    relay.host.stop().await;
}

#[tokio::test]
async fn a_request_that_an_upstream_has_read_before_it_resets_is_not_sent_again() {
    let (relay, listener) = with_upstream().await;
    let (first, mut stream) = tokio::join!(relay.ask(false), serve(&listener));
    assert_eq!(first.bytes().await.unwrap(), WHOLE);
    let resets = async {
        read(&mut stream).await;
        stream.set_zero_linger().unwrap();
        drop(stream);
        tokio::time::timeout(Duration::from_secs(3), listener.accept()).await
    };
    let (second, again) = tokio::join!(relay.ask(false), resets);
    assert_eq!(second.status(), 502);
    assert!(again.is_err(), "it was sent again");
    relay.host.stop().await;
}

/// An upstream over TLS with a certificate of its own authority; answers its URL.
fn over_tls() -> (String, String) {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![own.cert.der().clone()], key).unwrap();
    let (config, listener) = (Arc::new(config), StdListener::bind("127.0.0.1:0").unwrap());
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = ServerConnection::new(config.clone()).unwrap();
            let mut stream = StreamOwned::new(connection, stream.unwrap());
            let (mut seen, mut piece) = (Vec::new(), [0; 4_096]);
            while !seen.ends_with(b"}") {
                match stream.read(&mut piece) {
                    Ok(read) if read > 0 => seen.extend_from_slice(&piece[..read]),
                    // It does not trust this one.
                    _ => break,
                }
            }
            let _ = stream.write_all(answer().as_bytes());
        }
    });
    (url, own.cert.pem())
}

#[tokio::test]
async fn an_upstream_is_trusted_by_its_authority_and_one_of_the_operator_may_be_added() {
    let (url, ca) = over_tls();
    let relay = Relay::start(&[]).await;
    new_account(&relay.host, "own", &url, json!({})).await;
    let told = relay.ask(false).await;
    assert_eq!((told.status().as_u16(), &told.headers()["x-should-retry"]), (502, &"false".parse().unwrap()));
    let told: Value = told.json().await.unwrap();
    assert_eq!(told["code"], "upstream_untrusted");
    assert!(told["error"]["message"].as_str().unwrap().contains("TLS certificate"), "{told}");
    relay.host.stop().await;

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, ca).unwrap();
    let relay = Relay::start_with(&[], &["--upstream-ca", file.to_str().unwrap()]).await;
    new_account(&relay.host, "own", &url, json!({})).await;
    let answered = relay.ask(false).await;
    assert_eq!((answered.status().as_u16(), answered.text().await.unwrap().as_str()), (200, WHOLE));
    relay.host.stop().await;
}
