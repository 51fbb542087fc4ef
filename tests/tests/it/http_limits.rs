//! Limits of connections and bodies, over raw sockets: they must really bite.

use std::time::Duration;

use serde_json::json;
use switchyard_tests::host::{Behind, Host, TOKEN};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A test that waits for a limit gives up after this long.
const PATIENCE: Duration = Duration::from_secs(60);

async fn connect(host: &Host) -> TcpStream {
    TcpStream::connect(host.client.base.strip_prefix("http://").unwrap()).await.unwrap()
}

/// Everything the server sends until it closes the connection.
async fn until_closed(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset closes it, too.
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("it is closed");
    String::from_utf8(bytes).unwrap()
}

fn put(length: usize) -> String {
    format!(
        "PUT /store/v1/records/api_key/k1 HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n\
         content-length: {length}\r\n\r\n"
    )
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    let host = Host::start(Behind::Embedded, &[]).await;
    assert_eq!(until_closed(&mut connect(&host).await).await, "");
    host.stop().await;
}

#[tokio::test]
async fn a_head_that_never_ends_is_closed() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let mut stream = connect(&host).await;
    stream.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n").await.unwrap();
    let answer = until_closed(&mut stream).await;
    assert!(!answer.contains("200"), "{answer}");
    host.stop().await;
}

#[tokio::test]
async fn a_head_that_is_slow_the_second_time_is_closed() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let mut stream = connect(&host).await;
    stream.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\nGET /livez HTTP/1.1\r\n").await.unwrap();
    let answer = until_closed(&mut stream).await;
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 1, "{answer}");
    host.stop().await;
}

#[tokio::test]
async fn a_silent_body_is_answered_408() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let mut stream = connect(&host).await;
    stream.write_all(put(100).as_bytes()).await.unwrap();
    stream.write_all(b"{\"fields\":").await.unwrap();
    let answer = until_closed(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("body-timeout"), "{answer}");
    host.stop().await;
}

#[tokio::test]
async fn an_announced_length_is_refused_before_anything_is_read() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let mut stream = connect(&host).await;
    stream.write_all(put(2 << 20).as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    host.stop().await;
}

#[tokio::test]
async fn a_chunked_body_is_refused_at_its_limit() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let mut stream = connect(&host).await;
    let head = put(0).replace("content-length: 0", "transfer-encoding: chunked");
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut read, mut write) = stream.split();
    let chunk = [b"10000\r\n".as_slice(), &[b'x'; 0x10000], b"\r\n"].concat();
    let sending = async {
        // Until the server has had enough.
        while write.write_all(&chunk).await.is_ok() {}
    };
    let mut answer = [0; 12];
    tokio::select! {
        () = sending => panic!("closed without an answer"),
        read = read.read_exact(&mut answer) => { read.unwrap(); }
    }
    assert_eq!(&answer, b"HTTP/1.1 413");
    host.stop().await;
}

#[tokio::test]
async fn a_client_that_has_said_everything_is_answered() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let body = json!({ "fields": { "name": "a" } }).to_string();
    for request in [format!("{}{body}", put(body.len())), put(0).replace("PUT", "GET")] {
        let mut stream = connect(&host).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let answer = until_closed(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"version\""), "{request}: {answer}");
    }
    host.stop().await;
}

#[tokio::test]
async fn heads_are_bounded() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let many = "x: y\r\n".repeat(65);
    let long = format!("x: {}\r\n", "y".repeat(20_000));
    for headers in [many, long] {
        let mut stream = connect(&host).await;
        stream.write_all(format!("GET /livez HTTP/1.1\r\n{headers}\r\n").as_bytes()).await.unwrap();
        let answer = until_closed(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
    host.stop().await;
}

#[tokio::test]
async fn a_shutdown_lets_a_request_in_flight_end() {
    let host = Host::start(Behind::Embedded, &[]).await;
    let mut stream = connect(&host).await;
    let body = json!({ "fields": { "name": "last" } }).to_string();
    stream.write_all(put(body.len()).as_bytes()).await.unwrap();
    // An answer on another connection: the server has had the chance to begin with the first one.
    host.client.get("/livez").await.expect(200);
    let stopping = tokio::spawn(host.stop());
    stream.write_all(body.as_bytes()).await.unwrap();
    let answer = until_closed(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"durability\":\"both\""), "{answer}");
    stopping.await.unwrap();
}
