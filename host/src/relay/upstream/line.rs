//! A connection that can tell, when it ends instead of an answer, that nobody has read the request.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::Uri;
use hyper_rustls::MaybeHttpsStream;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep, timeout};
use tower::Service;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// How long after a request was sent a reset is taken for the answer to its bytes: they have been to the upstream and
/// back by then. Later ones may be anything, such as a firewall that has forgotten the connection.
const PROMPT: Duration = Duration::from_secs(1);
/// How often it is looked whether one has come.
const LOOK: Duration = Duration::from_millis(5);

/// What is known of a connection.
#[derive(Default)]
pub(super) struct Fate {
    requests: AtomicU64,
    unread: AtomicBool,
}

impl Fate {
    /// Whether its last request was one that no upstream can have begun to work on.
    ///
    /// A server that closes a connection which has been idle for too long may do so while a request is on its way.
    /// What arrives afterwards is refused by its kernel with a reset, since there is no process any more to read it.
    /// So an end that a reset follows is proof, soon after the request went out on a connection that was used before
    /// and with no byte of an answer; and so is a reset before the last byte has left. Sending it again then cannot
    /// make anybody pay twice. An end alone is no proof, nor is a reset alone: a server may read, and then do either.
    pub(super) fn is_unread(&self) -> bool {
        self.unread.load(Relaxed)
    }
}

/// The TCP connection that is under all layers.
pub(super) trait Socket {
    fn tcp(&self) -> &TcpStream;
}

impl Socket for TokioIo<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.inner()
    }
}

impl<S: Socket> Socket for MaybeHttpsStream<S> {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Http(stream) => stream.tcp(),
            Self::Https(stream) => stream.inner().get_ref().0.inner().tcp(),
        }
    }
}

/// Over all layers, so that a byte of an answer is one, and not TLS that says goodbye.
pub(super) struct Line<S> {
    stream: TokioIo<S>,
    fate: Arc<Fate>,
    /// HTTP/2 says itself which requests it has not taken, and carries many at a time.
    is_http1: bool,
    /// When the request went out of which no answer has come yet.
    asked: Option<Instant>,
    /// More was to be written than has left.
    is_short: bool,
    /// The end has come, and perhaps a reset comes after it.
    ending: Option<Pin<Box<Sleep>>>,
}

impl<S: Connection> Line<S> {
    fn new(stream: S) -> Self {
        let is_http1 = !stream.connected().is_negotiated_h2();
        let (stream, fate) = (TokioIo::new(stream), Arc::default());
        Self { stream, fate, is_http1, asked: None, is_short: false, ending: None }
    }
}

impl<S> Line<S> {
    fn sends(&mut self) {
        if self.asked.is_none() {
            self.asked = Some(Instant::now());
            self.fate.requests.fetch_add(1, Relaxed);
        }
    }

    /// Whether an end at this moment may be one that no upstream has read the request of.
    fn may_be_unread(&self) -> bool {
        let prompt = self.asked.is_some_and(|asked| asked.elapsed() < PROMPT);
        prompt && self.is_http1 && self.fate.requests.load(Relaxed) > 1
    }

    /// `proven`: whether a reset now means that the request was not read to its end.
    fn judge(&self, error: &io::Error, proven: bool) {
        let is_reset = matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe);
        if is_reset && proven && self.may_be_unread() {
            self.fate.unread.store(true, Relaxed);
        }
    }

    /// Of a write of this many bytes.
    fn wrote(&mut self, written: Poll<io::Result<usize>>, of: usize) -> Poll<io::Result<usize>> {
        self.is_short = !matches!(&written, Poll::Ready(Ok(written)) if *written == of);
        written.map(|written| written.inspect_err(|error| self.judge(error, true)))
    }
}

impl<S: Socket> Line<S> {
    /// Holds the end back until it is known. Nothing is sent meanwhile, so that a reset can only mean the request.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if let Ok(Some(error)) = self.stream.inner().tcp().take_error() {
                // A broken pipe is a reset after the end of TCP; TLS may have ended alone.
                self.judge(&error, error.kind() == io::ErrorKind::BrokenPipe);
                self.asked = None;
            }
            if !self.may_be_unread() {
                return Poll::Ready(Ok(()));
            }
            let next = self.ending.get_or_insert_with(|| Box::pin(sleep(LOOK)));
            ready!(next.as_mut().poll(cx));
            next.as_mut().reset(Instant::now() + LOOK);
        }
    }
}

