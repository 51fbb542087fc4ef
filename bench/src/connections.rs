//! Kept connections that speak just enough HTTP/1.1.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

/// The longest answer, in bytes.
const ANSWER: usize = 64 << 10;

pub struct Connections(Vec<Mutex<TcpStream>>);

impl Connections {
    pub async fn open(addr: SocketAddr, count: usize) -> anyhow::Result<Self> {
        let mut connections = Vec::new();
        for _ in 0..count {
            let stream = TcpStream::connect(addr).await?;
            stream.set_nodelay(true)?;
            connections.push(Mutex::new(stream));
        }
        Ok(Self(connections))
    }

    /// One request, whole, on a connection that nobody else uses; true for a 200. The answer has a length, or comes in
    /// chunks none of which holds an end of chunks.
    pub async fn send(&self, n: u64, request: &[u8]) -> std::io::Result<bool> {
        let count = self.0.len();
        let mut stream = loop {
            let free = self.0.iter().cycle().skip(n as usize % count).take(count);
            match free.map(Mutex::try_lock).find_map(Result::ok) {
                Some(stream) => break stream,
                None => tokio::task::yield_now().await,
            }
        };
        stream.write_all(request).await?;
        let mut answer = Vec::with_capacity(8_192);
        while answer.len() < ANSWER {
            if stream.read_buf(&mut answer).await? == 0 {
                break;
            }
            let Some(head) = answer.windows(4).position(|end| end == b"\r\n\r\n") else { continue };
            let lines = String::from_utf8_lossy(&answer[..head]).to_ascii_lowercase();
            let says = |name: &str| lines.lines().find_map(|line| line.strip_prefix(name));
            let is_whole = match says("transfer-encoding: ") {
                Some(_) => answer.ends_with(b"\r\n0\r\n\r\n"),
                None => {
                    let length = says("content-length: ").and_then(|n| n.parse().ok()).unwrap_or(0);
                    answer.len() - head - 4 == length
                }
            };
            if is_whole {
                return Ok(lines.starts_with("http/1.1 200"));
            }
        }
        Err(std::io::ErrorKind::UnexpectedEof.into())
    }
}
