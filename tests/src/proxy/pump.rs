//! One connection through the proxy: two directions, each a loop of read, fault, write.

use std::io::{self, ErrorKind};
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;

use super::Fault;

/// The most bytes that are read, and then delayed or passed, as one piece.
const PIECE: usize = 16 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Requests,
    Answers,
}

/// Lives until one end closes or a fault cuts it.
pub(super) async fn connection(client: TcpStream, target: u16, mut fault: watch::Receiver<Fault>) {
    let at_first = *fault.borrow_and_update();
    if at_first == Fault::Silent {
        let _ = until_changed(&mut fault, Fault::Silent).await;
        return reset(&client);
    }
    let server = match TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await {
        Ok(server) if at_first != Fault::Reset => server,
        _ => return reset(&client),
    };
    let (mut client, mut server) = (client, server);
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let seed = client.peer_addr().map_or(1, |peer| u64::from(peer.port()) | 1);
    let cut = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        tokio::select! {
            end = pass(from_client, to_server, Direction::Requests, seed, fault.clone()) => end.is_err(),
            end = pass(from_server, to_client, Direction::Answers, seed << 1, fault.clone()) => end.is_err(),
            () = cut_off(&mut fault) => true,
        }
    };
    if cut {
        reset(&client);
        reset(&server);
    }
}

/// Returns when the fault in force leaves no connection standing.
async fn cut_off(fault: &mut watch::Receiver<Fault>) {
    let cuts = |fault: &Fault| matches!(fault, Fault::Refuse | Fault::Reset);
    if fault.wait_for(cuts).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Passes one direction on. Ok when its sender has closed it.
async fn pass(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    direction: Direction,
    mut random: u64,
    mut fault: watch::Receiver<Fault>,
) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let length = from.read(&mut piece).await?;
        if length == 0 {
            return Ok(());
        }
        pass_piece(&piece[..length], &mut to, direction, &mut fault, &mut random).await?;
    }
}

async fn pass_piece(
    piece: &[u8],
    to: &mut WriteHalf<'_>,
    direction: Direction,
    fault: &mut watch::Receiver<Fault>,
    random: &mut u64,
) -> io::Result<()> {
    loop {
        let now = *fault.borrow_and_update();
        let held = match now {
            Fault::BlackHole | Fault::Silent => true,
            Fault::HoldRequests => direction == Direction::Requests,
            Fault::HoldAnswers => direction == Direction::Answers,
            _ => false,
        };
        if !held {
            return under(now, piece, to, random).await;
        }
        until_changed(fault, now).await?;
    }
}

/// What a fault that passes bytes does to them.
async fn under(fault: Fault, piece: &[u8], to: &mut WriteHalf<'_>, random: &mut u64) -> io::Result<()> {
    match fault {
        Fault::ResetSome(of_thousand) if next(random) % 1_000 < u64::from(of_thousand) => {
            return Err(ErrorKind::ConnectionReset.into());
        }
        Fault::Delay(time, jitter) => {
            let most = 2 * jitter.as_micros() as u64 + 1;
            let more = Duration::from_micros(next(random) % most);
            tokio::time::sleep((time + more).saturating_sub(jitter)).await;
        }
        Fault::Slice => {
            for few in piece.chunks(7) {
                to.write_all(few).await?;
                tokio::task::yield_now().await;
            }
            return Ok(());
        }
        _ => {}
    }
    to.write_all(piece).await
}

async fn until_changed(fault: &mut watch::Receiver<Fault>, from: Fault) -> io::Result<()> {
    let changed = fault.wait_for(|now| *now != from).await;
    changed.map(drop).map_err(|_| ErrorKind::BrokenPipe.into())
}

/// A step of xorshift64.
fn next(random: &mut u64) -> u64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    *random >> 16
}

/// Closing it then sends RST and not FIN.
fn reset(stream: &TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let size = std::mem::size_of::<libc::linger>() as libc::socklen_t;
    let value = (&raw const linger).cast();
    let fd = std::os::fd::AsRawFd::as_raw_fd(stream);
    // SAFETY: the descriptor is open while `stream` lives, and `value` points to `size` bytes.
    unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_LINGER, value, size) };
}