impl<S: Socket + hyper::rt::Read + Unpin> AsyncRead for Line<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ending.is_some() {
            return self.poll_end(cx);
        }
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        match &read {
            Ok(()) if buf.filled().len() > before => self.asked = None,
            Ok(()) => return self.poll_end(cx),
            Err(error) => self.judge(error, self.is_short),
        }
        Poll::Ready(read)
    }
}

impl<S: hyper::rt::Write + Unpin> AsyncWrite for Line<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.sends();
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.wrote(written, buf.len())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.is_short = !matches!(flushed, Poll::Ready(Ok(())));
        flushed.map(|flushed| flushed.inspect_err(|error| self.judge(error, true)))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.sends();
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.wrote(written, bufs.iter().map(|buf| buf.len()).sum())
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl<S: Connection> Connection for Line<S> {
    fn connected(&self) -> Connected {
        self.stream.inner().connected().extra(self.fate.clone())
    }
}

/// Makes such connections.
#[derive(Clone)]
pub(super) struct Lines<C> {
    pub(super) connector: C,
    /// How long one may take: name, TCP, proxy and TLS together.
    pub(super) within: Duration,
}

impl<C> Service<Uri> for Lines<C>
where
    C: Service<Uri, Future: Send + 'static, Error: Into<Error>>,
    C::Response: Connection,
{
    type Response = TokioIo<Line<C::Response>>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.connector.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let connecting = timeout(self.within, self.connector.call(to));
        Box::pin(async move { Ok(TokioIo::new(Line::new(connecting.await?.map_err(Into::into)?))) })
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// A connection over which a request has been answered, and its other side.
    async fn used() -> (Line<TokioIo<TcpStream>>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut line, (mut upstream, _)) =
            (Line::new(TokioIo::new(stream)), listener.accept().await.unwrap());
        line.write_all(b"first").await.unwrap();
        upstream.read_exact(&mut [0; 5]).await.unwrap();
        upstream.write_all(b"answer").await.unwrap();
        line.read_exact(&mut [0; 6]).await.unwrap();
        (line, upstream)
    }

    #[tokio::test]
    async fn what_was_sent_to_a_connection_that_is_closed_already_was_read_by_nobody() {
        let (mut line, upstream) = used().await;
        drop(upstream);
        line.write_all(b"second").await.unwrap();
        assert_eq!(line.read(&mut [0; 16]).await.unwrap(), 0);
        assert!(line.fate.is_unread());
    }

    #[tokio::test]
    async fn what_an_upstream_resets_after_its_last_byte_may_have_been_read() {
        let (mut line, upstream) = used().await;
        line.write_all(b"second").await.unwrap();
        upstream.readable().await.unwrap();
        drop(upstream);
        assert!(line.read(&mut [0; 16]).await.is_err());
        assert!(!line.fate.is_unread());
    }

    #[tokio::test]
    async fn what_an_upstream_resets_before_its_last_byte_was_read_by_nobody() {
        let (mut line, upstream) = used().await;
        let mut long = Box::pin(async {
            let written = line.write_all(&vec![0; 24 << 20]).await;
            (line, written)
        });
        assert!(tokio::time::timeout(Duration::from_millis(200), &mut long).await.is_err());
        drop(upstream);
        let (line, written) = long.await;
        assert!(written.is_err() && line.fate.is_unread());
    }

    #[tokio::test]
    async fn what_an_upstream_has_read_before_it_closes_may_have_been_billed() {
        let (mut line, mut upstream) = used().await;
        line.write_all(b"second").await.unwrap();
        upstream.read_exact(&mut [0; 6]).await.unwrap();
        drop(upstream);
        assert_eq!(line.read(&mut [0; 16]).await.unwrap(), 0);
        assert!(!line.fate.is_unread());
    }

    #[tokio::test]
    async fn an_answer_that_has_begun_was_asked_for() {
        let (mut line, mut upstream) = used().await;
        line.write_all(b"second").await.unwrap();
        upstream.readable().await.unwrap();
        upstream.write_all(b"a").await.unwrap();
        line.read_exact(&mut [0; 1]).await.unwrap();
        drop(upstream);
        assert!(line.read(&mut [0; 16]).await.is_err());
        assert!(!line.fate.is_unread());
    }
}
