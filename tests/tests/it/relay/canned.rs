//! An upstream that reads one request a connection and writes exactly what it is given.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

/// One that is running, and what was sent to it.
pub struct Canned {
    addr: SocketAddr,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
    _serving: JoinSet<()>,
}

impl Canned {
    /// Answers every request with these bytes.
    pub async fn answering(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes: Arc<Vec<u8>> = Arc::new(bytes.into());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let seen: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let kept = seen.clone();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let request = read(&mut stream).await;
                kept.lock().await.push(request);
                // The other side may have gone.
                let _ = stream.write_all(&bytes).await;
            }
        });
        Self { addr, seen, _serving: serving }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The requests, head and body, as they came.
    pub async fn seen(&self) -> Vec<Vec<u8>> {
        self.seen.lock().await.clone()
    }
}

/// A whole request with a `content-length`.
async fn read(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut piece = [0; 4_096];
    loop {
        let head = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        if let Some(head) = head {
            let text = String::from_utf8_lossy(&bytes[..head]).to_lowercase();
            let length =
                text.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
            if bytes.len() >= head + 4 + length.unwrap_or(0) {
                return bytes;
            }
        }
        match stream.read(&mut piece).await {
            Ok(read) if read > 0 => bytes.extend_from_slice(&piece[..read]),
            _ => return bytes,
        }
    }
}
