//! A real Redis.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::process::Process;
use super::watch::Watch;
use super::{Setup, program};

/// A `redis-server` of its own, with an append-only file written through once a second.
pub struct Redis {
    process: Process,
    /// Removed after the process has ended, because fields are dropped in order.
    folder: TempDir,
}

/// A copy of a server's data.
pub struct Kept(TempDir);

impl Redis {
    /// Starts one and waits until it answers.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts one with further arguments, such as `["--maxmemory", "64mb"]`.
    pub fn start_with(arguments: &[&str]) -> Self {
        Self::start_as(&Setup::with_arguments(arguments))
    }

    pub fn start_as(setup: &Setup) -> Self {
        let server = program("redis-server", "redis-server");
        let folder = setup.folder("switchyard-redis-");
        let command = command(server, folder.path().to_owned(), setup.clone());
        let watch = Watch::over(folder.path());
        Self { process: Process::start(folder.path(), watch, command, answers), folder }
    }

    /// Where it keeps its append-only file.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join(DATA)
    }

    /// Whether its process runs, be it stopped.
    pub fn runs(&mut self) -> bool {
        self.process.runs()
    }

    /// `redis://127.0.0.1:PORT/0`
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port())
    }

    pub fn port(&self) -> u16 {
        self.process.port()
    }

    /// Ends it in good order: what it accepted is on disk.
    pub fn stop(&mut self) {
        self.process.end(libc::SIGTERM);
    }

    /// Ends it as a crash does.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Freezes it: connections stay open and nothing answers.
    pub fn pause(&mut self) {
        self.process.pause();
    }

    /// Ends a pause.
    pub fn resume(&mut self) {
        self.process.resume();
    }

    /// Starts the ended one again, on the same port and data.
    pub fn start_again(&mut self) {
        self.process.start_again();
    }

    /// A copy of what the ended server has on disk.
    pub fn keep(&self) -> Kept {
        let kept = tempfile::Builder::new().prefix("switchyard-redis-").tempdir().expect("a folder");
        copy(&self.data(), &kept.path().join(DATA));
        Kept(kept)
    }

    /// Puts back what was kept in place of what the ended server has; nothing at all without.
    pub fn put_back(&self, kept: Option<&Kept>) {
        std::fs::remove_dir_all(self.data()).expect("removing the data");
        match kept {
            Some(Kept(folder)) => copy(&folder.path().join(DATA), &self.data()),
            None => std::fs::create_dir(self.data()).expect("an empty folder"),
        }
    }

    /// Ends it in good order, if it still runs, and starts it again on the same port and data.
    pub fn restart(&mut self) {
        self.stop();
        self.process.start_again();
    }
}

/// The folder of the append-only file, below the server's own.
const DATA: &str = "appendonlydir";

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-R").arg(from).arg(to).status();
    assert!(copied.is_ok_and(|status| status.success()), "copying {} failed", from.display());
}

fn command(server: PathBuf, folder: PathBuf, setup: Setup) -> impl Fn(u16) -> Command {
    move |port| {
        let mut command = Command::new(&server);
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
        command.args(["--appendonly", "yes", "--appendfsync", "everysec", "--dir"]).arg(&folder);
        setup.apply(&mut command);
        command
    }
}

/// Whether it has loaded its data and takes commands. A server that asks for a password answers, too.
fn answers(port: u16) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"PING\r\n")?;
        let mut answer = [0; 16];
        let length = stream.read(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
    };
    ask().is_ok_and(|answer| answer.starts_with("+PONG") || answer.starts_with("-NOAUTH"))
}
