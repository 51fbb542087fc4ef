//! A TCP proxy that fails on command, between one host and one store.
//!
//! The fault is switched while connections stand: what is on its way is delayed, held, cut or let through from
//! then on. A black hole holds bytes rather than losing them, because TCP repeats what was lost: when it
//! ends, what was sent meanwhile arrives late.

mod pump;

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// What a proxy does to the bytes that pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Pass,
    /// Nothing listens: new connections are refused, those that stand are reset.
    Refuse,
    /// Every connection is reset, new ones as soon as they are made.
    Reset,
    /// So many of a thousand pieces are not passed on: the connection is reset instead.
    ResetSome(u16),
    /// Requests are held; answers pass.
    HoldRequests,
    /// Requests pass; answers are held.
    HoldAnswers,
    /// Both are held.
    BlackHole,
    /// Each piece waits for this time, more or less by the second.
    Delay(Duration, Duration),
    /// Bytes pass a few at a time, each few in a packet of their own.
    Slice,
    /// New connections are accepted and never answered, not even later; those that stand are held.
    Silent,
}

/// One proxy on a port of its own. Ends when dropped.
pub struct Proxy {
    port: u16,
    fault: watch::Sender<Fault>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// A proxy to a port of 127.0.0.1, which need not be open yet.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start(target: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let (fault, seen) = watch::channel(Fault::Pass);
        let task = tokio::spawn(serve(listener, port, target, seen));
        Ok(Self { port, fault, task })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on this happens. Does not wait until connections have noticed.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    pub fn fault(&self) -> Fault {
        *self.fault.borrow()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, port: u16, target: u16, mut fault: watch::Receiver<Fault>) {
    let (mut listener, mut connections) = (Some(listener), JoinSet::new());
    loop {
        let now = *fault.borrow_and_update();
        match (now, &listener) {
            (Fault::Refuse, _) => listener = None,
            (_, None) => listener = rebind(port).await,
            _ => {}
        }
        tokio::select! {
            changed = fault.changed() => if changed.is_err() { return },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = accept(listener.as_ref()) => if let Ok(client) = accepted {
                connections.spawn(pump::connection(client, target, fault.clone()));
            }
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<TcpStream> {
    match listener {
        Some(listener) => Ok(listener.accept().await?.0),
        None => std::future::pending().await,
    }
}

/// Takes the port again. Another program may have it for a moment, as the end of an outgoing connection.
async fn rebind(port: u16) -> Option<TcpListener> {
    for _ in 0..200 {
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
            return Some(listener);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    None
}
