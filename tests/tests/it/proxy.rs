//! The proxy fails in the ways it is told to, and passes everything on otherwise.

use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use switchyard_tests::proxy::{Fault, Proxy};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Long enough for bytes that are not held.
const SOON: Duration = Duration::from_secs(10);
/// How long nothing must come for it to count as held.
const HELD: Duration = Duration::from_millis(100);

/// A server that sends back what it is sent.
async fn echo() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let port = listener.local_addr().expect("the port").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.into_split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    port
}

async fn proxy() -> (Proxy, TcpStream) {
    let proxy = Proxy::start(echo().await).await.expect("a proxy");
    let stream = connect(&proxy).await.expect("a connection");
    (proxy, stream)
}

async fn connect(proxy: &Proxy) -> std::io::Result<TcpStream> {
    TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).await
}

/// Sends a word and reads it back.
async fn ask(stream: &mut TcpStream, word: &[u8]) -> std::io::Result<Vec<u8>> {
    stream.write_all(word).await?;
    let mut answer = vec![0; word.len()];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

async fn asked(stream: &mut TcpStream, word: &[u8]) -> Vec<u8> {
    timeout(SOON, ask(stream, word)).await.expect("in time").expect("an answer")
}

/// The error by which the connection ends.
async fn end(stream: &mut TcpStream) -> ErrorKind {
    let mut byte = [0];
    let read = timeout(SOON, stream.read(&mut byte)).await.expect("in time");
    read.map_or_else(|error| error.kind(), |_| ErrorKind::UnexpectedEof)
}

#[tokio::test]
async fn bytes_pass_whole_in_each_way_that_passes_them() {
    let (proxy, mut stream) = proxy().await;
    let long: Vec<u8> = (0..100_000_u32).map(|n| n as u8).collect();
    for fault in [Fault::Pass, Fault::Slice, Fault::Delay(Duration::from_millis(2), Duration::from_millis(1))]
    {
        proxy.set(fault);
        let (mut from, mut to) = stream.split();
        let mut answer = vec![0; long.len()];
        let both = async { tokio::join!(to.write_all(&long), from.read_exact(&mut answer)) };
        let (sent, read) = timeout(SOON, both).await.expect("in time");
        sent.expect("sent");
        read.expect("read");
        assert!(answer == long, "{fault:?}");
    }
}

#[tokio::test]
async fn a_delay_holds_each_way_for_its_time() {
    let (proxy, mut stream) = proxy().await;
    proxy.set(Fault::Delay(Duration::from_millis(40), Duration::from_millis(10)));
    let began = Instant::now();
    assert_eq!(asked(&mut stream, b"a").await, b"a");
    assert!(began.elapsed() >= Duration::from_millis(60), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_refusing_proxy_resets_connections_and_takes_its_port_again() {
    let (proxy, mut stream) = proxy().await;
    assert_eq!(asked(&mut stream, b"a").await, b"a");
    proxy.set(Fault::Refuse);
    assert_eq!(end(&mut stream).await, ErrorKind::ConnectionReset);
    assert_eq!(connect(&proxy).await.expect_err("refused").kind(), ErrorKind::ConnectionRefused);
    proxy.set(Fault::Pass);
    let again = async {
        loop {
            if let Ok(stream) = connect(&proxy).await {
                return stream;
            }
            tokio::task::yield_now().await;
        }
    };
    let mut stream = timeout(SOON, again).await.expect("in time");
    assert_eq!(asked(&mut stream, b"b").await, b"b");
}

#[tokio::test]
async fn a_reset_is_a_reset_and_not_an_end() {
    let (proxy, mut stream) = proxy().await;
    assert_eq!(asked(&mut stream, b"a").await, b"a");
    proxy.set(Fault::Reset);
    assert_eq!(end(&mut stream).await, ErrorKind::ConnectionReset);
    proxy.set(Fault::ResetSome(1_000));
    let mut stream = connect(&proxy).await.expect("a connection");
    stream.write_all(b"a").await.expect("sent");
    assert_eq!(end(&mut stream).await, ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn what_a_black_hole_held_arrives_late() {
    for fault in [Fault::BlackHole, Fault::HoldRequests, Fault::HoldAnswers] {
        let (proxy, mut stream) = proxy().await;
        assert_eq!(asked(&mut stream, b"a").await, b"a");
        proxy.set(fault);
        stream.write_all(b"b").await.expect("sent");
        let mut byte = [0];
        assert!(timeout(HELD, stream.read(&mut byte)).await.is_err(), "{fault:?} holds nothing");
        proxy.set(Fault::Pass);
        timeout(SOON, stream.read_exact(&mut byte)).await.expect("in time").expect("the late answer");
        assert_eq!(&byte, b"b", "{fault:?}");
    }
}

#[tokio::test]
async fn a_silent_proxy_accepts_and_never_answers() {
    let (proxy, mut stream) = proxy().await;
    assert_eq!(asked(&mut stream, b"a").await, b"a");
    proxy.set(Fault::Silent);
    let mut new = connect(&proxy).await.expect("a connection");
    new.write_all(b"b").await.expect("sent");
    let mut byte = [0];
    assert!(timeout(HELD, new.read(&mut byte)).await.is_err());
    assert!(timeout(HELD, ask(&mut stream, b"c")).await.is_err());
    proxy.set(Fault::Pass);
    assert_eq!(end(&mut new).await, ErrorKind::ConnectionReset);
}
